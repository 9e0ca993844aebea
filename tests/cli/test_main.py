import subprocess
import sys

import pytest

from ase_deepdensity.cli.main import COMMANDS, main


def test_help_lists_the_commands_and_loads_nothing_heavy():
    code = (
        'import sys; from ase_deepdensity.cli.main import main\n'
        'try: main(["--help"])\n'
        'finally: print(sorted({"torch", "gpaw", "ase", "numpy"} & sys.modules.keys()))'
    )
    result = subprocess.run(
        [sys.executable, '-c', f'import sys; sys.path[:] = {sys.path!r}\n{code}'], capture_output=True, text=True
    )
    assert result.stdout.splitlines()[-1] == '[]', result.stdout + result.stderr
    assert all(name in result.stdout for name in COMMANDS)


@pytest.mark.parametrize('name', COMMANDS)
def test_each_command_has_help(name, capsys):
    with pytest.raises(SystemExit) as stop:
        main([name, '--help'])
    assert stop.value.code == 0
    assert COMMANDS[name][1] in ' '.join(capsys.readouterr().out.split())


def test_unknown_command(capsys):
    with pytest.raises(SystemExit) as stop:
        main(['fly'])
    assert stop.value.code == 2
    assert "invalid choice: 'fly'" in capsys.readouterr().err


def test_user_errors_are_one_line(capsys):
    assert main(['generate', 'nothing.xyz', 'out', '--level', 'dzp']) == 2
    assert capsys.readouterr().err == 'deepdensity: error: nothing.xyz: no such file\n'
    assert main(['generate', 'nothing.xyz', 'out', '--level', 'dzq']) == 2
    assert capsys.readouterr().err.startswith("deepdensity: error: no level of theory 'dzq': use pw400, dzp, ks1d")


@pytest.mark.parametrize('where', ['before', 'after'])
def test_traceback_on_request(where):
    arguments = ['generate', 'nothing.xyz', 'out', '--level', 'dzp']
    with pytest.raises(ValueError, match='no such file'):
        main(['--traceback', *arguments] if where == 'before' else [*arguments, '--traceback'])
