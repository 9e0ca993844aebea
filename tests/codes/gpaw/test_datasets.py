import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk
from ase.units import Bohr

from ase_deepdensity.codes.gpaw.datasets import free_atom, setups
from ase_deepdensity.codes.gpaw.grid import grid as gpaws_grid
from ase_deepdensity.codes.gpaw.parameters import gpaw_parameters
from ase_deepdensity.grid import Grid
from ase_deepdensity.level import Level
from tests.conftest import skewed_hydrogen_fluoride, water_molecule
from tests.tolerances import SUPERPOSITION_PLANE_WAVES, SUPERPOSITION_REAL_SPACE


def superposition(atoms: Atoms, grid: Grid, tables) -> np.ndarray:
    """Sum of the tables at every point, over all images within reach: nothing clever."""
    n_R = np.zeros(grid.shape)
    for z, position_v in zip(atoms.numbers, atoms.positions, strict=True):
        r_g, n_g = tables[z]
        reach_c = np.ceil(r_g[-1] * np.linalg.norm(np.linalg.inv(grid.cell_cv), axis=0)).astype(int) + 1
        reach_c[grid.zerobc_c] = 0
        for image_c in np.ndindex(*(2 * reach_c + 1)):
            image_v = position_v + (np.array(image_c) - reach_c) @ grid.cell_cv
            n_R += np.interp(np.linalg.norm(grid.points() - image_v, axis=-1), r_g, n_g, right=0.0)
    return n_R


def _free_atom(level: Level, z: int) -> tuple[np.ndarray, np.ndarray]:
    setup = setups(level, [z])[0]
    return free_atom(setup, setup.calculate_initial_occupation_numbers(0.0, False, charge=0.0, nspins=1)[0])


STRUCTURES = {
    'molecule': water_molecule(),
    'skewed cell, smaller than the atoms': skewed_hydrogen_fluoride(),
    'metal': bulk('Al'),
}


@pytest.mark.parametrize('name', ['dzp', 'pw400'])
@pytest.mark.parametrize('structure', STRUCTURES)
def test_tables_sum_to_gpaws_start(name, structure):
    from gpaw.mpi import serial_comm

    level, atoms = Level.load(name), STRUCTURES[structure]
    grid = gpaws_grid(level, atoms)
    tables = {z: _free_atom(level, z) for z in set(atoms.numbers.tolist())}
    assert max(r_g[-1] for r_g, _ in tables.values()) > 2.5, 'larger than the small cells'
    builder = gpaw_parameters(level).dft_component_builder(atoms, comm=serial_comm)
    start = builder.density_from_superposition(builder.create_basis_set())
    reference_R = start.nt_sR.data[0] * Bohr**-3
    deviation = np.abs(superposition(atoms, grid, tables) - reference_R).max() / reference_R.max()
    assert deviation < (SUPERPOSITION_REAL_SPACE if name == 'dzp' else SUPERPOSITION_PLANE_WAVES)


def test_tables_hold_the_electrons_of_the_pseudo_atom():
    """∫ ñ = −√(4π) Q^a_00 of the atom's own density matrix, within what confines the basis functions.

    (Not at pw400: GPAW cuts the partial waves off without normalising them, aluminium lacks 0.06 electrons.)
    """
    from gpaw.utilities import unpack_density

    level = Level.load('dzp')
    for z in 1, 8, 13:
        r_g, n_g = _free_atom(level, z)
        assert n_g[-1] == pytest.approx(0.0, abs=1e-4) and (np.diff(r_g) > 0).all()
        setup = setups(level, [z])[0]
        D_sp = setup.initialize_density_matrix(setup.calculate_initial_occupation_numbers(0, False, 0, 1))
        Q = np.einsum('sij, ij ->', unpack_density(D_sp), setup.Delta_iiL[:, :, 0]) + setup.Delta0
        electrons = np.trapezoid(4 * np.pi * r_g**2 * n_g, r_g)
        assert electrons == pytest.approx(-np.sqrt(4 * np.pi) * Q, rel=5e-3)
