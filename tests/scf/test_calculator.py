"""SeededGPAW: the same result as GPAW's, from another start."""

from __future__ import annotations

import numpy as np
import pytest
from ase.build import bulk
from gpaw.new.ase_interface import GPAW

from ase_deepdensity import SeededGPAW
from ase_deepdensity.checks import PredictionError
from ase_deepdensity.level import Level, LevelError
from ase_deepdensity.predict import Predictor
from ase_deepdensity.scf.compatible import LevelWarning
from ase_deepdensity.scf.protocol import Protocol
from ase_deepdensity.scf.seed import ModelSeed, StateSeed
from ase_deepdensity.state import PAWDensity
from tests.scf.conftest import DZP
from tests.tiny import water_box
from tests.tolerances import SAME_ENERGY

pytestmark = pytest.mark.filterwarnings('ignore::ase_deepdensity.checks.UnfamiliarWarning')


def iterations(calc, atoms):
    """Energy, eV, and iterations of a calculation of these atoms."""
    atoms = atoms.copy()
    atoms.calc = calc
    return atoms.get_potential_energy(), calc.get_number_of_iterations()


def test_converged_state_is_recognised(small_water, converged, oracle, tmp_path):
    calc = SeededGPAW(oracle, txt=tmp_path / 'log.txt', **DZP)
    energy, niter = iterations(calc, small_water)
    assert energy == pytest.approx(converged.dft.results['energy'] * 27.211386024367243, abs=SAME_ENERGY)
    assert niter == 3 < converged.get_number_of_iterations()  # as many as GPAW's energy criterion needs
    assert calc.seed_report.accepted and calc.seed_report.residual < 1e-4
    text = (tmp_path / 'log.txt').read_text()
    assert 'Seed: ñ and D of the given state' in text and 'seed accepted: residual' in text


def test_model_starts_it(tiny_model, small_water, converged):
    calc = SeededGPAW(tiny_model, txt=None)
    energy, _ = iterations(calc, small_water)
    assert energy == pytest.approx(converged.get_potential_energy(), abs=SAME_ENERGY)
    assert calc.seed_report.name == 'model tiny' and calc.seed_report.seconds > 0


def test_kpoints_are_told_to_models_that_ask(tiny_model, tiny_metal, small_water):
    kpts = {'kpts': (2, 1, 1)}
    with pytest.raises(LevelError, match='k-points of these atoms: 1 .* against 2'):
        SeededGPAW(tiny_model, txt=None, **DZP, **kpts).create_new_calculation(small_water)
    calc = SeededGPAW(tiny_metal, txt=None, **DZP, **kpts)
    calc.create_new_calculation(small_water)
    grid = calc.seed.predictor.grid(small_water)
    nt_R, at_gamma_R = (seed.evaluate(small_water, grid)[0] for seed in (calc.seed, ModelSeed(tiny_metal)))
    expected_R = Predictor(tiny_metal, level=Level({**DZP, **kpts})).predict(small_water, grid).nt_sR
    scale = expected_R.sum() / nt_R.sum()
    np.testing.assert_allclose(scale * nt_R, expected_R, atol=1e-6)
    assert abs(scale * at_gamma_R - expected_R).max() > 1e-4


POISONS = {
    'scaled matrices': lambda good: good.new(D_asii=[1.5 * D_sii for D_sii in good.D_asii]),
    'no matrices': lambda good: good.new(D_asii=[0 * D_sii for D_sii in good.D_asii]),
    'noise': lambda good: good.new(nt_sR=good.nt_sR * np.random.default_rng(0).uniform(0, 2, good.nt_sR.shape)),
    'elsewhere': lambda good: good.new(nt_sR=np.roll(good.nt_sR, 5, axis=1)),
    'flat': lambda good: good.new(nt_sR=np.full_like(good.nt_sR, good.nt_sR.mean())),
}
SYSTEMS = {
    'metal': (
        bulk('Al', cubic=True),
        {
            'mode': {'name': 'pw', 'ecut': 200},
            'kpts': (2, 2, 2),
            'occupations': {'name': 'fermi-dirac', 'width': 0.1},
        },
    ),
    'plane waves': (water_box((1, 1, 1), seed=3), {'mode': {'name': 'pw', 'ecut': 300}}),
    'finite differences': (water_box((1, 1, 1), seed=3), {'mode': 'fd', 'h': 0.2}),
}


@pytest.fixture(scope='module', params=SYSTEMS)
def reference(request):
    """Atoms, parameters, energy and iterations from GPAW's own start, and the state that it ends in."""
    atoms, parameters = SYSTEMS[request.param]
    parameters = {'xc': 'PBE'} | parameters
    atoms = atoms.copy()
    atoms.rattle(0.1, seed=1)
    atoms.calc = GPAW(txt=None, **parameters)
    energy = atoms.get_potential_energy()
    return atoms, parameters, energy, atoms.calc.get_number_of_iterations(), PAWDensity.from_gpaw(atoms.calc)


def test_converged_state_saves_iterations_in_every_mode(reference):
    atoms, parameters, energy, niter, state = reference
    seeded, fewer = iterations(SeededGPAW(state, txt=None, **parameters), atoms)
    assert seeded == pytest.approx(energy, abs=SAME_ENERGY)
    assert fewer < niter


@pytest.mark.parametrize('poison', POISONS)
def test_bad_seed_costs_little_in_every_mode(poison, reference):
    atoms, parameters, energy, niter, state = reference
    seeded, more = iterations(SeededGPAW(POISONS[poison](state), txt=None, **parameters), atoms)
    assert seeded == pytest.approx(energy, abs=SAME_ENERGY)
    assert more <= niter + 2


@pytest.mark.parametrize('poison', POISONS)
def test_bad_seed_is_given_up(poison, small_water, converged, oracle, tmp_path):
    """The energy is the same, and at most two iterations more are spent."""
    calc = SeededGPAW(POISONS[poison](oracle), txt=tmp_path / 'log.txt', **DZP)
    energy, niter = iterations(calc, small_water)
    assert energy == pytest.approx(converged.get_potential_energy(), abs=SAME_ENERGY)
    assert niter <= converged.get_number_of_iterations() + 2
    assert not calc.seed_report.accepted
    assert 'seed refused' in (tmp_path / 'log.txt').read_text()


def test_plane_waves_k_points_symmetry_smearing():
    """A metal from its converged state: held until it is recognised."""
    parameters = {
        'mode': {'name': 'pw', 'ecut': 200},
        'xc': 'PBE',
        'kpts': (2, 2, 2),
        'occupations': {'name': 'fermi-dirac', 'width': 0.1},
    }
    atoms = bulk('Al', cubic=True)
    atoms.calc = GPAW(txt=None, **parameters)
    energy = atoms.get_potential_energy()
    state = PAWDensity.from_gpaw(atoms.calc)
    calc = SeededGPAW(state, txt=None, **parameters)
    seeded, niter = iterations(calc, atoms)
    assert seeded == pytest.approx(energy, abs=SAME_ENERGY)
    assert niter <= atoms.calc.get_number_of_iterations()
    assert calc.seed_report.held > 1


def test_trajectory_carries_the_correction(tiny_model, small_water, converged):
    atoms = small_water.copy()
    atoms.calc = SeededGPAW(tiny_model, txt=None)
    atoms.get_potential_energy()
    first = atoms.calc.seed_report.residual
    atoms.positions[1] += 0.01
    energy = atoms.get_potential_energy()
    assert atoms.calc.seed_report.residual < first / 3
    fresh = GPAW(txt=None, **DZP)
    assert energy == pytest.approx(iterations(fresh, atoms)[0], abs=SAME_ENERGY)


def test_file_and_fixed_density_work_as_gpaws(oracle, small_water, tmp_path):
    atoms = small_water.copy()
    atoms.calc = SeededGPAW(oracle, txt=None, **DZP)
    energy = atoms.get_potential_energy()
    atoms.calc.write(tmp_path / 'water.gpw', mode='all')
    assert GPAW(tmp_path / 'water.gpw', txt=None).get_potential_energy() == pytest.approx(energy)
    bands = atoms.calc.fixed_density(txt=None, symmetry='off')
    bands.get_potential_energy()
    assert bands.get_homo_lumo() == pytest.approx(atoms.calc.get_homo_lumo(), abs=1e-3)


def test_another_level_is_an_error_that_names_each_difference(tiny_model, tmp_path):
    log = tmp_path / 'log.txt'
    log.write_text('precious')
    with pytest.raises(LevelError, match=r'xc: "PBE" against "LDA".*on_mismatch'):
        SeededGPAW(tiny_model, txt=log, **{**DZP, 'xc': 'LDA'})
    assert log.read_text() == 'precious'
    with pytest.warns(LevelWarning, match='xc'):
        SeededGPAW(tiny_model, txt=None, on_mismatch='warn', **{**DZP, 'xc': 'LDA'})


@pytest.mark.parametrize(
    ('changes', 'message'),
    [({'h': 0.3}, 'grid of these atoms'), ({'kpts': (2, 1, 1)}, 'k-points of these atoms: 1 .* against 2')],
)
def test_grid_and_k_points_are_compared_for_the_atoms(tiny_model, small_water, changes, message, tmp_path):
    atoms = small_water.copy()
    log = tmp_path / 'log.txt'
    log.write_text('precious')
    atoms.calc = SeededGPAW(tiny_model, txt=log, **{**DZP, **changes})
    with pytest.raises(LevelError, match=message):
        atoms.get_potential_energy()
    assert log.read_text() == 'precious'


def test_grid_that_is_the_levels_own_is_accepted(oracle, small_water):
    parameters = {key: value for key, value in DZP.items() if key != 'h'}
    calc = SeededGPAW(oracle, txt=None, gpts=tuple(oracle.grid.size_c), **parameters)
    assert iterations(calc, small_water)[1] == 3


def test_refusals(tiny_model, oracle, small_water):
    with pytest.raises(LevelError, match='legacy_gpaw'):
        SeededGPAW(tiny_model, legacy_gpaw=True)
    with pytest.raises(ValueError, match="'error' or 'warn'"):
        SeededGPAW(tiny_model, on_mismatch='ignore')
    metal = bulk('Al', cubic=True)
    metal.calc = SeededGPAW(tiny_model, txt=None)
    with pytest.raises(PredictionError, match='does not know Al'):
        metal.get_potential_energy()
    magnetic = small_water.copy()
    magnetic.set_initial_magnetic_moments([1.0, 0, 0])
    magnetic.calc = SeededGPAW(oracle, txt=None, **DZP)
    with pytest.raises(LevelError, match='spin-paired'):
        magnetic.get_potential_energy()
    with pytest.raises(LevelError, match='charge'):
        SeededGPAW(tiny_model, txt=None, charge=1.0, **DZP)
    moved = small_water.copy()
    moved.positions[0] += 0.1
    moved.calc = SeededGPAW(oracle, txt=None, **DZP)
    with pytest.raises(PredictionError, match='other positions'):
        moved.get_potential_energy()


def test_old_gpaw(monkeypatch, tiny_model):
    monkeypatch.setattr('gpaw.__version__', '25.1.0')
    with pytest.raises(ImportError, match=r'needs GPAW 26\.7.*25\.1\.0'):
        SeededGPAW(tiny_model, txt=None)


def test_nan_is_an_error(oracle, small_water):
    class NaN(StateSeed):
        def evaluate(self, atoms, grid):
            nt_sR, D_asii = super().evaluate(atoms, grid)
            return nt_sR * np.nan, D_asii

    atoms = small_water.copy()
    atoms.calc = SeededGPAW(NaN(oracle), txt=None, **DZP)
    with pytest.raises(PredictionError, match='not finite'):
        atoms.get_potential_energy()


def test_own_mixer_is_kept(oracle, small_water):
    calc = SeededGPAW(oracle, txt=None, mixer={'name': 'pulay', 'beta': 0.33}, protocol=Protocol(), **DZP)
    iterations(calc, small_water)
    assert calc.dft.scf_loop.mixer.beta == 0.33
