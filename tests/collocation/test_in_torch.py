"""The superposition of atoms in plain torch against the compiled one; the basis is in test_collocation."""

import numpy as np
import pytest
import torch

from ase_deepdensity.basis import RadialTable
from ase_deepdensity.collocation import in_torch
from ase_deepdensity.collocation.superposition import superpose, superposition_gradient
from ase_deepdensity.grid import Grid
from tests.collocation.test_on_grids import CELLS, positions
from tests.collocation.test_superposition import table  # noqa: F401

NUMBERS = np.array([1, 8, 1])


@pytest.fixture
def tables(table) -> dict[int, RadialTable]:  # noqa: F811
    return {1: table, 8: RadialTable(2 * table.x_step, 2**0.5 * table.cutoff, -0.3 * table.table_xp)}


@pytest.mark.parametrize('pbc', [(1, 1, 1), (1, 1, 0), (0, 0, 0)])
@pytest.mark.parametrize('cell', CELLS)
def test_superposition(cell, pbc, tables):
    grid = Grid(CELLS[cell], (11, 12, 15), pbc)
    position_av = positions(grid.cell_cv)
    for part in grid, grid.new(start_c=(2, 3, 4), stop_c=(9, 11, 12)):
        expected_R = in_torch.superpose(part, torch.from_numpy(position_av), NUMBERS, tables, max_pairs=2000)
        np.testing.assert_allclose(superpose(part, position_av, NUMBERS, tables), expected_R, rtol=0, atol=1e-13)


def test_gradient_with_respect_to_positions(tables):
    grid = Grid(CELLS['skewed'], (7, 8, 9))
    weight_R = torch.from_numpy(np.random.default_rng(3).normal(size=grid.shape))

    def value(position_av: torch.Tensor) -> torch.Tensor:
        return (in_torch.superpose(grid, position_av, NUMBERS, tables) * weight_R).sum()

    position_av = torch.from_numpy(positions(grid.cell_cv)).requires_grad_()
    assert torch.autograd.gradcheck(value, position_av, eps=1e-5, atol=1e-6, rtol=1e-6)
    (expected_av,) = torch.autograd.grad(value(position_av), position_av)
    gradient_av = superposition_gradient(weight_R.numpy(), grid, positions(grid.cell_cv), NUMBERS, tables)
    np.testing.assert_allclose(gradient_av, expected_av, atol=1e-11)
