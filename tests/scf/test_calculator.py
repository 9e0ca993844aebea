"""SeededGPAW: the same result as GPAW's, from another start."""

from __future__ import annotations

import re
import sys
from dataclasses import replace
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, molecule
from ase.units import Bohr, Ha
from gpaw.new.ase_interface import GPAW, ASECalculator

from ase_deepdensity import DeepDensity, OnePassGPAW, SeededGPAW
from ase_deepdensity.checks import PredictionError
from ase_deepdensity.level import Level, LevelError
from ase_deepdensity.predict import Predictor
from ase_deepdensity.scf import calculator
from ase_deepdensity.scf.bounds import Bounds
from ase_deepdensity.scf.compatible import LevelWarning
from ase_deepdensity.scf.protocol import Protocol
from ase_deepdensity.scf.seed import ChosenSeed, ModelSeed, StateSeed
from ase_deepdensity.state import PAWDensity
from tests.scf.conftest import DZP, NO_BOUNDS
from tests.tiny import build_model, water_box
from tests.tolerances import SAME_ENERGY

pytestmark = pytest.mark.filterwarnings('ignore::ase_deepdensity.checks.UnfamiliarWarning')


def iterations(calc, atoms):
    """Energy, eV, and iterations of a calculation of these atoms."""
    atoms = atoms.copy()
    atoms.calc = calc
    return atoms.get_potential_energy(), calc.get_number_of_iterations()


def fewest(calc):
    """Iterations that GPAW's energy criterion compares: there are never less."""
    return calc.dft.scf_loop.convergence['energy'].n_old


def test_converged_state_is_recognised(small_water, converged, oracle, tmp_path):
    calc = SeededGPAW(oracle, txt=tmp_path / 'log.txt', **DZP)
    energy, niter = iterations(calc, small_water)
    assert energy == pytest.approx(converged.dft.results['energy'] * 27.211386024367243, abs=SAME_ENERGY)
    assert niter <= fewest(calc) + 1 < converged.get_number_of_iterations()
    assert calc.seed_report.accepted and calc.seed_report.residual < 1e-4
    text = (tmp_path / 'log.txt').read_text()
    assert 'Seed: ñ and D of the given state' in text and 'seed accepted: residual' in text


def test_model_starts_it(tiny_model, small_water, converged):
    calc = SeededGPAW(tiny_model, txt=None)
    energy, _ = iterations(calc, small_water)
    assert energy == pytest.approx(converged.get_potential_energy(), abs=SAME_ENERGY)
    assert calc.seed_report.name == 'model tiny' and calc.seed_report.seconds > 0


def test_errors_of_a_second_calculation_are_no_fault_of_the_first_seed(oracle, small_water):
    calc = SeededGPAW(oracle, txt=None, **DZP)
    calc.create_new_calculation(small_water)
    moved = small_water.copy()
    moved.positions[0] += 0.1
    with pytest.raises(PredictionError, match='other positions'):
        calc.create_new_calculation(moved)
    assert calc.seed_report.accepted


def test_set_up_once(tiny_model, small_water, monkeypatch):
    """Again for other atoms, and after a cycle."""
    predicted = []
    evaluate = ModelSeed.evaluate
    monkeypatch.setattr(ModelSeed, 'evaluate', lambda *args: predicted.append(1) or evaluate(*args))
    atoms = small_water.copy()
    calc = atoms.calc = SeededGPAW(tiny_model, txt=None)
    calc.create_new_calculation(atoms)
    atoms.rattle(0.01)
    calc.create_new_calculation(atoms)
    assert len(predicted) == 2
    atoms.get_potential_energy()
    assert len(predicted) == 2
    calc.create_new_calculation(atoms)
    assert len(predicted) == 3


def test_kpoints_are_told_to_models_that_ask(tiny_model, tiny_metal, small_water):
    kpts = {'kpts': (2, 1, 1)}
    calc = SeededGPAW(tiny_metal, txt=None, **DZP, **kpts)
    calc.create_new_calculation(small_water)
    grid = calc.seed.predictor.grid(small_water)
    nt_R, at_gamma_R = (seed.evaluate(small_water, grid)[0] for seed in (calc.seed, ModelSeed(tiny_metal)))
    expected_R = Predictor(tiny_metal, level=Level({**DZP, **kpts})).predict(small_water, grid).nt_sR
    scale = expected_R.sum() / nt_R.sum()
    np.testing.assert_allclose(scale * nt_R, expected_R, atol=1e-6)
    assert abs(scale * at_gamma_R - expected_R).max() > 1e-4


SCRIPT = Path(__file__).parents[2] / 'docs' / 'benchmarks' / 'poisoned.py'
"""The benchmark, whose poisons are tried here, one of each kind in each mode in turn."""


def benchmark():
    """The script as a module."""
    spec = spec_from_file_location('poisoned', SCRIPT)
    sys.modules['poisoned'] = module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


poisoned = benchmark()


def spoiled(state, kind, case=0):
    """A seed that was a good state."""
    poison = poisoned.POISONS[kind]
    return poisoned.Spoiled(state, *poison(state.nt_sR, list(state.D_asii), np.random.default_rng(case), case))


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


@pytest.mark.parametrize('number', range(0, len(poisoned.POISONS), 3))
def test_bad_seed_costs_little_in_every_mode(number, reference, request):
    """Each kind in one mode, and in another case in LCAO below."""
    atoms, parameters, energy, niter, state = reference
    shift = list(SYSTEMS).index(request.node.callspec.params['reference'])
    kind = list(poisoned.POISONS)[(number + shift) % len(poisoned.POISONS)]
    calc = SeededGPAW(spoiled(state, kind), txt=None, **parameters)
    seeded, more = iterations(calc, atoms)
    assert seeded == pytest.approx(energy, abs=SAME_ENERGY if calc.seed_report.accepted else 1e-9)
    assert more <= niter + 2


@pytest.mark.parametrize('kind', poisoned.POISONS)
def test_bad_seed_costs_little(kind, small_water, converged, oracle, tmp_path):
    calc = SeededGPAW(spoiled(oracle, kind, 1), txt=tmp_path / 'log.txt', **DZP)
    energy, niter = iterations(calc, small_water)
    assert energy == pytest.approx(converged.get_potential_energy(), abs=SAME_ENERGY)
    report = calc.seed_report
    assert niter <= converged.get_number_of_iterations() + 2
    assert report.accepted or niter == converged.get_number_of_iterations() + report.held
    assert report.accepted == (report.reason == '')
    assert ('seed refused: ' + report.reason in (tmp_path / 'log.txt').read_text()) != report.accepted


WATER = Atoms('OHH', [(2, 2, 2), (2.68, 2, 2), (1.76, 2.93, 2)], cell=[4] * 3, pbc=True)
PW300 = {'mode': {'name': 'pw', 'ecut': 300}, 'xc': 'PBE'}


@pytest.fixture(scope='module')
def plane_waves():
    """Energy, iterations and state of a molecule from GPAW's own start."""
    energy, niter = iterations(calc := GPAW(txt=None, **PW300), WATER)
    return energy, niter, PAWDensity.from_gpaw(calc)


@pytest.mark.parametrize('bounds', [Bounds(), NO_BOUNDS])
@pytest.mark.parametrize('poison', ['D of an atom', 'D, a little', 'smooth'])
def test_refused_seed_leaves_nothing_behind(poison, bounds, plane_waves):
    """Not in the orbitals either: the energy is the same to the last bit, whenever the seed was refused."""
    energy, niter, state = plane_waves
    scale = 1e4 if poison == 'D of an atom' else 1.3
    if poison == 'smooth':
        bad = state.new(nt_sR=np.roll(state.nt_sR, 1, axis=2))
    else:
        bad = state.new(D_asii=[scale * state.D_asii[0], *state.D_asii[1:]])
    calc = SeededGPAW(bad, txt=None, protocol=Protocol(bounds=bounds), **PW300)
    seeded, more = iterations(calc, WATER)
    report = calc.seed_report
    assert seeded == energy
    assert not report.accepted and more == niter + report.held
    assert (report.held > 0) == (poison != 'D of an atom' or bounds != Bounds())


@pytest.mark.parametrize('step', [1, 3])
def test_an_error_on_the_way_is_gpaws_own_start(step, plane_waves, monkeypatch):
    """Even after the seed was accepted."""
    energy, niter, state = plane_waves
    calc = SeededGPAW(state, txt=None, **PW300)
    calc.create_new_calculation(WATER)
    solver = calc.dft.scf_loop.eigensolver
    original, steps = solver.iterate, []

    def failing(*args, **kwargs):
        steps.append(1)
        if len(steps) == step:
            raise np.linalg.LinAlgError('not positive definite')
        return original(*args, **kwargs)

    monkeypatch.setattr(solver, 'iterate', failing)
    assert iterations(calc, WATER) == (energy, niter + step)
    assert calc.seed_report.reason == 'LinAlgError: not positive definite'


def test_errors_before_the_first_step_are_gpaws_own_start(plane_waves, monkeypatch):
    """In the potential of the seed, and in the first orbitals."""
    from gpaw.new.lcao.eigensolver import LCAOEigensolver

    energy, niter, state = plane_waves
    original, calls = LCAOEigensolver.iterate, []

    def failing(*args, **kwargs):
        calls.append(1)
        if len(calls) == 1:
            raise np.linalg.LinAlgError('singular')
        return original(*args, **kwargs)

    monkeypatch.setattr(LCAOEigensolver, 'iterate', failing)
    calc = SeededGPAW(state, txt=None, **PW300)
    assert iterations(calc, WATER) == (energy, niter)
    assert calc.seed_report.reason == 'LinAlgError: singular'


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


@pytest.mark.parametrize(
    ('changes', 'message'),
    [
        ({'h': 0.3}, r'h: 0.2 against 0.3|grid of these atoms: \[16, 16, 16\] against'),
        ({'kpts': (2, 1, 1)}, 'k-points of these atoms: 1 .* against 2'),
        ({'xc': 'LDA'}, 'xc: "PBE" against "LDA"; .*version of the H dataset'),
        ({'mode': 'fd'}, 'mode: .*"lcao".* against .*"fd"'),
    ],
)
def test_another_level_is_a_line_in_the_log(tiny_model, small_water, changes, message, tmp_path):
    calc = SeededGPAW(tiny_model, txt=tmp_path / 'log.txt', **DZP | changes)
    calc.create_new_calculation(small_water)
    calc.log.fd.flush()
    lines = [
        line for line in (tmp_path / 'log.txt').read_text().splitlines() if line.startswith('Seed of another level')
    ]
    assert len(lines) == 1 and re.search(message, lines[0])


def test_another_level_finds_its_own_energy(tiny_model, small_water):
    """A seed from LCAO at a finer grid, in plane waves with another functional."""
    parameters = {'mode': {'name': 'pw', 'ecut': 250}, 'xc': 'RPBE'}
    expected, _ = iterations(GPAW(txt=None, **parameters), small_water)
    assert iterations(SeededGPAW(tiny_model, txt=None, **parameters), small_water)[0] == pytest.approx(
        expected, abs=2e-3
    )


@pytest.mark.parametrize('setups', ['hgh', 'sg15', {'O': ':p,1.0'}])
def test_other_datasets_are_an_error_that_names_them(tiny_model, setups, tmp_path):
    log = tmp_path / 'log.txt'
    log.write_text('precious')
    with pytest.raises(LevelError, match=r'model tiny is for other PAW datasets .*setups: null against .*on_mismatch'):
        SeededGPAW(tiny_model, txt=log, setups=setups, **DZP)
    assert log.read_text() == 'precious'
    with pytest.warns(LevelWarning, match='setups'):
        SeededGPAW(tiny_model, txt=None, on_mismatch='warn', setups=setups, **DZP)


def test_other_projectors_are_an_error_that_names_the_element(tiny_model, small_water, monkeypatch, tmp_path):
    """As where datasets of the same name have changed."""
    hydrogen = tiny_model.atom_types[1]
    calc = SeededGPAW(tiny_model, txt=tmp_path / 'log.txt', **DZP)
    monkeypatch.setitem(calc.seed.model.atom_types, 1, replace(hydrogen, nvalence=3.0))
    with pytest.raises(
        LevelError, match='H: 3 valence electrons, projectors ssp against 1 valence electrons, projectors ssp'
    ):
        calc.create_new_calculation(small_water)
    assert not (tmp_path / 'log.txt').exists()


def test_grid_that_is_the_levels_own_is_accepted(oracle, small_water):
    parameters = {key: value for key, value in DZP.items() if key != 'h'}
    calc = SeededGPAW(oracle, txt=None, gpts=tuple(oracle.grid.size_c), **parameters)
    assert iterations(calc, small_water)[1] <= fewest(calc) + 1


@pytest.mark.parametrize('kind', ['state', 'model'])
@pytest.mark.parametrize(('charge', 'tried'), [(1.0, False), (0.05, True)])
def test_another_charge_is_a_line_in_the_log(kind, charge, tried, oracle, tiny_model, small_water, tmp_path):
    cation = small_water.copy()
    cation.info['charge'] = charge  # as the calculation has it
    cation.calc = GPAW(txt=None, charge=charge, **DZP)
    energy = cation.get_potential_energy()
    cation.calc = SeededGPAW({'state': oracle, 'model': tiny_model}[kind], txt=tmp_path / 'log', charge=charge, **DZP)
    assert cation.get_potential_energy() == pytest.approx(energy, abs=SAME_ENERGY)
    log = (tmp_path / 'log').read_text()
    assert f'Seed of another charge: 0 against {charge:g} |e|; its ñ is scaled' in log
    refused = f'seed refused: it is for a charge of 0 |e|, not {charge:g}, of {8 - charge:g} electrons'
    assert (refused in log) != tried and cation.calc.dft.density.charge == charge
    assert kind == 'model' or cation.calc.seed_report.accepted == tried


def test_refusals(tiny_model, oracle, small_water):
    with pytest.raises(LevelError, match='legacy_gpaw'):
        SeededGPAW(tiny_model, legacy_gpaw=True)
    with pytest.raises(ValueError, match="'error' or 'warn'"):
        SeededGPAW(tiny_model, on_mismatch='ignore')
    metal = bulk('Al', cubic=True)
    metal.calc = SeededGPAW(tiny_model, txt=None)
    with pytest.raises(PredictionError, match='does not know Al'):
        metal.get_potential_energy()
    with pytest.raises(LevelError, match='the charge 0.0 .e., the calculation 1.0'):
        OnePassGPAW(tiny_model, txt=None, charge=1.0, **DZP)
    assert SeededGPAW(oracle.new(charge=1.0), txt=None).params.charge == 1.0
    moved = small_water.copy()
    moved.positions[0] += 0.1
    moved.calc = SeededGPAW(oracle, txt=None, **DZP)
    with pytest.raises(PredictionError, match='other positions'):
        moved.get_potential_energy()


def test_old_gpaw(monkeypatch, tiny_model):
    monkeypatch.setattr('gpaw.__version__', '25.1.0')
    with pytest.raises(ImportError, match=r'needs GPAW 26\.7.*25\.1\.0'):
        SeededGPAW(tiny_model, txt=None)


class Fleeting(StateSeed):
    """Good for one geometry only; for any other there is something else, or an error."""

    def __init__(self, state, nt_sR=None):
        super().__init__(state)
        self.other_sR = nt_sR

    def check(self, atoms):
        """All of them."""

    def evaluate(self, atoms, grid):
        if atoms == self.state.atoms:
            return super().evaluate(atoms, grid)
        if self.other_sR is None:
            raise RuntimeError('f(a) and f(b) must have different signs')
        return self.other_sR, list(self.state.D_asii)


@pytest.mark.parametrize('error', [RuntimeError('f(a) and f(b) must have different signs'), KeyError(3), MemoryError()])
def test_an_error_in_the_prediction_is_gpaws_own_start(error, oracle, small_water, converged, tmp_path):
    class Failing(StateSeed):
        def evaluate(self, atoms, grid):
            raise error

    log = tmp_path / 'log.txt'
    calc = SeededGPAW(Failing(oracle), txt=log, **DZP)
    energy, niter = iterations(calc, small_water)
    assert (energy, niter) == (converged.get_potential_energy(), converged.get_number_of_iterations())
    report = calc.seed_report
    assert not report.accepted and report.held == 0 and type(error).__name__ in report.reason
    assert f"seed refused: {report.reason}; GPAW's own start is taken" in log.read_text()


def test_a_time_limit_is_no_fault_of_the_seed(oracle, small_water, monkeypatch):
    """In the prediction, and in a step."""

    class Slow(StateSeed):
        def evaluate(self, atoms, grid):
            raise TimeoutError('the calculation takes more than 1 s of CPU time')

    with pytest.raises(TimeoutError):
        iterations(SeededGPAW(Slow(oracle), txt=None, **DZP), small_water)
    calc = SeededGPAW(oracle, txt=None, **DZP)
    calc.create_new_calculation(small_water)
    monkeypatch.setattr(calc.dft.scf_loop.eigensolver, 'iterate', lambda *args: Slow(oracle).evaluate(None, None))
    with pytest.raises(TimeoutError):
        iterations(calc, small_water)


@pytest.mark.parametrize('late', ['residual', 'error'])
def test_refused_seed_on_a_trajectory(late, plane_waves):
    """Orbitals of the step before are put back, and the mixer is GPAW's own again."""
    _, _, state = plane_waves
    moved = WATER.copy()
    moved.positions[1, 0] += 0.05
    own = GPAW(txt=None, **PW300)
    iterations(own, WATER)
    energy, niter = iterations(own, moved)
    seed = Fleeting(state, np.roll(state.nt_sR, 1, axis=2) if late == 'residual' else None)
    calc = SeededGPAW(seed, txt=None, carry=False, **PW300)
    iterations(calc, WATER)
    assert calc.seed_report.accepted
    mixer = calc.dft.scf_loop.mixer
    seeded, more = iterations(calc, moved)
    assert not calc.seed_report.accepted and calc.seed_report.held == (1 if late == 'residual' else 0)
    assert calc.dft.scf_loop.mixer is mixer and type(mixer) is type(own.dft.scf_loop.mixer)
    assert seeded == pytest.approx(energy, abs=SAME_ENERGY) and more <= niter + 2


def test_few_k_points_are_no_error():
    """A metal at one k-point, where the level of free electrons is far above that of many k-points."""
    density = DeepDensity('aluminium-pbe-pw400', kpts=(1, 1, 1)).predict(bulk('Al'))
    assert density.number_of_electrons() == pytest.approx(3) and density.nt_sR.min() > 0


def test_log_is_left_alone_until_the_calculation_begins(oracle, small_water, tmp_path, monkeypatch):
    log = tmp_path / 'log.txt'
    log.write_text('precious')
    coarse = {**DZP, 'h': 0.25}
    calc = SeededGPAW(oracle, txt=log, **coarse)
    with pytest.raises(PredictionError, match='another grid'):
        iterations(calc, small_water)
    calc = SeededGPAW(oracle, txt=log, **DZP)
    monkeypatch.setattr('gpaw.new.density.Density.from_superposition', lambda **_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        iterations(calc, small_water)
    assert log.read_text() == 'precious'


def test_forces_of_a_model_without_derivatives(small_water, converged):
    """Are GPAW's own."""
    anything = Protocol(refused=np.inf, refused_atomic=np.inf, bounds=NO_BOUNDS)
    model = build_model(Level.load('dzp'), network='invariant')
    atoms = small_water.copy()
    atoms.calc = calc = SeededGPAW(model, txt=None, protocol=anything)
    forces_av = atoms.get_forces()
    assert calc.seed_report.accepted
    np.testing.assert_allclose(forces_av, converged.get_forces(), atol=5e-3)
    np.testing.assert_allclose(forces_av, calc.dft._calculate_forces() * Ha / Bohr, rtol=0, atol=1e-12)


def test_one_derivative_along_the_residual_serves_energy_and_forces(tiny_model, small_water, monkeypatch):
    """It costs a potential: the energy's error is asked for at the last iteration, not before."""
    iterations_made = []

    class Counted(calculator.Residual):
        def __init__(self, dft):
            iterations_made.append(dft.scf_loop.niter)
            super().__init__(dft)

    monkeypatch.setattr(calculator, 'Residual', Counted)
    anything = Protocol(refused=np.inf, refused_atomic=np.inf)
    atoms, last = small_water.copy(), []
    atoms.calc = SeededGPAW(tiny_model, txt=None, protocol=anything, mode={'name': 'pw', 'ecut': 250}, xc='LDA')
    for _ in range(2):
        atoms.get_forces()
        last.append(atoms.calc.get_number_of_iterations())
        atoms.positions[1] += 0.01
    assert iterations_made == last


def test_convergence_of_the_level_is_kept(tiny_model):
    level = Level(DZP | {'convergence': {'density': 1e-6}, 'maxiter': 77, 'nbands': 6, 'parallel': {'domain': 1}})
    calc = SeededGPAW(replace(tiny_model, level=level), txt=None)
    assert calc.params.convergence == {'density': 1e-6} and calc.params.maxiter == 77
    assert calc.params.nbands is None and calc.params.parallel == {}


def test_full_bands_have_a_share_of_the_residual_of_their_own(oracle, small_water, tmp_path):
    protocol = Protocol(beta_gap=0.7, beta_metal=0.2, beta_spin=0.4)
    iterations(SeededGPAW(oracle, txt=tmp_path / 'log.txt', protocol=protocol, **DZP), small_water)
    assert 'mixer: PulayMixer, β = 0.7\n' in (tmp_path / 'log.txt').read_text()


def test_own_mixer_is_kept(oracle, small_water):
    calc = SeededGPAW(oracle, txt=None, mixer={'name': 'pulay', 'beta': 0.33}, protocol=Protocol(), **DZP)
    iterations(calc, small_water)
    assert calc.dft.scf_loop.mixer.beta == 0.33


def test_the_model_is_chosen_for_the_atoms(tmp_path):
    atoms = molecule('H2O')
    atoms.center(vacuum=1.8)
    atoms.calc = SeededGPAW(**DZP, txt=tmp_path / 'log.txt')
    assert atoms.get_potential_energy() == pytest.approx(GPAW(txt=None, **DZP).get_potential_energy(atoms), abs=2e-3)
    assert 'Model: water-pbe-dzp, chosen before' in (tmp_path / 'log.txt').read_text()
    assert atoms.calc.seed_report.accepted and atoms.calc.seed.model.name == 'water-pbe-dzp'
    atoms.symbols[0] = 'Ce'
    with pytest.raises(PredictionError, match='no shipped model knows H, Ce'):
        atoms.get_potential_energy()


def test_a_chosen_seed_follows_the_elements():
    seed = ChosenSeed(None)
    seed.check(molecule('H2O', cell=[6, 6, 6], pbc=True))
    first = seed.choice
    assert (seed.model.name, seed.level.name) == ('water-pbe-pw400', 'pw400')
    seed.check(molecule('H2O', cell=[6, 6, 7], pbc=True))
    assert seed.choice is first
    seed.check(bulk('Al', cubic=True))
    assert (seed.model.name, seed.level.name) == ('aluminium-pbe-pw400', 'aluminium')
    assert seed.level.parameters['occupations']['width'] == 0.1


def test_without_model_and_parameters(monkeypatch):
    """The parameters are those of the level of the model that is chosen."""
    calc = SeededGPAW(txt=None)
    monkeypatch.setattr(ASECalculator, 'create_new_calculation', lambda self, atoms: None)
    monkeypatch.setattr(SeededGPAW, '_start_of_loop', lambda self: None)
    calc.create_new_calculation(bulk('Al', cubic=True))
    assert calc.params.mode.ecut == 400 and calc.params.occupations.params == {'name': 'fermi-dirac', 'width': 0.1}
    assert OnePassGPAW(txt=None).seed.has_derivative
