import errno
import io
import os
import re
import subprocess
import sys
import warnings

import numpy as np
import pytest

from ase_deepdensity.cli import info
from ase_deepdensity.cli.main import COMMANDS, main, one_line


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
    _, description, *_ = capsys.readouterr().out.split('\n\n')
    text = ' '.join(description.split())
    assert text.startswith(f'{COMMANDS[name][1]}.')
    assert re.fullmatch(r'([A-Z"][^.]*(\.\w[^.]*)*\.( |$))+', text), 'whole sentences'


def test_unknown_command(capsys):
    with pytest.raises(SystemExit) as stop:
        main(['fly'])
    assert stop.value.code == 2
    assert "invalid choice: 'fly'" in capsys.readouterr().err


@pytest.mark.parametrize(
    ('arguments', 'meant'),
    [
        (['preditc', 'a.xyz', 'model'], 'predict'),
        (['--versoin'], '--version'),
        (['predict', 'a.xyz', 'model', '--outt', 'a.cube'], '--out'),
        (['predict', 'a.xyz', 'model', '--quantity', 'al-electron'], 'all-electron'),
        (['sample', 'watr', 'a.xyz'], 'water'),
        (['sample', 'metal', 'a.xyz', '--temprature', '300'], '--temperature'),
    ],
)
def test_words_that_cannot_be_parsed(arguments, meant, capsys):
    """One line that says what was meant."""
    with pytest.raises(SystemExit) as stop:
        main(arguments)
    (line,) = capsys.readouterr().err.splitlines()
    assert stop.value.code == 2 and f'did you mean {meant}?' in line and '--help")' in line


def test_alone_it_prints_the_help(capsys):
    assert main([]) == 0
    alone = capsys.readouterr()
    with pytest.raises(SystemExit):
        main(['--help'])
    assert alone == capsys.readouterr() and all(name in alone.out for name in COMMANDS)


def mistakes():
    """Errors that this program does not raise on purpose."""
    yield ValueError, lambda: np.zeros(2) + np.zeros(3)
    yield ValueError, lambda: list(zip([1], [], strict=True))
    yield ValueError, lambda: int('x')
    yield np.linalg.LinAlgError, lambda: np.linalg.inv(np.zeros((2, 2)))
    yield KeyError, lambda: {}['x']


@pytest.mark.parametrize(('kind', 'work'), list(mistakes()))
def test_mistakes_of_the_program_keep_their_traceback(kind, work, monkeypatch):
    monkeypatch.setattr(info, 'run', lambda _: work())
    with pytest.raises(kind):
        main(['info'])


@pytest.mark.parametrize(
    ('error', 'line'),
    [
        (OSError(errno.ENOSPC, 'No space left on device', 'a.cube'), 'a.cube: No space left on device'),
        (OSError('a strange disk'), 'a strange disk'),
        (MemoryError('3.5 PiB'), 'not enough memory: 3.5 PiB'),
        (ImportError('no\nwine'), 'no wine'),
        (MemoryError(), 'not enough memory'),
    ],
)
def test_troubles_of_the_system_are_one_line(error, line, monkeypatch, capsys):
    def run(_):
        raise error

    monkeypatch.setattr(info, 'run', run)
    assert main(['info']) == 2
    assert capsys.readouterr().err == f'deepdensity: error: {line}\n' and one_line(error) == line


def test_a_reader_that_goes_away_is_no_error():
    read, write = os.pipe()
    os.close(read)
    code = 'import sys; from ase_deepdensity.cli.main import main; sys.exit(main(["info"]))'
    command = [sys.executable, '-c', f'import sys; sys.path[:] = {sys.path!r}; {code}']
    result = subprocess.run(command, stdout=write, stderr=subprocess.PIPE, text=True)
    os.close(write)
    assert (result.returncode, result.stderr) == (1, '')


def test_letters_that_a_terminal_cannot_show(monkeypatch):
    out, err = (io.TextIOWrapper(io.BytesIO(), 'ascii') for _ in range(2))
    monkeypatch.setattr(sys, 'stdout', out)
    monkeypatch.setattr(sys, 'stderr', err)
    assert main(['info', 'ñ']) == 2 and main(['info', os.fsdecode(b'\xff')]) == 2
    err.seek(0)
    first, second = err.read().splitlines()
    assert "no model '\\xf1'" in first and "no model '\\udcff'" in second


def test_each_warning_is_one_line_and_comes_once(monkeypatch, capsys):
    def run(_):
        with warnings.catch_warnings():
            warnings.simplefilter('always')
            for text in 'one\nthing', 'another', 'one\nthing':
                warnings.warn(text, stacklevel=1)

    monkeypatch.setattr(info, 'run', run)
    assert main(['info']) == 0
    assert capsys.readouterr().err == 'warning: one thing\nwarning: another\n'


@pytest.mark.parametrize(
    'arguments',
    [['info'], ['info', 'water-pbe-dpz'], ['predict', 'a.xyz', 'water-pbe-dpz'], ['seed', 'a.xyz', 'water-pbe-dpz']],
)
def test_names_of_models_need_no_torch(arguments):
    code = (
        'from ase_deepdensity.cli.main import main\n'
        f'print(main({arguments!r}), sorted({{"torch", "gpaw"}} & sys.modules.keys()))'
    )
    command = [sys.executable, '-c', f'import sys; sys.path[:] = {sys.path!r}\n{code}']
    result = subprocess.run(command, capture_output=True, text=True)
    wrong = 'water-pbe-dpz' in arguments
    assert result.stdout.splitlines()[-1] == f'{2 if wrong else 0} []', result.stderr
    assert ('did you mean water-pbe-dzp' in result.stderr) == wrong


def test_user_errors_are_one_line(capsys):
    assert main(['generate', 'nothing.xyz', 'out', '--level', 'dzp']) == 2
    assert capsys.readouterr().err == 'deepdensity: error: nothing.xyz: no such file\n'
    assert main(['generate', 'nothing.xyz', 'out', '--level', 'dzq']) == 2
    assert capsys.readouterr().err.startswith(
        "deepdensity: error: no level of theory 'dzq': use pw400, dzp, general-pw400, ks1d"
    )


def test_traceback_of_a_kind_of_sample(tmp_path):
    with pytest.raises(ValueError, match="not 'Si'"):
        main(['sample', 'metal', f'{tmp_path}/a.xyz', '--symbol', 'Si', '--traceback'])


@pytest.mark.parametrize('where', ['before', 'after'])
def test_traceback_on_request(where):
    arguments = ['generate', 'nothing.xyz', 'out', '--level', 'dzp']
    with pytest.raises(ValueError, match='no such file'):
        main(['--traceback', *arguments] if where == 'before' else [*arguments, '--traceback'])
