"""Densities at points of many systems against those on whole grids and plain torch."""

import numpy as np
import pytest
import torch

from ase_deepdensity.basis import SplineBasis
from ase_deepdensity.collocation import in_torch, sums
from ase_deepdensity.collocation.at_points import _reach, at_points
from ase_deepdensity.collocation.on_grids import GridCollocation
from ase_deepdensity.collocation.points import Points
from ase_deepdensity.grid import Grid
from tests.collocation.test_on_grids import BASIS, CELLS, PBC, coefficients
from tests.tolerances import EXACT, FLOAT32

SLICES = slice(0, 2), slice(2, 2), slice(2, 5)


@pytest.fixture(params=PBC)
def grids(request) -> list[Grid]:
    """Two atoms, none, and three; the functions reach over several images."""
    sizes = (7, 8, 9), (4, 4, 4), (9, 7, 11)
    cells = CELLS['skewed'], np.eye(3), CELLS['left-handed']
    return [Grid(cell_cv, size_c, PBC[request.param]) for cell_cv, size_c in zip(cells, sizes, strict=True)]


def several(natoms: int) -> list[torch.Tensor]:
    """Coefficients of two densities, (2, natoms, n, 2l+1) for each l."""
    return [torch.stack([c, 0.5 * c.flip(0) + 0.1]).requires_grad_() for c in coefficients(natoms)]


def positions(grids: list[Grid]) -> torch.Tensor:
    """Inside the cells and outside of them, and one atom on a grid point."""
    relpos_ac = np.random.default_rng(2).random((5, 3)) * 1.4 - 0.2
    position_av = np.concatenate([relpos_ac[a] @ grid.cell_cv for a, grid in zip(SLICES, grids, strict=True)])
    position_av[1] = grids[0].points()[3, 4, 5]
    return torch.from_numpy(position_av)


@pytest.mark.parametrize(('dtype', 'tolerance'), [(torch.float64, EXACT), (torch.float32, FLOAT32)])
def test_the_same_as_on_grids(grids, dtype, tolerance):
    points, index_tp = Points.draw(grids, 200, np.random.default_rng(0))
    assert len(points.system_p) == sum(map(len, index_tp)) == 200 + len(index_tp[1]) + 200
    position_av, c_lanm = positions(grids), coefficients(5)
    c_lxanm = [torch.stack([c, 0.5 * c.flip(0)]) for c in c_lanm]
    density_xp = at_points(BASIS, [c.to(dtype) for c in c_lxanm], position_av, SLICES, points, dtype)
    assert density_xp.dtype == dtype
    expected_xp = torch.cat(
        [
            torch.stack(
                [
                    GridCollocation(BASIS, grid, torch.float64)(position_av[a], [c[x, a] for c in c_lxanm]).flatten()
                    for x in range(2)
                ]
            )[:, index_p]
            for a, grid, index_p in zip(SLICES, grids, index_tp, strict=True)
        ],
        dim=1,
    )
    np.testing.assert_allclose(density_xp, expected_xp, rtol=0, atol=tolerance * float(expected_xp.abs().max()))
    in_torch_xp = in_torch.at_points(BASIS, c_lxanm, position_av, SLICES, points, max_pairs=10**4)
    np.testing.assert_allclose(in_torch_xp, expected_xp, rtol=0, atol=EXACT * float(expected_xp.abs().max()))


def test_derivatives(grids):
    points, _ = Points.draw(grids, 60, np.random.default_rng(1))
    weight_xp = torch.from_numpy(np.random.default_rng(3).normal(size=(2, len(points.system_p))))
    position_av, c_lxanm = positions(grids).requires_grad_(), several(5)
    compiled, expected = (
        torch.autograd.grad(
            (function(BASIS, c_lxanm, position_av, SLICES, points, **kwargs) * weight_xp).sum(), [position_av, *c_lxanm]
        )
        for function, kwargs in ((at_points, {'dtype': torch.float64}), (in_torch.at_points, {}))
    )
    for gradient, expected_gradient in zip(compiled, expected, strict=True):
        np.testing.assert_allclose(
            gradient, expected_gradient, rtol=0, atol=EXACT * float(expected_gradient.abs().max())
        )


def test_derivatives_are_those_of_differences():
    grid = Grid(CELLS['skewed'], (7, 8, 9), (1, 1, 0))
    points, _ = Points.draw([grid], 20, np.random.default_rng(1))
    position_av = torch.from_numpy(np.random.default_rng(2).random((2, 3)) @ grid.cell_cv).requires_grad_()

    def density_xp(R_av: torch.Tensor, *c: torch.Tensor) -> torch.Tensor:
        return at_points(BASIS, list(c), R_av, [slice(0, 2)], points, torch.float64)

    assert torch.autograd.gradcheck(density_xp, (position_av, *several(2)), atol=1e-5)


def test_more_pairs_than_are_sorted_together():
    """Many points and many images of one atom: the sums go on where memory was full."""
    grid = Grid(np.eye(3) * 1.3, (9, 9, 9))
    points, (index_p,) = Points.draw([grid], 700, np.random.default_rng(1))
    position_av, c_lxanm = torch.tensor([[0.2, 1.2, 0.7]], dtype=torch.float64), several(1)
    density_xp = at_points(BASIS, c_lxanm, position_av, [slice(0, 1)], points, torch.float64)
    weight_xp = torch.from_numpy(np.random.default_rng(3).normal(size=density_xp.shape))
    gradients = torch.autograd.grad((density_xp * weight_xp).sum(), c_lxanm)
    pairs_of_each = sums._pairs(
        _reach(position_av.numpy(), [slice(0, 1)], points, BASIS.cutoff), np.zeros((1, 1, 9, 1))
    )
    assert 4 / 3 * np.pi * BASIS.cutoff**3 / 1.3**3 * 700 > 2 * len(pairs_of_each.found_k)
    expected_R = GridCollocation(BASIS, grid, torch.float64)(position_av, [c[1] for c in c_lxanm])
    scale = float(expected_R.detach().abs().max())
    np.testing.assert_allclose(density_xp[1].detach(), expected_R.detach().flatten()[index_p], atol=EXACT * scale)
    transposed = sum((g * c).sum().item() for g, c in zip(gradients, c_lxanm, strict=True))
    assert transposed == pytest.approx((density_xp * weight_xp).sum().item())


def test_points_are_different_and_repeatable():
    grid = Grid(np.eye(3), (4, 5, 6), (1, 0, 1))
    first, second = (Points.draw([grid], 50, np.random.default_rng(7))[1][0] for _ in range(2))
    assert (first == second).all() and len(set(first)) == 50
    everything, (index_p,) = Points.draw([grid], 10**6, np.random.default_rng(7))
    assert (index_p == np.arange(np.prod(grid.shape))).all()
    np.testing.assert_allclose(everything.position_pv, grid.points().reshape(-1, 3), atol=1e-14)


def test_several_threads_give_the_same():
    grid = Grid(CELLS['skewed'], (11, 12, 13))
    points, _ = Points.draw([grid], 500, np.random.default_rng(1))
    position_av = torch.from_numpy(np.random.default_rng(2).random((5, 3)) @ grid.cell_cv)
    results, before = [], torch.get_num_threads()
    for nthreads in 1, 3:
        torch.set_num_threads(nthreads)
        R_av, c_lxanm = position_av.clone().requires_grad_(), several(5)
        density_xp = at_points(BASIS, c_lxanm, R_av, [slice(0, 5)], points, torch.float64)
        results.append([density_xp.detach(), *torch.autograd.grad(density_xp.square().sum(), [R_av, *c_lxanm])])
    torch.set_num_threads(before)
    for one, three in zip(*results, strict=True):
        np.testing.assert_allclose(one, three, rtol=1e-12, atol=1e-12)


def test_a_basis_of_lower_l():
    basis = SplineBasis(2.0, 4, 1)
    grid = Grid(np.eye(3) * 4, (8, 8, 8))
    points, (index_p,) = Points.draw([grid], 100, np.random.default_rng(1))
    c_lanm = [torch.randn(1, 4, 2 * l + 1, dtype=torch.float64) for l in range(2)]
    position_av = torch.tensor([[0.3, 3.9, 2.2]], dtype=torch.float64)
    (density_p,) = at_points(basis, [c[None] for c in c_lanm], position_av, [slice(0, 1)], points, torch.float64)
    expected_R = GridCollocation(basis, grid, torch.float64)(position_av, c_lanm)
    np.testing.assert_allclose(density_p, expected_R.flatten()[index_p], atol=1e-12)
