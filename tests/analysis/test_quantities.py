"""Each quantity against GPAW's own, for each calculation of conftest."""

import numpy as np
import pytest
from ase.build import bulk
from ase.units import Bohr
from gpaw.new import ase_interface

from ase_deepdensity.analysis.all_electron import all_electron_density
from ase_deepdensity.analysis.charges import compensation_charges
from ase_deepdensity.analysis.dipole import dipole_moment
from ase_deepdensity.analysis.potential import electrostatic_potential
from ase_deepdensity.analysis.pseudo import pseudo_density
from ase_deepdensity.codes.gpaw.require import MissingGPAWError
from ase_deepdensity.level import Level
from ase_deepdensity.state import PAWDensity
from tests.conftest import skewed_hydrogen_fluoride, water_molecule
from tests.tolerances import COMPENSATION_CHARGES, GPAW


def assert_close(actual, desired, tolerance=GPAW):
    """Largest deviation relative to the largest value."""
    actual, desired = np.asarray(actual), np.asarray(desired)
    assert actual.shape == desired.shape
    scale = np.abs(desired).max()
    assert scale > 0, 'a comparison of zeros tells nothing'
    assert np.abs(actual - desired).max() <= tolerance * scale


def test_dipole(calc, state):
    scale = max(np.abs(calc.get_dipole_moment()).max(), 0.1)
    assert np.abs(dipole_moment(state) - calc.get_dipole_moment()).max() <= GPAW * scale


def test_compensation_charges(calc, state):
    Q_aL = calc.dft.density.calculate_compensation_charge_coefficients()
    for Q_L, (_, gpaw_L) in zip(compensation_charges(state), Q_aL.items(), strict=True):
        assert_close(Q_L, gpaw_L * [1, Bohr, Bohr, Bohr, *[Bohr**2] * 5][: len(gpaw_L)])
    total = np.sqrt(4 * np.pi) * sum(Q_L[0] for Q_L in compensation_charges(state))
    assert_close(state.compensation_charge(), total)


@pytest.mark.parametrize('options', [{}, {'gridrefinement': 2}, {'skip_core': True}])
def test_all_electron_density(calc, state, options):
    assert_close(all_electron_density(state, **options), calc.get_all_electron_density(**options))


def test_all_electron_density_holds_all_electrons(state):
    n_R = all_electron_density(state)
    dv = state.atoms.get_volume() / n_R.size
    assert n_R.sum() * dv == pytest.approx(state.atoms.numbers.sum(), rel=GPAW)


@pytest.mark.parametrize('gridrefinement', [1, 2])
def test_pseudo_density(calc, state, gridrefinement):
    n_R = pseudo_density(state, gridrefinement=gridrefinement)
    assert_close(n_R, calc.get_pseudo_density(gridrefinement=gridrefinement), COMPENSATION_CHARGES)
    electrons = n_R.sum() * state.grid.dv / gridrefinement**3
    assert electrons == pytest.approx(state.number_of_electrons(), rel=1e-9)


def test_spin_components(magnetic_calc):
    state = PAWDensity.from_gpaw(magnetic_calc)
    for spin in 0, 1:
        n_R = magnetic_calc.get_pseudo_density(spin=spin)
        assert_close(pseudo_density(state, spin=spin), n_R, COMPENSATION_CHARGES)
        assert_close(all_electron_density(state, spin=spin), magnetic_calc.get_all_electron_density(spin=spin))
    assert np.abs(pseudo_density(state, spin=0)).sum() > 2 * np.abs(pseudo_density(state, spin=1)).sum()
    with pytest.raises(ValueError, match='spin must be None or 0 to 1, not 2'):
        pseudo_density(state, spin=2)


def test_electrostatic_potential(calc, state):
    assert_close(electrostatic_potential(state), calc.get_electrostatic_potential(), COMPENSATION_CHARGES)


FAST = {'xc': 'LDA', 'convergence': {'density': 1e-2, 'energy': 0.1, 'eigenstates': 1e-2}, 'txt': None}
CRYSTALS = {
    'hexagonal lcao': (bulk('Be', 'hcp', a=2.3, c=3.6), {'mode': 'lcao', 'h': 0.25}),
    'bcc fd': (bulk('Li', 'bcc', a=3.5), {'mode': 'fd', 'h': 0.28}),
    'triclinic lcao': (skewed_hydrogen_fluoride(), {'mode': 'lcao', 'h': 0.3, 'interpolation': 2}),
    'finer grid': (bulk('Si'), {'mode': 'pw', 'gpts': (20, 20, 20)}),
    'charged pw': (bulk('Si'), {'mode': {'name': 'pw', 'ecut': 200}, 'charge': 1.0}),
    'charged lcao': (bulk('Li', 'bcc', a=3.5), {'mode': 'lcao', 'h': 0.28, 'charge': 0.5}),
    'molecule pw': (water_molecule(1.5), {'mode': {'name': 'pw', 'ecut': 200}}),
}


@pytest.mark.parametrize('name', CRYSTALS)
def test_potential_and_density_in_every_mode(name):
    atoms, parameters = CRYSTALS[name]
    atoms = atoms.copy()
    atoms.calc = calc = ase_interface.GPAW(**FAST | parameters)
    atoms.get_potential_energy()
    state = PAWDensity.from_gpaw(calc)
    assert_close(pseudo_density(state), calc.get_pseudo_density(), COMPENSATION_CHARGES)
    assert_close(electrostatic_potential(state), calc.get_electrostatic_potential(), COMPENSATION_CHARGES)


def test_potential_by_gpaw(molecule_state, monkeypatch):
    """Where the level names a solver; a charged molecule; and an error where GPAW is missing."""
    named = Level(molecule_state.level.parameters | {'poissonsolver': {'name': 'fast', 'nn': 2}})
    ours_r = electrostatic_potential(molecule_state)
    other_r = electrostatic_potential(molecule_state.new(level=named))
    assert 1e-5 < np.abs(other_r - ours_r).max() / np.abs(ours_r).max() < 0.01
    ion = molecule_state.new(charge=1.0).normalized()
    assert electrostatic_potential(ion).min() < ours_r.min() - 1
    monkeypatch.setattr('ase_deepdensity.codes.gpaw.require.find_spec', lambda name: None)
    electrostatic_potential(molecule_state)
    with pytest.raises(
        MissingGPAWError, match=r'needs GPAW, which is not installed: pip install "ase_deepdensity\[gpaw'
    ):
        electrostatic_potential(ion)
    with pytest.raises(MissingGPAWError, match='the all-electron density needs GPAW'):
        all_electron_density(molecule_state)
