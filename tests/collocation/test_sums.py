"""What surrounds the compiled loops: threads, blocks without points, atoms beyond a zero boundary."""

import numpy as np
import pytest
import torch

from ase_deepdensity.collocation.on_grids import GridCollocation, grid_coordinates
from ase_deepdensity.collocation.superposition import superpose
from ase_deepdensity.grid import Grid
from tests.collocation.test_on_grids import BASIS, CELLS, coefficients, positions, reference
from tests.collocation.test_superposition import table  # noqa: F401
from tests.tolerances import EXACT


@pytest.fixture
def grid() -> Grid:
    return Grid(CELLS['skewed'], (13, 15, 20), (1, 1, 0))


@pytest.fixture
def threads():
    """Sets the number of threads, for the time of a test."""
    before = torch.get_num_threads()
    yield torch.set_num_threads
    torch.set_num_threads(before)


def test_threads_change_nothing(grid, table, threads):  # noqa: F811
    results = []
    for number in 1, 3, 50:  # 50: more than there are planes or atoms
        threads(number)
        c_lanm = [c.requires_grad_() for c in coefficients()]
        density_R = GridCollocation(BASIS, grid, torch.float64)(torch.from_numpy(positions(grid.cell_cv)), c_lanm)
        gradients = torch.autograd.grad(density_R.square().sum(), c_lanm)
        n_R = superpose(grid, positions(grid.cell_cv), np.array([1, 1, 1]), {1: table})
        results.append([density_R.detach().numpy(), n_R, *(g.numpy() for g in gradients)])
    for others in results[1:]:
        for x, y in zip(results[0], others, strict=True):
            np.testing.assert_allclose(y, x, rtol=0, atol=EXACT * np.abs(x).max())


@pytest.mark.parametrize('axis', [0, 1, 2])
def test_block_without_points(grid, table, axis):  # noqa: F811
    stop_c = grid.stop_c.copy()
    stop_c[axis] = grid.start_c[axis]
    empty = grid.new(start_c=grid.start_c, stop_c=stop_c)
    c_lanm = [c.requires_grad_() for c in coefficients()]
    density_R = GridCollocation(BASIS, empty, torch.float64)(torch.from_numpy(positions(grid.cell_cv)), c_lanm)
    assert density_R.shape == empty.shape and 0 in empty.shape
    assert not any(g.any() for g in torch.autograd.grad(density_R.sum(), c_lanm))
    assert superpose(empty, positions(grid.cell_cv), np.array([1, 1, 1]), {1: table}).shape == empty.shape


def test_atoms_beyond_a_zero_boundary(grid):
    """Their tails reach into the cell; those farther off than that give nothing."""
    position_av, c_lanm = positions(grid.cell_cv), coefficients()
    position_av[0] -= 0.3 * grid.cell_cv[2]
    position_av[1] += 0.9 * grid.cell_cv[2]
    position_av[2] += 9.0 * grid.cell_cv[2]
    density_R = GridCollocation(BASIS, grid, torch.float64)(torch.from_numpy(position_av), c_lanm)
    expected_R = reference(grid, position_av, c_lanm)
    assert expected_R.any()
    np.testing.assert_allclose(density_R, expected_R, rtol=0, atol=EXACT * np.abs(expected_R).max())
    only_far = GridCollocation(BASIS, grid, torch.float64)(torch.from_numpy(position_av[2:]), [c[2:] for c in c_lanm])
    assert not only_far.any()


@pytest.mark.parametrize('bad', [[[0.0, np.nan, 0.0]], [0.0, 1.0, 2.0]])
def test_bad_positions(grid, bad):
    with pytest.raises(ValueError, match='positions must be finite numbers of the shape'):
        grid_coordinates(grid, np.array(bad))
