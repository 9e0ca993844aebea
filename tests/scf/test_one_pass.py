"""One pass: an energy of second order, and forces that are its exact derivative."""

from __future__ import annotations

import warnings
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
from ase import Atoms, units
from ase.calculators.calculator import PropertyNotImplementedError
from ase.md.verlet import VelocityVerlet
from ase.optimize import BFGS
from gpaw.new.ase_interface import GPAW

from ase_deepdensity import DensityModel, OnePassGPAW
from ase_deepdensity.checks import DoubtfulPassWarning, PredictionError
from ase_deepdensity.codes import code_of
from ase_deepdensity.scf.calculator import physical
from tests.conftest import water_molecule
from tests.scf.conftest import DZP
from tests.tiny import water_box
from tests.tolerances import SAME_ENERGY, SAME_FORCE, SAME_STRESS

pytestmark = [
    pytest.mark.filterwarnings('ignore::ase_deepdensity.checks.UnfamiliarWarning'),
    pytest.mark.filterwarnings('ignore::ase_deepdensity.checks.DoubtfulPassWarning'),
]


@pytest.fixture(scope='module')
def molecule():
    """Water in a small periodic box."""
    atoms = water_molecule(2.2)
    atoms.pbc = True
    atoms.rattle(0.03, seed=1)
    return atoms


@pytest.fixture(scope='module')
def dense():
    """The same without vacuum: far from what the models know, so that the residual is large."""
    atoms = water_box((1, 1, 1), seed=3)
    atoms.rattle(0.03, seed=1)
    return atoms


FOURTH_ORDER = {-2: 1, -1: -8, 1: 8, 2: -1}
"""Steps and weights of a central difference."""


def slope(calc, atoms, a, v, h=0.004):
    """−dE/dR by differences of fourth order, eV/Å."""
    energies = []
    for step in FOURTH_ORDER:
        moved = atoms.copy()
        moved.positions[a, v] += step * h
        moved.calc = calc
        energies.append(moved.get_potential_energy(force_consistent=True))
    return -np.dot(list(FOURTH_ORDER.values()), energies) / (12 * h)


@pytest.mark.parametrize('system', ['molecule', 'dense'])
@pytest.mark.parametrize('name', ['water-pbe-dzp', 'water-pbe-pw400'])
def test_forces_are_the_derivative_of_the_energy(name, system, request):
    """As exactly as GPAW's own: where its grid makes forces differ from slopes, that is common to both."""
    tight = {'convergence': {'density': 1e-8, 'energy': 1e-9, 'eigenstates': 1e-11}}
    calc = OnePassGPAW(name, txt=None, until={}, **physical(DensityModel.load(name).level), **tight)
    atoms = request.getfixturevalue(system).copy()
    atoms.calc = calc
    forces_av = atoms.get_forces()
    own_av = calc.dft._calculate_forces() * units.Ha / units.Bohr
    a, v = np.unravel_index(abs(forces_av - own_av).argmax(), forces_av.shape)
    assert abs(forces_av - own_av)[a, v] > 100 * SAME_FORCE  # or nothing is tested
    cycle = GPAW(txt=None, **physical(calc.seed.level), **tight)
    reference = atoms.copy()
    reference.calc = cycle
    grid_error = reference.get_forces()[a, v] - slope(cycle, atoms, a, v)
    error = forces_av[a, v] - slope(calc, atoms, a, v)
    assert abs(error - grid_error) < 2 * SAME_FORCE


def test_stress_is_the_derivative_of_the_energy(dense):
    """Of a cell that grows with its grid and its plane waves, so that their number stays."""
    model = DensityModel.load('water-pbe-pw400')
    gpts = tuple(code_of(model.level).grid(model.level, dense).size_c.tolist())
    tight = {'convergence': {'density': 1e-8, 'energy': 1e-9, 'eigenstates': 1e-11}}

    def scaled(factor):
        atoms = dense.copy()
        atoms.set_cell(factor * atoms.cell.array, scale_atoms=True)
        mode = {'name': 'pw', 'ecut': 400 / factor**2}
        level = {'mode': mode, 'gpts': gpts, 'xc': 'PBE'}
        atoms.calc = OnePassGPAW(model, txt=None, until={}, **level, **tight)
        return atoms

    atoms, h = scaled(1), 0.002
    trace = atoms.get_stress()[:3].sum()
    dft = atoms.calc.dft
    own = np.trace(dft.pot_calc.stress(dft.ibzwfs, dft.density, dft.potential)) * units.Ha / units.Bohr**3
    energies = [scaled(1 + step * h).get_potential_energy(force_consistent=True) for step in FOURTH_ORDER]
    expected = np.dot(list(FOURTH_ORDER.values()), energies) / (12 * h) / dense.get_volume()
    assert abs(trace - own) > 100 * SAME_STRESS  # or nothing is tested
    assert trace == pytest.approx(expected, abs=SAME_STRESS)


def test_another_cell_is_another_pass(molecule):
    atoms = molecule.copy()
    atoms.calc = calc = OnePassGPAW('water-pbe-pw400', txt=None, until={})
    atoms.get_potential_energy()
    atoms.set_cell(1.01 * atoms.cell.array, scale_atoms=True)
    energy = atoms.get_potential_energy()
    assert calc.report.iterations == calc.get_number_of_iterations() and not calc.report.went_on
    another = OnePassGPAW('water-pbe-pw400', txt=None, until={})
    assert energy == pytest.approx(another.get_potential_energy(atoms), abs=SAME_ENERGY)


def test_oracle_like_prediction_gives_the_scf_energy(tiny_model, small_water, converged):
    """With ``until`` out of reach the cycle goes on, and the result is GPAW's, stress excepted."""
    atoms = small_water.copy()
    atoms.calc = OnePassGPAW(tiny_model, txt=None, until={'residual': 1e-6})
    assert atoms.get_potential_energy() == pytest.approx(converged.get_potential_energy(), abs=SAME_ENERGY)
    report = atoms.calc.report
    assert report.went_on and report.iterations == 1 < atoms.calc.get_number_of_iterations()
    np.testing.assert_allclose(atoms.get_forces(), converged.get_forces(), atol=2e-3)


def test_one_pass_is_one_pass(tiny_model, small_water, tmp_path):
    """Of an untrained model, because that is asked for; in plain figures."""
    atoms = small_water.copy()
    atoms.calc = OnePassGPAW(tiny_model, txt=tmp_path / 'log.txt', until={})
    with pytest.warns(DoubtfulPassWarning, match='its residual, .* is larger'):
        atoms.get_potential_energy()
    report = atoms.calc.report
    assert atoms.calc.get_number_of_iterations() == report.iterations == 1
    assert not report.went_on and report.energy_error is None
    assert report.residual == report.residual_per_electron == pytest.approx(report.residual_electrons / 8)
    assert 'float64' not in repr(report) and 'float64' not in repr(atoms.calc.seed_report)
    assert 'One pass: residual' in (tmp_path / 'log.txt').read_text()
    with pytest.raises(PropertyNotImplementedError, match='stress'):
        atoms.get_stress()


def test_an_untrained_model_is_no_pass(tiny_model, small_water, converged, tmp_path):
    atoms = small_water.copy()
    atoms.calc = OnePassGPAW(tiny_model, txt=tmp_path / 'log.txt')
    assert atoms.get_potential_energy() == pytest.approx(converged.get_potential_energy(), abs=SAME_ENERGY)
    assert atoms.calc.report.went_on and atoms.calc.report.residual > 0.1
    np.testing.assert_allclose(atoms.get_forces(), converged.get_forces(), atol=2e-3)
    assert 'not good enough: these are the results of an SCF cycle' in (tmp_path / 'log.txt').read_text()


def test_estimated_energy(molecule):
    """The estimate is of the error's size, and decides."""
    cycle = GPAW(txt=None, **physical(DensityModel.load('water-pbe-dzp').level)).get_potential_energy(molecule)
    for tolerance, good in (1e-2, True), (1e-6, False):
        calc = OnePassGPAW('water-pbe-dzp', txt=None, until={'energy': tolerance})
        energy, report = calc.get_potential_energy(molecule), calc.report
        assert report.went_on != good and (abs(report.energy_error) <= 3 * tolerance) == good
        assert abs(energy - cycle) < (4 * abs(report.energy_error) if good else SAME_ENERGY)


NONSENSE = {
    'oblique': [(3, 3, 3), (3.68, 3, 3), (2.76, 3.93, 3)],
    'pressed': [(3, 3, 3), (3.78, 3, 3), (2.80, 3.76, 3)],
}
"""Water whose first O–H is 0.68 Å, and one with both at 0.78 Å."""


@pytest.mark.parametrize('positions', NONSENSE.values(), ids=NONSENSE)
def test_nonsense_is_not_passed_on(positions):
    """Not even below two million eV; and in no more iterations than GPAW takes."""
    atoms = Atoms('OHH', positions, cell=[6.0] * 3, pbc=True)
    own, calc = atoms.copy(), OnePassGPAW('water-pbe-pw400', txt=None)
    own.calc = cycle = GPAW(txt=None, **physical(calc.seed.level))
    atoms.calc = calc
    assert atoms.get_potential_energy() == pytest.approx(own.get_potential_energy(), abs=SAME_ENERGY)
    np.testing.assert_allclose(atoms.get_forces(), own.get_forces(), atol=0.02)
    assert calc.report.went_on and calc.get_number_of_iterations() <= cycle.get_number_of_iterations()


def test_dynamics_conserve_energy(molecule):
    """Some steps of NVE of a molecule that vibrates."""
    atoms = molecule.copy()
    atoms.calc = OnePassGPAW('water-pbe-dzp', txt=None, until={})
    dynamics = VelocityVerlet(atoms, 0.25 * units.fs)
    totals, kinetics = [], []
    dynamics.attach(lambda: totals.append(atoms.get_total_energy()))
    dynamics.attach(lambda: kinetics.append(atoms.get_kinetic_energy()))
    dynamics.run(15)
    assert np.ptp(kinetics) > 0.05
    assert np.ptp(totals) < 0.03 * np.ptp(kinetics)


def test_relaxation_from_a_strained_molecule(molecule):
    """To GPAW's own minimum, on the way from cycles to single passes."""
    bonds = []
    for make in GPAW, partial(OnePassGPAW, 'water-pbe-dzp', until={'residual': 4e-3}):
        atoms = molecule.copy()
        atoms.set_distance(0, 1, 0.75, fix=0)
        atoms.calc = make(txt=None, **physical(DensityModel.load('water-pbe-dzp').level))
        went_on = []
        relaxation = BFGS(atoms, logfile=None)
        relaxation.attach(lambda calc=atoms.calc, seen=went_on: seen.append(getattr(calc, 'report', None)))
        assert relaxation.run(fmax=0.05, steps=30)
        bonds.append(atoms.get_all_distances(mic=True)[np.triu_indices(3, 1)])
    assert went_on[0].went_on and not went_on[-1].went_on
    np.testing.assert_allclose(*bonds, atol=0.005)


def test_dynamics_go_on_where_prediction_fails(molecule, monkeypatch, tmp_path):
    """A step whose prediction is refused is a cycle of GPAW's, and the next one is a pass again."""
    atoms = molecule.copy()
    atoms.calc = calc = OnePassGPAW('water-pbe-dzp', txt=tmp_path / 'log.txt', until={'residual': 0.04})
    evaluate, strange = calc.seed.evaluate, []

    def sometimes(*args):
        if strange:
            raise PredictionError('atom 0 is a stranger')
        return evaluate(*args)

    monkeypatch.setattr(calc.seed, 'evaluate', sometimes)
    reports, energies, cycles = [], [], []
    cycle = GPAW(txt=None, **physical(calc.seed.level))
    for strange[:] in [], [0], []:
        atoms.positions[1] += 0.01
        energies.append(atoms.get_potential_energy())
        cycles.append(cycle.get_potential_energy(atoms))
        reports.append(calc.report)
    assert [report.went_on for report in reports] == [False, True, False]
    assert np.isnan([report.residual for report in reports]).tolist() == [False, True, False]
    np.testing.assert_allclose(energies, cycles, atol=0.01)
    assert energies[1] == pytest.approx(cycles[1], abs=SAME_ENERGY)
    assert 'atom 0 is a stranger' in (tmp_path / 'log.txt').read_text()


def test_a_doubtful_pass_is_told_once(tiny_model, small_water):
    """For a trajectory, and again for other atoms."""
    calc, counts, moved = OnePassGPAW(tiny_model, txt=None, until={}), [], small_water.copy()
    moved.positions[1] += 0.01
    for atoms in small_water, moved, small_water[[0, 2, 1]][[0, 1]]:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter('always', DoubtfulPassWarning)
            calc.get_potential_energy(atoms)
        counts.append(sum(w.category is DoubtfulPassWarning for w in caught))
    assert counts == [1, 0, 1]


BAD = [{'forces': 1.0}, {'residual': 0.0}, {'energy': float('nan')}, {'residual': '1e-3'}, 'always', 1e-3]


@pytest.mark.parametrize('until', BAD)
def test_bad_until(tiny_model, until):
    with pytest.raises(ValueError, match='until must be'):
        OnePassGPAW(tiny_model, until=until)


def test_needs_a_model(oracle):
    with pytest.raises(ValueError, match='needs a model'):
        OnePassGPAW(oracle, txt=None, **DZP)


def test_needs_a_derivative(tiny_model):
    """The invariant network has none."""
    architecture = replace(tiny_model.architecture, network='invariant', hypers={})
    model = replace(tiny_model, architecture=architecture, network=architecture.build())
    with pytest.raises(ValueError, match='the invariant network of tiny does not have; use SeededGPAW'):
        OnePassGPAW(model, txt=None)
