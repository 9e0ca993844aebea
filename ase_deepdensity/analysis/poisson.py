"""Poisson's equation −∇²φ = 4πρ: by finite differences as GPAW's real-space modes do, and refining of grids.

Lengths and units are the caller's: φ is in the unit of charge over that of length.
"""

from __future__ import annotations

from math import pi

import numpy as np
from scipy.fft import dst, fft, idst, ifft, irfft, rfft

from ase_deepdensity.grid import Grid

LAPLACIAN = 3 / 2, -3 / 20, 1 / 90
"""Weights of the points at distances 1, 2, 3 in a second derivative of sixth order; that of the point itself is −2 Σ.
(doi:10.1103/PhysRevB.50.11355)"""
MIDPOINTS = {
    1: (1 / 2,),
    2: (9 / 16, -1 / 16),
    3: (150 / 256, -25 / 256, 3 / 256),
    4: (1225 / 2048, -245 / 2048, 49 / 2048, -5 / 2048),
}
"""By number of points on either side: weights at distances 1/2, 3/2, … of the polynomial through all of them."""


def solve_by_differences(rho_R: np.ndarray, grid: Grid) -> np.ndarray:
    """φ of a charge density on a whole grid, periodic or zero at the boundaries, and a uniform neutralising background.

    The equation is solved exactly for the Laplacian of finite differences, which plane waves (on periodic axes) and
    sines (between zero boundaries) diagonalise.  Where all is periodic the mean of φ is zero.

    Raises
    ------
    ValueError
        An axis with zero boundaries that is not orthogonal to the others.
    """
    check_axes(grid)
    phi_R = (rho_R - rho_R.mean()).astype(complex)
    for c in range(3):
        phi_R = dst(phi_R, type=1, axis=c) if grid.zerobc_c[c] else fft(phi_R, axis=c)
    eigenvalue_k = -laplacian_eigenvalues(grid) / (4 * pi)
    near_zero_k = np.abs(eigenvalue_k) < 1e-10
    phi_R = np.where(near_zero_k, 0.0, phi_R / np.where(near_zero_k, 1.0, eigenvalue_k))
    for c in range(3):
        phi_R = idst(phi_R, type=1, axis=c) if grid.zerobc_c[c] else ifft(phi_R, axis=c)
    return phi_R.real


def check_axes(grid: Grid) -> None:
    """Raise a ValueError unless all axes with zero boundaries are orthogonal to the others."""
    if not orthogonal_c(grid)[grid.zerobc_c].all():
        raise ValueError(
            f'axes with zero boundaries must be orthogonal to the others; the cell is {grid.cell_cv.tolist()} Å with '
            f'zero boundaries {grid.zerobc_c.tolist()}'
        )


def orthogonal_c(grid: Grid) -> np.ndarray:
    """(3,) is this lattice vector orthogonal to the other two?"""
    metric_cc = grid.cell_cv @ grid.cell_cv.T
    result_c: np.ndarray = (np.abs(metric_cc) > 1e-10).sum(axis=0) == 1
    return result_c


def laplacian_eigenvalues(grid: Grid) -> np.ndarray:
    """Of ∇² by finite differences, for plane waves exp(iθ·i) and sines sin(θ·i) on the grid's points i.

        Σ_d a_d Σ_n 2 w_n (cos(n θ·M_d) − 1)

    with steps M_d and their weights a_d of :func:`laplacian_directions` and w_n of :data:`LAPLACIAN`.
    """
    theta_ck = [
        pi * np.arange(1, n) / n if zero else 2 * pi * np.arange(n) / n
        for n, zero in zip(grid.size_c.tolist(), grid.zerobc_c, strict=True)
    ]
    M_dc, a_d = laplacian_directions(grid.step_cv)
    result_k = np.zeros([len(theta_k) for theta_k in theta_ck])
    for M_c, a in zip(M_dc, a_d, strict=True):
        angle_k = sum(M * theta_k for M, theta_k in zip(M_c, np.ix_(*theta_ck), strict=True) if M)
        for n, weight in enumerate(LAPLACIAN, start=1):
            result_k += a * 2 * weight * (np.cos(n * angle_k) - 1)
    return result_k


def laplacian_directions(step_cv: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Steps M_d (ndirections, 3) on a grid and weights a_d with Σ_d a_d (M_d·s)_v (M_d·s)_w = δ_vw, as GPAW picks them.

    The fewest of the 13 directions to neighbours, in the order of |M·ŝ| with unit vectors ŝ along the steps s, for
    which there are weights: three where the steps are orthogonal.
    """
    M_ic = np.indices((3, 3, 3)).reshape(3, -1).T[-13:] - 1
    unit_cv = step_cv / np.linalg.norm(step_cv, axis=1)[:, np.newaxis]
    M_ic = M_ic[((M_ic @ unit_cv) ** 2).sum(axis=1).argsort()]
    pairs = np.array([(0, 0), (1, 1), (2, 2), (1, 2), (0, 2), (0, 1)])
    for number in range(3, 7):
        step_dv = M_ic[:number] @ step_cv
        product_pd = (step_dv[:, pairs[:, 0]] * step_dv[:, pairs[:, 1]]).T
        a_d, residuals, *_ = np.linalg.lstsq(product_pd, [1, 1, 1, 0, 0, 0], rcond=-1)
        if residuals.sum() < 1e-14:
            break
    return M_ic[:number], a_d


def refine_by_polynomials(n_R: np.ndarray, grid: Grid, points: int) -> np.ndarray:
    """A function on a whole grid at twice as many points along each axis: polynomials through the nearest points.

    Parameters
    ----------
    points
        On either side, 1 to 4: polynomials of degree 2 · points − 1.  Beyond zero boundaries the function is zero.
    """
    for c in range(3):
        n_R = np.moveaxis(_doubled(np.moveaxis(n_R, c, 0), bool(grid.zerobc_c[c]), points), 0, c)
    return n_R


def _doubled(n_i: np.ndarray, zero: bool, points: int) -> np.ndarray:
    """Along the first axis.  Between zero boundaries, whose points are left out, N − 1 points become 2N − 1."""
    pad = [(points, points)] + [(0, 0)] * (n_i.ndim - 1)
    if zero:  # the boundaries themselves, and zeros beyond
        n_i = np.pad(n_i, [(1, 1), *pad[1:]])
        padded_i, intervals = np.pad(n_i, pad), len(n_i) - 1
    else:
        padded_i, intervals = np.pad(n_i, pad, mode='wrap'), len(n_i)
    middle_i = sum(
        weight * (padded_i[points - k : points - k + intervals] + padded_i[points + 1 + k : points + 1 + k + intervals])
        for k, weight in enumerate(MIDPOINTS[points])
    )
    fine_i = np.empty((2 * intervals, *n_i.shape[1:]))
    fine_i[::2], fine_i[1::2] = n_i[:intervals], middle_i
    return fine_i[1:] if zero else fine_i


def refine_by_waves(n_R: np.ndarray, factor: int) -> np.ndarray:
    """A function on all points of a periodic cell at ``factor`` times as many along each axis: its Fourier series."""
    for c, size in enumerate(n_R.shape):
        n_G = np.moveaxis(rfft(n_R, axis=c), c, 0)
        if size % 2 == 0 and factor > 1:  # the wave that the grid cannot tell from its opposite is half of both
            n_G[size // 2] /= 2
        n_R = irfft(np.moveaxis(n_G, 0, c), n=factor * size, axis=c) * factor
    return n_R
