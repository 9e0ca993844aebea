"""A calculator that learns what its calculations end with."""

from __future__ import annotations

import shutil

import numpy as np
import pytest
from gpaw import KohnShamConvergenceError

from ase_deepdensity import OnePassGPAW, SeededGPAW
from ase_deepdensity.model import DensityModel
from ase_deepdensity.predict import Predictor
from ase_deepdensity.scf import learning
from ase_deepdensity.training.learn import LearnError
from tests.scf.conftest import DZP
from tests.scf.test_mpi import figures
from tests.tolerances import SAME_ENERGY

pytestmark = pytest.mark.filterwarnings('ignore::ase_deepdensity.checks.UnfamiliarWarning')


@pytest.fixture
def no_budget(monkeypatch):
    """Learn every state, however long it takes."""
    monkeypatch.setattr(learning, 'SHARE', np.inf)


def path(atoms, number):
    """Geometries one after the other."""
    for step in range(number):
        yield step
        atoms.rattle(0.02, seed=step)


def test_the_next_start_is_better(tiny_model, small_water, tmp_path, no_budget):
    """The prediction alone, so that it shows what the model has learned."""
    residuals, energies = {}, {}
    for learn in False, True:
        atoms = small_water.copy()
        atoms.calc = SeededGPAW(tiny_model, txt=tmp_path / f'{learn}.txt', learn=learn, carry=False)
        found = [(atoms.get_potential_energy(), atoms.calc.seed_report.residual) for _ in path(atoms, 2)]
        energies[learn], residuals[learn] = np.transpose(found)
    assert energies[True] == pytest.approx(energies[False], abs=SAME_ENERGY)
    assert residuals[True][0] == residuals[False][0]
    assert (residuals[True][1:] < 0.6 * residuals[False][1:]).all(), residuals
    assert (tmp_path / 'True.txt').read_text().count('Learning: error of ñ') == 2
    learned = atoms.calc.learned
    assert [step.changed for step in learned.steps] == [True] * 2
    assert learned.steps[1].before < 0.5 * learned.steps[1].begin
    learned.save(tmp_path / 'mine.safetensors')
    mine = DensityModel.load(tmp_path / 'mine.safetensors')
    prediction = Predictor(mine).predict(atoms)
    assert (prediction.nt_sR == Predictor(learned.model).predict(atoms).nt_sR).all()
    assert 'learned' not in tiny_model.card


def test_the_correction_is_that_to_what_the_model_says_now(tiny_model, small_water, no_budget):
    """So that a geometry that moves by next to nothing starts from what was converged."""
    atoms = small_water.copy()
    atoms.calc = SeededGPAW(tiny_model, txt=None, learn=True)
    atoms.get_potential_energy()
    atoms.positions += 1e-5
    atoms.get_potential_energy()
    assert atoms.calc.seed_report.residual < 1e-4


def test_other_structures_start_from_what_was_learned(tiny_model, small_water, no_budget):
    calc = SeededGPAW(tiny_model, txt=None, learn=True)
    atoms = small_water.copy()
    atoms.calc = calc
    atoms.get_potential_energy()
    first = calc.seed_report.residual
    atoms.set_cell(1.02 * atoms.cell.array, scale_atoms=True)
    atoms.get_potential_energy()
    assert calc.seed_report.residual < 0.6 * first
    assert len(calc.learned.steps) == 2


def test_within_its_share_of_the_time(tiny_model, small_water, monkeypatch):
    monkeypatch.setattr(learning, 'SHARE', 0.0)
    atoms = small_water.copy()
    atoms.calc = SeededGPAW(tiny_model, txt=None, learn=True)
    for _ in path(atoms, 2):
        atoms.get_potential_energy()
    assert len(atoms.calc.learned.steps) == 1, 'the first one is learned, and nothing more'


def test_bad_states_are_refused(tiny_model, small_water, oracle, tmp_path):
    calc = SeededGPAW(tiny_model, txt=tmp_path / 'log.txt', learn=True, **DZP | {'h': 0.25})
    calc.get_potential_energy(small_water)
    calc.log.fd.flush()
    assert (
        'the state is refused: AdaptError: the state of H2O is of another level' in (tmp_path / 'log.txt').read_text()
    )
    assert calc.seed.model is tiny_model
    calc = SeededGPAW(tiny_model, txt=None, learn=True, **DZP | {'maxiter': 2})
    with pytest.raises(KohnShamConvergenceError):
        calc.get_potential_energy(small_water)
    with pytest.raises(LearnError, match='no calculation has converged yet'):
        calc.learned.save(tmp_path / 'mine.safetensors')
    with pytest.raises(LearnError, match='does not learn'):
        SeededGPAW(tiny_model, txt=None).learned.save(tmp_path / 'mine.safetensors')
    with pytest.raises(ValueError, match='learn=True needs a model, not the given state'):
        SeededGPAW(oracle, txt=None, learn=True, **DZP)
    assert not (tmp_path / 'mine.safetensors').exists()


def test_one_pass_learns_from_cycles_only(tiny_model, small_water, no_budget):
    calc = OnePassGPAW(tiny_model, txt=None, until={}, learn=True)
    with pytest.warns(UserWarning, match='one pass at the model tiny'):
        calc.get_potential_energy(small_water)
    assert not calc.report.went_on
    with pytest.raises(LearnError, match='no calculation has converged yet'):
        _ = calc.learned.steps
    calc = OnePassGPAW(tiny_model, txt=None, until={'residual': 1e-3}, learn=True)
    calc.get_potential_energy(small_water)
    assert calc.report.went_on and len(calc.learned.steps) == 1


SCRIPT = """
import json, sys, warnings
warnings.simplefilter('ignore')
from ase_deepdensity.codes.gpaw.mpi import enable_mpi
enable_mpi()
from gpaw.mpi import world
from ase_deepdensity import DensityModel, SeededGPAW
from tests.tiny import water_box
model, parallel = sys.argv[1], json.loads(sys.argv[2])
level = {'mode': 'lcao', 'basis': 'dzp', 'h': 0.2, 'xc': 'PBE', 'parallel': parallel}
atoms = water_box((1, 1, 1), seed=3)
atoms.calc = SeededGPAW(model, txt=None, learn=True, **level)
figures = [atoms.get_potential_energy(), atoms.calc.seed_report.residual, atoms.calc.learned.steps[-1].after]
atoms.calc.learned.save('mine.safetensors')
weights = DensityModel.load('mine.safetensors').network.state_dict()
mine = atoms.calc.seed.model.network.state_dict()
assert all((weights[name] == mine[name]).all() for name in weights), 'not the same on all ranks'
if world.rank == 0:
    print(json.dumps([world.size, *figures]))
"""


@pytest.mark.skipif(shutil.which('mpiexec') is None, reason='mpiexec is not installed')
def test_the_same_on_all_ranks(tiny_file, small_water, tmp_path):
    calc = SeededGPAW(tiny_file, txt=None, learn=True)
    serial = [calc.get_potential_energy(small_water), calc.seed_report.residual, calc.learned.steps[-1].after]
    assert figures(2, str(tiny_file), {'domain': 2}, tmp_path, SCRIPT) == pytest.approx(serial, rel=1e-3)
