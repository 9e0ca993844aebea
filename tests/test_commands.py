"""Commands of the pages run as they stand there, in one folder and in the order of the page."""

import argparse
import importlib.util
import os
import re
import runpy
import shutil
import sys
import tomllib
import warnings
from pathlib import Path

import pytest
from ase.cli.main import main as ase

from ase_deepdensity.cli.main import COMMANDS, _parser, main
from ase_deepdensity.sampling.perturb import perturbed
from tests.conftest import FAST, _run, water_molecule
from tests.pages import PAGES, ROOT, Block, blocks_of, commands_of

RUN = [page for page in PAGES if any(block.reason is None for block in blocks_of(page))]
NOT_RUN = [page for page in PAGES if any(block.reason for block in blocks_of(page))]
OF_THE_READER = {Path('docs/howto.md'): ['a.gpw', 'b.gpw', 'runs/c.gpw']}
"""Files that a page takes for granted."""


pytestmark = pytest.mark.filterwarnings('ignore::ase_deepdensity.checks.UnfamiliarWarning')


class ParsedError(Exception):
    """The arguments of a script are what it takes."""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Where the commands of a page run: with the tutorials, and the scripts of the benchmarks."""
    monkeypatch.chdir(tmp_path)
    shutil.copytree(ROOT / 'docs' / 'benchmarks', tmp_path / 'docs' / 'benchmarks')
    shutil.copytree(ROOT / 'tutorials', tmp_path / 'tutorials', ignore=shutil.ignore_patterns('*.ipynb'))
    return tmp_path


def write_file_of_the_reader(path: Path, seed: int) -> None:
    path.parent.mkdir(exist_ok=True)
    atoms = next(perturbed([water_molecule()], seed=seed))
    calc = _run(atoms, **FAST)
    atoms.get_forces()
    calc.write(path)


@pytest.mark.parametrize('page', RUN, ids=str)
def test_commands_run(page, folder):
    for seed, name in enumerate(OF_THE_READER.get(page, ())):
        write_file_of_the_reader(folder / name, seed)
    for block in blocks_of(page):
        if block.reason is None:
            for command in commands_of(block, folder):
                assert run(*command) in (0, None), f'{block}: {" ".join(command)}'


def run(program: str, *arguments: str) -> int | None:
    if program == 'deepdensity':
        return main(arguments)
    if program == 'ase':
        return ase(args=list(arguments))
    if program == 'python' and arguments[0] == '-c':
        exec(arguments[1], {'__name__': '__main__'})
        return 0
    return check(program, *arguments)


@pytest.mark.parametrize('page', NOT_RUN, ids=str)
def test_commands_that_are_not_run_have_the_arguments_that_programs_take(page, folder, monkeypatch):
    for block in blocks_of(page):
        if block.reason:
            for command in commands_of(block, folder):
                try:
                    check(*command, monkeypatch=monkeypatch)
                except SystemExit as error:
                    pytest.fail(f'{block}: {" ".join(command)}: {error}')


def check(program: str, *arguments: str, monkeypatch: pytest.MonkeyPatch | None = None) -> None:
    """Is it a command line that the program takes?  Nothing is done."""
    if program == 'deepdensity':
        assert arguments[0] in COMMANDS
        _parser(arguments).parse_args(arguments)
    elif program in ('pip', 'install.sh'):
        check_extras(arguments)
    elif program == 'python' and arguments[0] == '-c':
        compile(arguments[1], 'a page', 'exec')
    elif program == 'python' and arguments[0] == '-m':
        assert importlib.util.find_spec(arguments[1]), arguments[1]
    elif program == 'python':
        check_script(Path(arguments[0]), arguments[1:], monkeypatch)
    elif program == 'torchrun':
        module = arguments.index('-m')
        assert arguments[module + 1] == 'ase_deepdensity.cli.main'
        check('deepdensity', *arguments[module + 2 :])
    elif program == 'mpiexec':
        assert arguments[0] == '-n' and arguments[1].isdigit()
        check(*arguments[2:])
    elif program in ('ase', 'pytest', 'ruff', 'mypy'):
        assert shutil.which(program, path=f'{Path(sys.executable).parent}{os.pathsep}{os.environ["PATH"]}'), program
    else:
        assert program in ('cat', 'gunzip', 'sed'), program


def check_extras(arguments: tuple[str, ...]) -> None:
    """What is between brackets are extras of the package."""
    extras = tomllib.loads((ROOT / 'pyproject.toml').read_text())['project']['optional-dependencies']
    for names in re.findall(r'^(?:\.|ase_deepdensity)\[(.*)\]$', '\n'.join(arguments), re.MULTILINE):
        assert set(names.split(',')) <= set(extras)


def check_script(script: Path, arguments: tuple[str, ...], monkeypatch: pytest.MonkeyPatch | None) -> None:
    """Its parser takes the arguments; of one without a parser, that it is there."""
    assert (ROOT / script).is_file(), script
    code = (ROOT / script).read_text()
    compile(code, str(script), 'exec')
    if 'argparse' not in code or monkeypatch is None:
        return
    parse = argparse.ArgumentParser.parse_args

    def parse_and_stop(parser: argparse.ArgumentParser) -> None:
        parse(parser, arguments)
        raise ParsedError

    with monkeypatch.context() as patch, warnings.catch_warnings():
        warnings.simplefilter('ignore')
        patch.setattr(argparse.ArgumentParser, 'parse_args', parse_and_stop)
        patch.setattr(sys, 'path', [str(ROOT / script.parent), *sys.path])
        with pytest.raises(ParsedError):
            runpy.run_path(str(ROOT / script), run_name='__main__')


def test_what_is_not_run_says_why():
    for page in PAGES:
        for block in blocks_of(page):
            assert isinstance(block, Block) and (block.reason is None or len(block.reason.split()) > 1), str(block)
