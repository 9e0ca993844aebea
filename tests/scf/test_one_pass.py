"""One pass: an energy of second order, and forces that are its exact derivative."""

from __future__ import annotations

import numpy as np
import pytest
from ase import units
from ase.calculators.calculator import PropertyNotImplementedError
from ase.md.verlet import VelocityVerlet
from gpaw.new.ase_interface import GPAW

from ase_deepdensity import OnePassGPAW
from ase_deepdensity.level import Level
from tests.scf.conftest import DZP
from tests.tiny import build_model, water_box
from tests.tolerances import SAME_ENERGY, SAME_FORCE

pytestmark = pytest.mark.filterwarnings('ignore::ase_deepdensity.checks.UnfamiliarWarning')
PLANE_WAVES = {'mode': {'name': 'pw', 'ecut': 300}, 'xc': 'PBE', 'convergence': {'eigenstates': 1e-10}}


def slope(calc, atoms, a, v, h=0.004):
    """−dE/dR by differences of fourth order, eV/Å."""
    energies = []
    for step in (-2, -1, 1, 2):
        moved = atoms.copy()
        moved.positions[a, v] += step * h
        moved.calc = calc
        energies.append(moved.get_potential_energy(force_consistent=True))
    return -np.dot([1, -8, 8, -1], energies) / (12 * h)


@pytest.mark.parametrize('mode', ['lcao', 'pw'])
def test_forces_are_the_derivative_of_the_energy(mode, tiny_model):
    """As exactly as GPAW's own: where its grid makes forces differ from slopes, that difference is common to both."""
    parameters = DZP if mode == 'lcao' else PLANE_WAVES
    model = tiny_model if mode == 'lcao' else build_model(Level(PLANE_WAVES, 'pw300'))
    atoms = water_box((1, 1, 1), seed=3)
    calc = OnePassGPAW(model, txt=None, **parameters)
    atoms.calc = calc
    forces_av = atoms.get_forces()
    own_av = calc.dft._calculate_forces() * units.Ha / units.Bohr
    a, v = np.unravel_index(abs(forces_av - own_av).argmax(), forces_av.shape)
    tight = GPAW(txt=None, **parameters | {'convergence': {'density': 1e-8, 'energy': 1e-9, 'eigenstates': 1e-10}})
    reference = atoms.copy()
    reference.calc = tight
    grid_error = reference.get_forces()[a, v] - slope(tight, atoms, a, v)
    error = forces_av[a, v] - slope(calc, atoms, a, v)
    correction = abs(forces_av - own_av)[a, v]
    assert correction > 0.1  # or nothing is tested
    assert abs(error - grid_error) < max(SAME_FORCE, 2e-3 * correction)


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


def test_dynamics_conserve_energy(tiny_model):
    """Some steps of NVE with a model that is far off: only exact derivatives can do that."""
    atoms = water_box((1, 1, 1), seed=3)
    atoms.calc = OnePassGPAW(tiny_model, txt=None)
    dynamics = VelocityVerlet(atoms, 0.25 * units.fs)
    totals = []
    dynamics.attach(lambda: totals.append(atoms.get_total_energy()))
    kinetic = []
    dynamics.attach(lambda: kinetic.append(atoms.get_kinetic_energy()))
    dynamics.run(12)
    assert np.ptp(kinetic) > 0.02
    assert np.ptp(totals) < 0.02 * np.ptp(kinetic) + 1e-3


@pytest.mark.parametrize('until', [{'forces': 1.0}, {'residual': 0.0}])
def test_bad_until(tiny_model, until):
    with pytest.raises(ValueError, match='until must be'):
        OnePassGPAW(tiny_model, until=until)


def test_needs_a_model(oracle):
    with pytest.raises(ValueError, match='needs a model'):
        OnePassGPAW(oracle, txt=None, **DZP)
