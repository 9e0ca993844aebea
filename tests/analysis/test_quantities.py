"""Each quantity against GPAW's own, for each calculation of conftest."""

import numpy as np
import pytest
from ase.units import Bohr

from ase_deepdensity.analysis.all_electron import all_electron_density
from ase_deepdensity.analysis.charges import compensation_charges
from ase_deepdensity.analysis.dipole import dipole_moment
from ase_deepdensity.analysis.potential import electrostatic_potential
from ase_deepdensity.analysis.pseudo import pseudo_density
from ase_deepdensity.state import PAWDensity
from tests.tolerances import GPAW


def assert_close(actual, desired):
    """Largest deviation relative to the largest value."""
    actual, desired = np.asarray(actual), np.asarray(desired)
    assert actual.shape == desired.shape
    scale = np.abs(desired).max()
    assert scale > 0, 'a comparison of zeros tells nothing'
    assert np.abs(actual - desired).max() <= GPAW * scale


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
    assert_close(
        pseudo_density(state, gridrefinement=gridrefinement), calc.get_pseudo_density(gridrefinement=gridrefinement)
    )


def test_spin_components(magnetic_calc):
    state = PAWDensity.from_gpaw(magnetic_calc)
    for spin in 0, 1:
        assert_close(pseudo_density(state, spin=spin), magnetic_calc.get_pseudo_density(spin=spin))
        assert_close(all_electron_density(state, spin=spin), magnetic_calc.get_all_electron_density(spin=spin))
    assert np.abs(pseudo_density(state, spin=0)).sum() > 2 * np.abs(pseudo_density(state, spin=1)).sum()
    with pytest.raises(ValueError, match='spin must be None or 0 to 1, not 2'):
        pseudo_density(state, spin=2)


def test_electrostatic_potential(calc, state):
    assert_close(electrostatic_potential(state), calc.get_electrostatic_potential())
