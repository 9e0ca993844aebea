"""What a density comes to on a grid, from its coefficients, against the sum over the points."""

import numpy as np
import pytest
import torch
from ase import Atoms

from ase_deepdensity.basis import RadialTable, SplineBasis
from ase_deepdensity.collocation.density import DensityEvaluator
from ase_deepdensity.collocation.lattice_sum import reaches_boundary_a, sum_of_expansion, sum_of_superposition
from ase_deepdensity.collocation.superposition import superpose
from ase_deepdensity.grid import Grid
from ase_deepdensity.network.contract import Coefficients

BASIS = SplineBasis(2.0, 8, 4)
CELLS = {
    'cubic': np.diag([4.0, 4.4, 4.8]),
    'triclinic': np.array([[4.0, 0.3, -0.5], [1.2, 4.4, 0.4], [-0.7, 0.9, 4.8]]),
}
SIZES = (20, 22, 24), (12, 13, 14)


def some_atoms(cell_cv: np.ndarray) -> Atoms:
    rng = np.random.default_rng(1)
    return Atoms('HOHCN', scaled_positions=rng.uniform(-1, 2, (5, 3)), cell=cell_cv, pbc=True)


def coefficients(natoms: int) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(2)
    return [torch.randn(natoms, BASIS.number, 2 * l + 1, generator=generator, dtype=torch.float64) for l in range(5)]


@pytest.mark.parametrize('size', SIZES, ids=str)
@pytest.mark.parametrize('cell', CELLS)
def test_sum_of_expansion(cell, size):
    atoms = some_atoms(CELLS[cell])
    grid, c_lanm = Grid.from_atoms(atoms, size), coefficients(len(atoms))
    output = Coefficients({}, torch.empty(0), [c_anm[None, None] for c_anm in c_lanm])
    density_R = DensityEvaluator(BASIS, torch.float64)(output, grid, torch.from_numpy(atoms.positions))
    points = float(density_R.sum()) * grid.dv
    size_of_it = float(density_R.abs().sum()) * grid.dv
    all_a = np.arange(len(atoms))
    assert sum_of_expansion(BASIS, grid, atoms.positions, c_lanm, all_a) == pytest.approx(points, abs=1e-4 * size_of_it)
    integral = sum_of_expansion(BASIS, grid.new(size_c=(400,) * 3), atoms.positions, c_lanm, all_a)
    assert abs(integral - points) > 3 * abs(points - sum_of_expansion(BASIS, grid, atoms.positions, c_lanm, all_a))


@pytest.mark.parametrize('size', SIZES, ids=str)
@pytest.mark.parametrize('cell', CELLS)
def test_sum_of_superposition(cell, size):
    atoms = some_atoms(CELLS[cell])
    r_g = np.linspace(0, 2.5, 60)
    shape_g = np.exp(-(r_g**2)) * (1 - (r_g / 2.5) ** 2) ** 2
    tables = {Z: RadialTable.fit(r_g, Z * shape_g, 64) for Z in (1, 6, 7, 8)}
    grid = Grid.from_atoms(atoms, size)
    points = superpose(grid, atoms.positions, atoms.numbers, tables).sum() * grid.dv
    assert sum_of_superposition(grid, atoms.positions, atoms.numbers, tables) == pytest.approx(points, rel=1e-6)


def test_which_atoms_a_boundary_cuts():
    grid = Grid(np.diag([4.0, 4.0, 4.0]), (20, 20, 20), (False, True, False))
    positions_av = np.array([[2.0, 0.1, 2.0], [0.9, 2.0, 2.0], [2.0, 2.0, 3.2], [2.0, 2.0, 2.9]])
    assert reaches_boundary_a(grid, positions_av, 1.0).tolist() == [False, True, True, False]
    assert not reaches_boundary_a(grid.new(zerobc_c=(False,) * 3), positions_av, 1.0).any()
