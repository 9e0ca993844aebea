"""One pass: an energy of second order, and forces that are its exact derivative."""

from __future__ import annotations

import numpy as np
import pytest
from ase import units
from ase.calculators.calculator import PropertyNotImplementedError
from ase.md.verlet import VelocityVerlet
from gpaw.new.ase_interface import GPAW

from ase_deepdensity import DensityModel, OnePassGPAW
from ase_deepdensity.scf.calculator import physical
from tests.conftest import water_molecule
from tests.scf.conftest import DZP
from tests.tiny import water_box
from tests.tolerances import SAME_ENERGY, SAME_FORCE, SAME_STRESS

pytestmark = pytest.mark.filterwarnings('ignore::ase_deepdensity.checks.UnfamiliarWarning')


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
    calc = OnePassGPAW(name, txt=None, **physical(DensityModel.load(name).level), **tight)
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


@pytest.mark.filterwarnings('ignore::ase_deepdensity.scf.compatible.LevelWarning')
def test_stress_is_the_derivative_of_the_energy(dense):
    """Of a cell that grows with its grid and its plane waves, so that their number stays."""
    model = DensityModel.load('water-pbe-pw400')
    gpts = tuple(model.level.grid(dense).size_c.tolist())
    tight = {'convergence': {'density': 1e-8, 'energy': 1e-9, 'eigenstates': 1e-11}}

    def scaled(factor):
        atoms = dense.copy()
        atoms.set_cell(factor * atoms.cell.array, scale_atoms=True)
        mode = {'name': 'pw', 'ecut': 400 / factor**2}
        atoms.calc = OnePassGPAW(model, txt=None, on_mismatch='warn', mode=mode, gpts=gpts, xc='PBE', **tight)
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
    atoms.calc = calc = OnePassGPAW('water-pbe-pw400', txt=None)
    atoms.get_potential_energy()
    atoms.set_cell(1.01 * atoms.cell.array, scale_atoms=True)
    energy = atoms.get_potential_energy()
    assert calc.report.iterations == calc.get_number_of_iterations()
    assert energy == pytest.approx(
        OnePassGPAW('water-pbe-pw400', txt=None).get_potential_energy(atoms), abs=SAME_ENERGY
    )


def test_oracle_like_prediction_gives_the_scf_energy(tiny_model, small_water, converged):
    """With ``until`` out of reach the cycle goes on, and the result is GPAW's, stress excepted."""
    atoms = small_water.copy()
    atoms.calc = OnePassGPAW(tiny_model, txt=None, until={'residual': 1e-6})
    assert atoms.get_potential_energy() == pytest.approx(converged.get_potential_energy(), abs=SAME_ENERGY)
    report = atoms.calc.report
    assert report.went_on and report.iterations == 1 < atoms.calc.get_number_of_iterations()
    np.testing.assert_allclose(atoms.get_forces(), converged.get_forces(), atol=2e-3)


def test_one_pass_is_one_pass(tiny_model, small_water, tmp_path):
    atoms = small_water.copy()
    atoms.calc = OnePassGPAW(tiny_model, txt=tmp_path / 'log.txt', until={'energy': 1e3})
    atoms.get_potential_energy()
    report = atoms.calc.report
    assert atoms.calc.get_number_of_iterations() == report.iterations == 1
    assert not report.went_on and report.energy_error is not None
    assert report.residual == pytest.approx(8 * report.residual_per_electron)
    assert 'One pass: residual' in (tmp_path / 'log.txt').read_text()
    with pytest.raises(PropertyNotImplementedError, match='stress'):
        atoms.get_stress()


def test_dynamics_conserve_energy(molecule):
    """Some steps of NVE of a molecule that vibrates."""
    atoms = molecule.copy()
    atoms.calc = OnePassGPAW('water-pbe-dzp', txt=None)
    dynamics = VelocityVerlet(atoms, 0.25 * units.fs)
    totals, kinetics = [], []
    dynamics.attach(lambda: totals.append(atoms.get_total_energy()))
    dynamics.attach(lambda: kinetics.append(atoms.get_kinetic_energy()))
    dynamics.run(15)
    assert np.ptp(kinetics) > 0.05
    assert np.ptp(totals) < 0.03 * np.ptp(kinetics)


@pytest.mark.parametrize('until', [{'forces': 1.0}, {'residual': 0.0}])
def test_bad_until(tiny_model, until):
    with pytest.raises(ValueError, match='until must be'):
        OnePassGPAW(tiny_model, until=until)


def test_needs_a_model(oracle):
    with pytest.raises(ValueError, match='needs a model'):
        OnePassGPAW(oracle, txt=None, **DZP)
