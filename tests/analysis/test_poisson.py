"""Poisson's equation, refining of grids and Gaussian multipoles against what is known of them."""

from math import erf, pi, sqrt

import numpy as np
import pytest
from scipy.signal import resample

from ase_deepdensity.analysis.compensation import Multipoles, reciprocal_vectors
from ase_deepdensity.analysis.poisson import (
    laplacian_directions,
    laplacian_eigenvalues,
    refine_by_polynomials,
    refine_by_waves,
    solve_by_differences,
)
from ase_deepdensity.grid import Grid
from tests.tolerances import EXACT

SKEWED = np.array([[3.0, 0.2, 0.0], [0.9, 2.8, 0.3], [0.3, -0.4, 3.3]])
HEXAGONAL = np.array([[2.4, 0.0, 0.0], [-1.2, 1.2 * sqrt(3), 0.0], [0.0, 0.0, 3.1]])
FCC = np.array([[0.0, 2.0, 2.0], [2.0, 0.0, 2.0], [2.0, 2.0, 0.0]])
CELLS = {'skewed': SKEWED, 'hexagonal': HEXAGONAL, 'fcc': FCC, 'orthogonal': np.diag([2.0, 2.5, 3.0])}


@pytest.mark.parametrize('cell_cv', CELLS.values(), ids=CELLS)
def test_laplacian_of_long_waves(cell_cv):
    """−G² to sixth order, in any cell; three directions suffice in orthogonal ones."""
    grid = Grid(cell_cv, (30, 32, 36))
    directions = len(laplacian_directions(grid.step_cv)[1])
    assert directions == 3 if cell_cv is CELLS['orthogonal'] else 3 < directions <= 6
    G_v = 2 * pi * np.array([1, -1, 2]) @ np.linalg.inv(cell_cv).T
    assert laplacian_eigenvalues(grid)[1, -1, 2] == pytest.approx(-(G_v @ G_v), rel=1e-4)


def test_potential_of_a_gaussian_between_far_boundaries():
    """erf(r/w)/r near its centre, but for a constant that the walls make, and the neutralising background."""
    grid, width = Grid(np.eye(3) * 12.0, (60, 60, 60), (False,) * 3), 0.8
    r_R = np.linalg.norm(grid.points() - 6.0, axis=-1)
    rho_R = np.exp(-((r_R / width) ** 2)) / (pi**1.5 * width**3)
    images = Multipoles(np.array([[6.0, 6.0, 6.0]]), [np.array([sqrt(1 / (4 * pi))])], np.array([width]))
    assert images.on_grid(grid) == pytest.approx(rho_R, abs=1e-8)
    phi_R = solve_by_differences(rho_R, grid)
    exact_R = np.array([erf(r / width) / r if r > 0 else 2 / (sqrt(pi) * width) for r in r_R.flat]).reshape(r_R.shape)
    near_R = r_R < 1.5
    of_background_R = 2 * pi / 3 * r_R**2 / 12.0**3
    difference_R = (phi_R - exact_R - of_background_R)[near_R]
    assert np.ptp(difference_R) < 0.01 * exact_R.max()


def test_waves_and_sines_are_solutions():
    grid = Grid(np.diag([2.0, 2.5, 3.0]), (12, 14, 16), (True, False, True))
    x_R = grid.points() @ np.linalg.inv(grid.cell_cv)
    rho_R = np.cos(2 * pi * x_R[..., 0]) * np.sin(2 * pi * x_R[..., 1]) * np.cos(4 * pi * x_R[..., 2])
    k2 = (2 * pi / 2.0) ** 2 + (2 * pi / 2.5) ** 2 + (4 * pi / 3.0) ** 2
    assert solve_by_differences(rho_R, grid) == pytest.approx(4 * pi * rho_R / k2, rel=2e-2, abs=1e-12)
    exact_R = 4 * pi * rho_R / -laplacian_eigenvalues(grid)[1, 1, 2]
    assert solve_by_differences(rho_R, grid) == pytest.approx(exact_R, abs=EXACT)


def test_oblique_walls_are_refused():
    with pytest.raises(ValueError, match='must be orthogonal'):
        solve_by_differences(np.zeros((7, 8, 8)), Grid(SKEWED, (8, 8, 8), (False, True, True)))


@pytest.mark.parametrize('points', [1, 2, 3, 4])
def test_polynomials_are_interpolated_exactly(points):
    grid = Grid(np.diag([1.0, 1.0, 1.0]), (10, 10, 12), (True, True, False))
    fine = grid.new(size_c=2 * grid.size_c)

    def polynomial(block):
        z = block.points()[..., 2]
        return (2 * z - 1) ** (2 * points - 1)

    fine_R = refine_by_polynomials(polynomial(grid), grid, points)
    assert fine_R.shape == fine.shape
    inner = slice(2 * points, -2 * points)  # beyond the walls there are zeros
    assert fine_R[..., inner] == pytest.approx(polynomial(fine)[..., inner], abs=EXACT)


@pytest.mark.parametrize('factor', [1, 2, 3])
def test_refining_by_waves(factor):
    n_R = np.random.default_rng(1).normal(size=(4, 5, 6))
    expected_R = n_R
    for axis, size in enumerate(n_R.shape):
        expected_R = resample(expected_R, factor * size, axis=axis)
    assert refine_by_waves(n_R, factor) == pytest.approx(expected_R, abs=1e-12)


@pytest.fixture
def multipoles():
    rng = np.random.default_rng(2)
    return Multipoles(rng.uniform(-1, 4, size=(3, 3)), list(rng.normal(size=(3, 9))), np.array([0.5, 0.6, 0.5]))


@pytest.mark.parametrize('cell_cv', [SKEWED, np.diag([1.0, 1.1, 1.2])], ids=['skewed', 'smaller than the Gaussians'])
def test_plane_waves_are_those_of_the_grid(multipoles, cell_cv):
    size_c = [int(n) for n in np.ceil(8 * np.linalg.norm(cell_cv, axis=1))]
    grid = Grid(cell_cv, size_c)
    rho_G = np.fft.rfftn(multipoles.on_grid(grid)) * grid.dv
    np.testing.assert_allclose(rho_G, multipoles.of_plane_waves(size_c, cell_cv), atol=2e-6)
    assert reciprocal_vectors(size_c, cell_cv).shape == (*rho_G.shape, 3)


def test_moments_are_those_asked_for():
    """On a coarse grid the charge is exact, and of the others none has one."""
    grid = Grid(np.diag([4.0, 4.0, 4.0]), (16, 16, 16))
    Q_L = np.array([0.3, 0.1, -0.2, 0.4, 0.05, 0.0, -0.1, 0.2, 0.3])
    centre_v = np.array([2.03, 1.98, 2.05])
    for L in range(9):
        rho_R = Multipoles(centre_v[np.newaxis], [np.eye(9)[L] * Q_L], np.array([0.25])).on_grid(grid)
        charge = rho_R.sum() * grid.dv
        assert charge == pytest.approx(sqrt(4 * pi) * Q_L[0] if L == 0 else 0.0, abs=EXACT)
    rho_R = Multipoles(centre_v[np.newaxis], [Q_L], np.array([0.4])).on_grid(grid)
    moment_v = np.einsum('xyz, xyzv -> v', rho_R, grid.points() - centre_v) * grid.dv
    assert moment_v == pytest.approx(sqrt(4 * pi / 3) * Q_L[[3, 1, 2]], abs=1e-6)
