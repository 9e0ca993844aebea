"""Compensation charges in space: Gaussians times real spherical harmonics, on grids and as plane waves.

    ρ(r) = Σ_aL Q^a_L g^a_l(|r − R^a|) Y_L,     g_l(r) = 2 / (Γ(l + 3/2) r_c^(2l+3)) · r^l exp(−r²/r_c²),

so that Q^a_L is the multipole ∫ r^l Y_L ρ dr of atom a (doi:10.1103/PhysRevB.71.035109, eq. 19).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import gamma, isqrt, pi, prod, sqrt

import numpy as np
import torch

from ase_deepdensity.basis.harmonics import solid_harmonics
from ase_deepdensity.grid import Grid

REACH = 6.2
"""In widths r_c: beyond it the Gaussians are below 10⁻¹⁶ of their maximum."""

AT_ONCE = 64
"""Atoms whose waves are held in memory."""


@dataclass(frozen=True)
class Multipoles:
    """What stands at the atoms."""

    position_av: np.ndarray
    """(natoms, 3) Å."""
    Q_aL: Sequence[np.ndarray]
    """(nL,) of each atom, electrons · Å^l."""
    width_a: np.ndarray
    """(natoms,) r_c, Å."""

    def on_grid(self, grid: Grid) -> np.ndarray:
        """ρ on a whole grid, electrons/Å³; each atom has its charge exactly, and its other multipoles none.

        Where a Gaussian is sampled too coarsely for that, it is scaled, and a part of it is taken off the others, as in
        GPAW.
        """
        rho_R = np.zeros(prod(grid.shape))
        for position_v, Q_L, width in zip(self.position_av, self.Q_aL, self.width_a, strict=True):
            index_p, vector_pv = grid.around(position_v, REACH * width)
            shape_pL = _shapes(vector_pv, width, isqrt(len(Q_L)) - 1)
            charge_L = shape_pL.sum(axis=0) * grid.dv
            shape_pL[:, 0] *= sqrt(4 * pi) / charge_L[0]
            shape_pL[:, 1:] -= shape_pL[:, :1] * (charge_L[1:] / sqrt(4 * pi))
            np.add.at(rho_R, index_p, shape_pL @ Q_L)
        return rho_R.reshape(grid.shape)

    def of_plane_waves(self, size_c: Sequence[int], cell_cv: np.ndarray) -> np.ndarray:
        """∫ ρ(r) exp(−iG·r) dr for the vectors G of :func:`reciprocal_vectors`, electrons.

        Σ_aL Q^a_L 4π (−i)^l / (2l+1)!! · G^l Y_L(Ĝ) exp(−G² r_c²/4) exp(−iG·R^a)
        """
        G_Gv = reciprocal_vectors(size_c, cell_cv)
        lmax = max(isqrt(len(Q_L)) for Q_L in self.Q_aL) - 1
        Y_GL = solid_harmonics(torch.from_numpy(G_Gv), lmax).numpy()
        rho_G = np.zeros(G_Gv.shape[:3], complex)
        for width in np.unique(self.width_a):
            atoms = np.flatnonzero(self.width_a == width)
            sum_G = np.zeros_like(rho_G)
            for L in range((lmax + 1) ** 2):
                Q_a = np.array([Q_L[L] if L < len(Q_L) else 0.0 for Q_L in (self.Q_aL[int(a)] for a in atoms)])
                if Q_a.any():
                    l = isqrt(L)
                    factor = 4 * pi * (-1j) ** l / prod(range(1, 2 * l + 2, 2))
                    sum_G += factor * Y_GL[..., L] * _structure_factor(self.position_av[atoms], Q_a, size_c, cell_cv)
            rho_G += sum_G * np.exp(-((G_Gv**2).sum(axis=-1)) * width**2 / 4)
        return rho_G


def reciprocal_vectors(size_c: Sequence[int], cell_cv: np.ndarray) -> np.ndarray:
    """(n0, n1, n2 // 2 + 1, 3) G of the coefficients of ``scipy.fft.rfftn`` on ``size_c`` points, Å⁻¹."""
    n0, n1, n2 = size_c
    k_Gc = np.stack(np.meshgrid(*_wave_numbers(n0, n1, n2), indexing='ij'), axis=-1)
    return 2 * pi * k_Gc @ np.linalg.inv(cell_cv).T


def _wave_numbers(n0: int, n1: int, n2: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    return np.fft.fftfreq(n0, 1 / n0), np.fft.fftfreq(n1, 1 / n1), np.fft.rfftfreq(n2, 1 / n2)


def _structure_factor(
    position_av: np.ndarray, Q_a: np.ndarray, size_c: Sequence[int], cell_cv: np.ndarray
) -> np.ndarray:
    """Σ_a Q_a exp(−iG·R_a): a product of three exponentials for each atom, :data:`AT_ONCE` atoms at a time."""
    n0, n1, n2 = size_c
    relpos_ac = position_av @ np.linalg.inv(cell_cv)
    sum_kk = np.zeros((n0 * n1, n2 // 2 + 1), complex)
    for first in range(0, len(Q_a), AT_ONCE):
        block = slice(first, first + AT_ONCE)
        phase_cak = [
            np.exp(-2j * pi * np.outer(relpos_ac[block, c], k_k)) for c, k_k in enumerate(_wave_numbers(n0, n1, n2))
        ]
        plane_akk = phase_cak[0][:, :, np.newaxis] * phase_cak[1][:, np.newaxis]
        sum_kk += plane_akk.reshape(-1, n0 * n1).T @ (Q_a[block, np.newaxis] * phase_cak[2])
    return sum_kk.reshape(n0, n1, -1)


def _shapes(vector_pv: np.ndarray, width: float, lmax: int) -> np.ndarray:
    """(npoints, nL) g_l(r) Y_L at vectors from the atom."""
    Y_pL = solid_harmonics(torch.from_numpy(vector_pv), lmax).numpy()
    l_L = [isqrt(L) for L in range(Y_pL.shape[1])]
    norm_L = np.array([2 / (gamma(l + 1.5) * width ** (2 * l + 3)) for l in l_L])
    shape_pL: np.ndarray = Y_pL * norm_L * np.exp(-(vector_pv**2).sum(axis=1) / width**2)[:, np.newaxis]
    return shape_pL
