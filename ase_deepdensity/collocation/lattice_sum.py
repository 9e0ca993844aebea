"""The sum of a density over the points of a grid, without visiting them: Poisson's summation formula.

    Σ_R f(R − R_a) dv = Σ_G f̂(G) exp(−iG·R_a),      f̂(G) = ∫ f(r) exp(−iG·r) dr

over the lattice that is reciprocal to the *points*.  Its first term is the integral; the others say by how much the
grid's sum differs from it, and die out quickly.  For f = rˡ B_n(r) Y_lm(r̂),

    f̂ = 4π (−i)ˡ Y_lm(Ĝ) ∫ r^(l+2) B_n j_l(Gr) dr.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from math import pi

import numpy as np
import torch
from scipy.special import spherical_jn

from ase_deepdensity.basis import RadialTable, SplineBasis
from ase_deepdensity.basis.harmonics import solid_harmonics
from ase_deepdensity.collocation.in_torch import of_plain_functions
from ase_deepdensity.collocation.on_grids import grid_coordinates
from ase_deepdensity.grid import Grid

LONGEST = 100.0
"""1/Å: of the vectors G that count.  What is beyond is less than 1e-7 of the electrons of a model's density."""
COARSEST = 0.5
"""Å: of planes of grid points that are farther apart too many vectors count."""
SIGNS = 1, -1, -1, 1
"""Re[(−i)ˡ exp(−ix)] is this, for l mod 4, times cos x (l even) or sin x (l odd)."""
ATOMS = 1024
"""That are worked on at once: it bounds the memory."""


def reaches_boundary_a(grid: Grid, position_av: np.ndarray, cutoff: float) -> np.ndarray:
    """(natoms,) does a zero boundary cut the sphere of this radius (Å) around an atom?  Then the formula fails."""
    s_ac = grid_coordinates(grid, position_av)
    half_c = cutoff / grid.spacing_c
    beyond_ac = (s_ac - half_c <= 0) | (s_ac + half_c >= grid.size_c)
    cut_a: np.ndarray = (beyond_ac & grid.zerobc_c).any(1)
    return cut_a


def is_fine_enough(grid: Grid) -> bool:
    """Is the formula short on this grid?"""
    return bool(grid.spacing_c.max() <= COARSEST)


def sum_of_expansion(
    basis: SplineBasis,
    grid: Grid,
    position_av: np.ndarray,
    c_lanm: list[torch.Tensor],
    some_a: np.ndarray,
    release: Callable[[], None] = lambda: None,
) -> float:
    """Electrons that the expansion of some atoms has on a whole grid, images counted.

    Parameters
    ----------
    position_av
        (natoms, 3) Å.
    c_lanm
        For each l the coefficients (natoms, n, 2l+1) of normalised functions.
    some_a
        Indices of the atoms that count.
    release
        Is called now and then when coefficients have been read, as of :class:`.MappedFile`.
    """
    G_xv = _half_sphere(grid)
    F_xq = torch.from_numpy(_transforms(basis, G_xv))
    total = 0.0
    for start in range(0, len(some_a), ATOMS):
        some = some_a[start : start + ATOMS]
        c_aq = of_plain_functions(basis, [c_anm[some].cpu() for c_anm in c_lanm]).flatten(1).double()
        phase_ax = torch.from_numpy(position_av[some] @ G_xv.T)
        total += float((torch.cat([phase_ax.cos(), phase_ax.sin()], 1) * (c_aq @ F_xq.T)).sum())
        release()
    return total


def sum_of_superposition(
    grid: Grid, position_av: np.ndarray, number_a: np.ndarray, tables: Mapping[int, RadialTable]
) -> float:
    """Electrons that a superposition of atoms has on a whole grid, images counted."""
    G_xv = _half_sphere(grid)
    weight_x = np.where(G_xv.any(1), 2.0, 1.0)
    total = 0.0
    for number in np.unique(number_a):
        position_bv = position_av[number_a == number]
        cos_x = sum(
            np.cos(position_bv[start : start + ATOMS] @ G_xv.T).sum(0) for start in range(0, len(position_bv), ATOMS)
        )
        total += float(_table_transform(tables[int(number)], np.linalg.norm(G_xv, axis=1)) @ (weight_x * cos_x))
    return total


def _half_sphere(grid: Grid) -> np.ndarray:
    """(x, 3) vectors of the lattice reciprocal to the grid's points up to :data:`LONGEST`, one of each ±G, 1/Å."""
    b_cv = 2 * pi * np.linalg.inv(grid.step_cv).T
    most_c = (LONGEST * np.linalg.norm(grid.step_cv, axis=1) / (2 * pi)).astype(int)
    N_xc = np.stack(np.meshgrid(*(np.arange(-n, n + 1) for n in most_c), indexing='ij'), -1).reshape(-1, 3)
    N_xc = N_xc[len(N_xc) // 2 :]  # from zero on
    G_xv: np.ndarray = N_xc @ b_cv
    return G_xv[np.linalg.norm(G_xv, axis=1) <= LONGEST]


def _transforms(basis: SplineBasis, G_xv: np.ndarray) -> np.ndarray:
    """Of rˡ B_n Y_lm, (2x, n·L): what the cosines, and after them the sines of G·R_a are multiplied with."""
    G_x = np.linalg.norm(G_xv, axis=1)
    Y_xL = solid_harmonics(torch.from_numpy(G_xv / np.maximum(G_x, 1e-9)[:, None]), basis.lmax).numpy()
    Y_xL[G_x == 0, 1:] = 0.0
    weight_x = np.where(G_x > 0, 2.0, 1.0)
    r_p, weight_p = _quadrature(np.arange(basis.number + 2) * basis.spacing)
    B_pn = basis.splines(r_p)
    F_txnL = np.zeros((2, len(G_x), basis.number, Y_xL.shape[1]))
    for l in range(basis.lmax + 1):
        radial_xn = 4 * pi * (spherical_jn(l, G_x[:, None] * r_p) * weight_p * r_p ** (l + 2)) @ B_pn
        of_l = slice(l * l, (l + 1) ** 2)
        angular_xm = SIGNS[l % 4] * weight_x[:, None] * Y_xL[:, of_l]
        F_txnL[l % 2, :, :, of_l] = radial_xn[:, :, None] * angular_xm[:, None, :]
    return F_txnL.reshape(2 * len(G_x), -1)


def _table_transform(table: RadialTable, G_x: np.ndarray) -> np.ndarray:
    """4π ∫ r² n(r) sin(Gr)/(Gr) dr, electrons."""
    r_p, weight_p = _quadrature(np.sqrt(np.arange(len(table.table_xp) + 1) * table.x_step))
    weight_p = 4 * pi * weight_p * r_p**2 * table(r_p)
    F_x: np.ndarray = np.stack([np.sinc(G * r_p / pi) @ weight_p for G in G_x])
    return F_x


def _quadrature(knots_i: np.ndarray, order: int = 14) -> tuple[np.ndarray, np.ndarray]:
    """Gauss–Legendre in each interval: places and weights."""
    x_g, weight_g = np.polynomial.legendre.leggauss(order)
    width_i = np.diff(knots_i)[:, None]
    return (knots_i[:-1, None] + (x_g + 1) / 2 * width_i).ravel(), (weight_g / 2 * width_i).ravel()
