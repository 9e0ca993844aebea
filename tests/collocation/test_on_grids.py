"""The compiled kernels against plain torch, over cells, boundaries, blocks and precisions."""

import numpy as np
import pytest
import torch

from ase_deepdensity.basis import SplineBasis
from ase_deepdensity.collocation import in_torch
from ase_deepdensity.collocation.on_grids import GridCollocation
from ase_deepdensity.grid import Grid
from tests.tolerances import EXACT, FLOAT32

BASIS = SplineBasis(3.4, 5, 4)
CELLS = {
    'orthorhombic': np.diag([3.0, 4.0, 5.0]),
    'skewed': np.array([[3.0, 0.5, 0.2], [-1.0, 4.0, 0.7], [0.3, 0.9, 5.0]]),
    'left-handed': np.array([[3.0, 0.5, 0.2], [-1.0, 4.0, 0.7], [0.3, -0.9, -5.0]]),
    'hexagonal': np.array([[4.0, 0.0, 0.0], [-2.0, 2 * 3**0.5, 0.0], [0.0, 0.0, 5.0]]),
}
PBC = {'periodic': (1, 1, 1), 'slab': (1, 1, 0), 'wire': (0, 1, 0), 'molecule': (0, 0, 0)}


def coefficients(natoms: int = 3, seed: int = 0) -> list[torch.Tensor]:
    rng = np.random.default_rng(seed)
    return [torch.from_numpy(rng.normal(size=(natoms, BASIS.number, 2 * l + 1))) for l in range(BASIS.lmax + 1)]


def positions(cell_cv: np.ndarray) -> np.ndarray:
    return np.random.default_rng(2).random((3, 3)) @ cell_cv


@pytest.fixture(params=CELLS)
def cell_cv(request) -> np.ndarray:
    return CELLS[request.param]


@pytest.fixture(params=PBC)
def grid(request, cell_cv) -> Grid:
    """Small cells: the functions reach over several images."""
    return Grid(cell_cv, (13, 15, 20), PBC[request.param])


def reference(grid: Grid, position_av: np.ndarray, c_lanm: list[torch.Tensor]) -> np.ndarray:
    return in_torch.collocate(BASIS, grid, torch.from_numpy(position_av), c_lanm).numpy()


@pytest.mark.parametrize(('dtype', 'tolerance'), [(torch.float64, EXACT), (torch.float32, FLOAT32)])
def test_density(grid, cell_cv, dtype, tolerance):
    position_av, c_lanm = positions(cell_cv), coefficients()
    expected_R = reference(grid, position_av, c_lanm)
    density_R = GridCollocation(BASIS, grid, dtype)(torch.from_numpy(position_av), [c.to(dtype) for c in c_lanm])
    assert density_R.dtype == dtype
    np.testing.assert_allclose(density_R, expected_R, rtol=0, atol=tolerance * np.abs(expected_R).max())


def test_transpose(grid, cell_cv):
    """⟨w, A c⟩ = ⟨Aᵀ w, c⟩, the gradient that training uses."""
    position_av, c_lanm = positions(cell_cv), [c.requires_grad_() for c in coefficients()]
    weight_R = torch.from_numpy(np.random.default_rng(3).normal(size=grid.shape))
    value = (GridCollocation(BASIS, grid, torch.float64)(torch.from_numpy(position_av), c_lanm) * weight_R).sum()
    gradients = torch.autograd.grad(value, c_lanm)
    other = sum((g * c).sum().item() for g, c in zip(gradients, c_lanm, strict=True))
    assert other == pytest.approx(value.item(), abs=1e-10 * float(weight_R.abs().sum()))


@pytest.mark.parametrize('in_parts', [False, True])
def test_derivatives_with_respect_to_positions(grid, cell_cv, in_parts):
    """Exact ones: those of plain torch, which are checked against differences below."""
    position_av, c_lanm = torch.from_numpy(positions(cell_cv)).requires_grad_(), coefficients()
    weight_R = torch.from_numpy(np.random.default_rng(3).normal(size=grid.shape))
    (expected_av,) = torch.autograd.grad(
        (in_torch.collocate(BASIS, grid, position_av, c_lanm) * weight_R).sum(), position_av
    )
    parts = list(grid.slabs(700)) if in_parts else [grid]
    weights = weight_R.split([part.shape[0] for part in parts])
    gradient_av = sum(
        torch.autograd.grad(
            (GridCollocation(BASIS, part, torch.float64)(position_av, c_lanm) * weight).sum(), position_av
        )[0]
        for part, weight in zip(parts, weights, strict=True)
    )
    np.testing.assert_allclose(gradient_av, expected_av, rtol=0, atol=EXACT * float(expected_av.abs().max()))


@pytest.mark.parametrize('cell', ['orthorhombic', 'skewed'])
def test_derivatives_are_those_of_differences(cell):
    """With an atom on a grid point, where r is zero."""
    grid = Grid(CELLS[cell], (7, 8, 9), (1, 1, 0))
    position_av = torch.from_numpy(np.stack([grid.points()[3, 4, 5], positions(grid.cell_cv)[1]])).requires_grad_()
    c_lanm = [c.requires_grad_() for c in coefficients(2)]
    collocation = GridCollocation(BASIS, grid, torch.float64)
    assert torch.autograd.gradcheck(lambda R_av, *c: collocation(R_av, list(c)), (position_av, *c_lanm), atol=1e-5)


def test_derivatives_in_single_precision(grid, cell_cv):
    position_av, c_lanm = torch.from_numpy(positions(cell_cv)).requires_grad_(), coefficients()
    weight_R = torch.from_numpy(np.random.default_rng(3).normal(size=grid.shape))
    exact, single = (
        torch.autograd.grad(
            (GridCollocation(BASIS, grid, dtype)(position_av, [c.to(dtype) for c in c_lanm]) * weight_R).sum(),
            position_av,
        )[0]
        for dtype in (torch.float64, torch.float32)
    )
    np.testing.assert_allclose(single, exact, rtol=0, atol=10 * FLOAT32 * float(exact.abs().max()))


def test_blocks_are_parts_of_the_whole(grid, cell_cv):
    position_av, c_lanm = positions(cell_cv), coefficients()
    position_av = torch.from_numpy(position_av)
    whole_R = GridCollocation(BASIS, grid, torch.float64)(position_av, c_lanm)
    slabs = [GridCollocation(BASIS, slab, torch.float64)(position_av, c_lanm) for slab in grid.slabs(700)]
    assert len(slabs) > 2
    np.testing.assert_allclose(torch.cat(slabs), whole_R, atol=1e-12)
    block = grid.new(start_c=(3, 4, 5), stop_c=(9, 11, 18))
    part = tuple(slice(a - z, b - z) for a, b, z in zip(block.start_c, block.stop_c, grid.start_c, strict=True))
    np.testing.assert_allclose(
        GridCollocation(BASIS, block, torch.float64)(position_av, c_lanm), whole_R[part], atol=1e-12
    )
    np.testing.assert_allclose(reference(block, position_av.numpy(), c_lanm), whole_R[part], atol=1e-11)


def test_position_outside_the_cell_is_an_image(cell_cv):
    grid = Grid(cell_cv, (13, 15, 20))
    position_av, c_lanm = positions(cell_cv), coefficients()
    moved_av = position_av + np.array([[2, 0, -1], [0, 0, 0], [-3, 1, 1]]) @ cell_cv
    a, b = (
        GridCollocation(BASIS, grid, torch.float64)(torch.from_numpy(p_av), c_lanm) for p_av in (position_av, moved_av)
    )
    np.testing.assert_allclose(a, b, atol=1e-11)


def test_no_atoms():
    grid = Grid(np.eye(3) * 4, (8, 8, 8))
    assert not GridCollocation(BASIS, grid)(
        torch.zeros(0, 3, dtype=torch.float64), [c[:0].float() for c in coefficients()]
    ).any()


def test_fewer_angular_momenta_than_the_kernels_have():
    grid, basis = Grid(CELLS['skewed'], (13, 15, 20)), SplineBasis(3.4, 5, 1)
    position_av, c_lanm = positions(grid.cell_cv), coefficients()
    density_R = GridCollocation(basis, grid, torch.float64)(torch.from_numpy(position_av), c_lanm[:2])
    others = [torch.zeros_like(c) for c in c_lanm[2:]]
    np.testing.assert_allclose(density_R, reference(grid, position_av, [*c_lanm[:2], *others]), atol=1e-10)


def test_norms_and_overlaps():
    """On a grid that resolves the functions, ∫ χχ' is what the basis says."""
    basis = SplineBasis(3.0, 4, 4)
    grid = Grid(np.eye(3) * 6.5, (80, 80, 80))
    collocation = GridCollocation(basis, grid, torch.float64)
    position_av = torch.tensor([[3.23, 3.2, 3.3]], dtype=torch.float64)
    for l in range(5):
        chi_nR = []
        for n in range(4):
            c_lanm = [torch.zeros(1, 4, 2 * k + 1, dtype=torch.float64) for k in range(5)]
            c_lanm[l][0, n, l // 2] = 1
            chi_nR.append(collocation(position_av, c_lanm).flatten())
        products_nn = torch.stack(chi_nR) @ torch.stack(chi_nR).T * grid.dv
        np.testing.assert_allclose(products_nn, basis.overlap_nn(l), atol=2e-5)


def test_smooth_at_the_nucleus_and_at_the_end():
    """Value, slope and curvature along a line through the atom are continuous: what forces need."""
    basis = SplineBasis(2.0, 6, 4)
    r_p = np.linspace(1e-4, 3e-4, 3)
    slope_n = (basis.splines(r_p[2:])[0] - basis.splines(r_p[:1])[0]) / (r_p[2] - r_p[0])
    np.testing.assert_allclose(slope_n, 0, atol=1e-2)  # even functions
    end_pn = basis.splines(np.array([2.0 - 1e-3, 2.0, 2.5]))
    np.testing.assert_allclose(end_pn, 0, atol=1e-8)


def test_reference_in_small_pieces_and_its_gradient():
    grid = Grid(CELLS['skewed'], (9, 9, 12))
    position_av, c_lanm = torch.from_numpy(positions(grid.cell_cv)), coefficients()
    whole_R = in_torch.collocate(BASIS, grid, position_av, c_lanm)
    pieces_R = in_torch.collocate(BASIS, grid, position_av, c_lanm, max_pairs=500)
    np.testing.assert_allclose(pieces_R, whole_R, atol=1e-12)

    weight_R = torch.from_numpy(np.random.default_rng(3).normal(size=grid.shape))

    def value(p_av: torch.Tensor) -> torch.Tensor:
        return (in_torch.collocate(BASIS, grid, p_av, c_lanm) * weight_R).sum()

    (gradient_av,) = torch.autograd.grad(value(position_av.requires_grad_()), position_av)
    direction_av, h = torch.from_numpy(np.random.default_rng(4).normal(size=(3, 3))), 1e-5
    with torch.no_grad():
        numerical = (value(position_av + h * direction_av) - value(position_av - h * direction_av)) / (2 * h)
    assert float((gradient_av * direction_av).sum()) == pytest.approx(float(numerical), rel=1e-6)


@pytest.mark.skipif(not torch.cuda.is_available(), reason='no CUDA device')
def test_cuda():
    grid = Grid(CELLS['skewed'], (13, 15, 20))
    position_av, c_lanm = positions(grid.cell_cv), coefficients()
    density_R = in_torch.collocate(BASIS, grid, torch.from_numpy(position_av).cuda(), [c.cuda() for c in c_lanm])
    np.testing.assert_allclose(density_R.cpu(), reference(grid, position_av, c_lanm), atol=1e-10)


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        ((0.0, 5, 4), 'the cutoff of a basis must be a positive distance up to 100 Å, not 0.0'),
        ((True, 5, 4), 'the cutoff of a basis must be a positive distance up to 100 Å, not True'),
        ((float('inf'), 5, 4), 'positive distance'),
        ((3.0, 1, 4), 'at least two radial functions, at most 256, not 1'),
        ((3.0, 5, 5), 'lmax must be from 0 to 4, not 5'),
    ],
)
def test_bad_bases(arguments, message):
    with pytest.raises(ValueError, match=message):
        SplineBasis(*arguments)
