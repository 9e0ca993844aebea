"""GPAW is an extra: who may import it, and what others say where it is missing."""

import ast
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import ase_deepdensity
from ase_deepdensity.cli.main import main
from ase_deepdensity.codes.gpaw.require import MissingGPAWError, require_gpaw
from tests.conftest import water_molecule

PACKAGE = Path(ase_deepdensity.__file__).parent
MAY_IMPORT_GPAW = 'codes/gpaw/', 'scf/'


def imported(tree: ast.AST):
    """Names of modules that a module imports when it runs: not for its annotations alone."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.If) and ast.unparse(node.test) == 'TYPE_CHECKING':
            continue
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and not node.level:
            yield str(node.module)
        yield from imported(node)


def test_only_its_own_rooms_import_gpaw():
    importing = {
        path.relative_to(PACKAGE).as_posix()
        for path in PACKAGE.rglob('*.py')
        if {name.split('.')[0] for name in imported(ast.parse(path.read_text()))} & {'gpaw', '_gpaw'}
    }
    assert 'codes/gpaw/seams.py' in importing, 'the search finds what there is'
    assert [name for name in sorted(importing) if not name.startswith(MAY_IMPORT_GPAW)] == []


@pytest.fixture
def no_gpaw(monkeypatch):
    monkeypatch.setattr('ase_deepdensity.codes.gpaw.require.find_spec', lambda name: None)


def test_message(no_gpaw):
    with pytest.raises(MissingGPAWError, match=r'^tea needs GPAW, .*: pip install "ase_deepdensity\[gpaw\]"$'):
        require_gpaw('tea')


@pytest.mark.parametrize(
    'command', ['seed water.xyz water-pbe-dzp', 'generate water.xyz out --level pw400'], ids=['seed', 'generate']
)
def test_commands_say_so_in_one_line(command, no_gpaw, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    water_molecule().write('water.xyz')
    assert main(command.split()) == 2
    error = capsys.readouterr().err
    assert error.count('\n') == 1 and 'needs GPAW' in error and '[gpaw]' in error


def run_without_gpaw(code: str, folder: Path | None = None) -> subprocess.CompletedProcess[str]:
    """Python in which GPAW cannot be imported."""
    code = f"import sys; sys.modules['gpaw'] = None\n{code}"
    environment = os.environ | {'PYTHONPATH': os.pathsep.join([str(PACKAGE.parent), *sys.path])}
    command = [sys.executable, '-W', 'ignore', '-c', code]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)


PREDICT = """
from ase_deepdensity.cli.main import main
assert main(['predict', 'water.xyz', 'model.safetensors', '--out', 'water.cube', '--extrapolate']) == 0
from ase.io import read
from ase_deepdensity import DeepDensity
from ase_deepdensity.analysis.potential import electrostatic_potential
state = DeepDensity('model.safetensors', extrapolate=True).predict(read('water.xyz'))
print(state.number_of_electrons(), electrostatic_potential(state).max())
"""


def test_predicting_works_without(tmp_path, tiny_file, water):
    """The command, the dipole moment, the pseudo density and the electrostatic potential."""
    shutil.copy(tiny_file, tmp_path / 'model.safetensors')
    water.write(tmp_path / 'water.xyz')
    result = run_without_gpaw(PREDICT, tmp_path)
    assert result.returncode == 0, result.stderr
    assert (tmp_path / 'water.cube').stat().st_size > 1e5
    electrons, highest = map(float, result.stdout.splitlines()[-1].split())
    assert electrons == pytest.approx(64) and highest > 1


CHAINS = """
from ase_deepdensity.cli.main import main
assert main('sample chain --kind insulator --atoms 4 --number 2 chains.xyz'.split()) == 0
assert main('generate chains.xyz chains --level ks1d --quiet'.split()) == 0
"""


def test_chains_work_without(tmp_path):
    result = run_without_gpaw(CHAINS, tmp_path)
    assert result.returncode == 0, result.stderr
    assert '2 done' in result.stdout


@pytest.mark.parametrize('name', ['SeededGPAW', 'OnePassGPAW'])
def test_calculators_say_so(name):
    result = run_without_gpaw(f'from ase_deepdensity import {name}')
    assert 'MissingGPAWError: starting GPAW from a prediction needs GPAW' in result.stderr
