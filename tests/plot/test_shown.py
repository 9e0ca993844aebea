"""Differences of densities that pictures show."""

import numpy as np
import pytest
from ase import Atoms

from ase_deepdensity.plot.shown import shown_density
from ase_deepdensity.state import PAWDensity
from tests.tolerances import SUPERPOSITION_REAL_SPACE


def test_atoms_are_those_that_gpaw_starts_from(molecule_state):
    from ase.units import Bohr
    from gpaw.mpi import serial_comm

    from ase_deepdensity.codes.gpaw.parameters import gpaw_parameters

    builder = gpaw_parameters(molecule_state.level).dft_component_builder(molecule_state.atoms, comm=serial_comm)
    start = builder.density_from_superposition(builder.create_basis_set())
    expected_R = molecule_state.nt_sR[0] - start.nt_sR.data[0] * Bohr**-3
    difference_R = shown_density(molecule_state, difference_to='atoms')[1:, 1:, 1:]
    assert difference_R == pytest.approx(expected_R, abs=SUPERPOSITION_REAL_SPACE * molecule_state.nt_sR.max())
    assert abs(difference_R).max() > 0.05


def test_another_state_and_fragments(molecule_state):
    half = molecule_state.new(nt_sR=0.5 * molecule_state.nt_sR)
    whole_R = shown_density(molecule_state)
    assert shown_density(molecule_state, difference_to=half) == pytest.approx(0.5 * whole_R)
    parts = [_part(half, [0]), _part(half, [1, 2])]
    assert shown_density(molecule_state, difference_to=parts) == pytest.approx(0 * whole_R, abs=1e-12)
    with pytest.raises(ValueError, match='the fragments O \\+ O are not all of OH2'):
        shown_density(molecule_state, difference_to=[_part(half, [0])] * 2)


def test_other_grids_are_refused(molecule_state, skewed_calc):
    with pytest.raises(ValueError, match='on the same grid only'):
        shown_density(molecule_state, difference_to=PAWDensity.from_gpaw(skewed_calc))
    with pytest.raises(ValueError, match="with other states only, not with 'OH2'"):
        shown_density(molecule_state, difference_to=['OH2'])


def test_spin(magnetic_calc):
    state = PAWDensity.from_gpaw(magnetic_calc)
    spin_R = shown_density(state, 'spin')
    assert spin_R.sum() * state.grid.dv == pytest.approx(np.diff(state.nt_sR.sum(axis=(1, 2, 3)))[0] * -state.grid.dv)
    assert spin_R.max() > 0.1


def _part(state: PAWDensity, indices: list[int]) -> PAWDensity:
    atoms: Atoms = state.atoms[indices]
    return state.new(atoms=atoms, D_asii=[state.D_asii[a] for a in indices], atom_types=None)
