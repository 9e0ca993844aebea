"""Solid-harmonic Gaussians: the basis in which a model writes what it adds to the superposition of atoms.

    ρ(r) = Σ_I Σ_n Σ_lm  c_I,nlm  N_nl rˡ exp(−α_n r²) Y_lm(r̂),      r measured from atom I,   ∫ χ_nlm² = 1

with GPAW's real spherical harmonics (l=1: y, z, x).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from math import gamma, log

import numpy as np
import torch

from ase_deepdensity.evaluate import sums
from ase_deepdensity.evaluate.kernels import MAX_L
from ase_deepdensity.grid import Grid
from ase_deepdensity.harmonics import solid_harmonics


@dataclass(frozen=True)
class GaussianBasis:
    """Radial functions of the expansion, the same at every atom.

    Parameters
    ----------
    exponents
        α_n in Å⁻², ascending.
    lmax
        Highest angular momentum of each exponent.
    tail
        A function ends where exp(−α r²) falls to this value.
    """

    exponents: tuple[float, ...]
    lmax: tuple[int, ...]
    tail: float = 1e-5

    def __post_init__(self) -> None:
        if len(self.exponents) != len(self.lmax) or not self.exponents:
            raise ValueError(f'{len(self.exponents)} exponents and {len(self.lmax)} values of lmax: one each is needed')
        if list(self.exponents) != sorted(self.exponents) or self.exponents[0] <= 0:
            raise ValueError(f'exponents must be positive and ascending, not {self.exponents}')
        if not 0 <= min(self.lmax) <= max(self.lmax) <= MAX_L:
            raise ValueError(f'lmax must be from 0 to {MAX_L}, not {self.lmax}')
        if not 1e-30 < self.tail < 1:
            raise ValueError(f'tail must be from 1e-30 to 1, not {self.tail}')

    @cached_property
    def cutoff_n(self) -> np.ndarray:
        """Where each exponent ends, Å."""
        return np.sqrt(-log(self.tail) / np.array(self.exponents))

    @cached_property
    def exponents_l(self) -> tuple[np.ndarray, ...]:
        """Indices n of the exponents that have functions of angular momentum l."""
        return tuple(np.array([n for n, top in enumerate(self.lmax) if top >= l]) for l in range(max(self.lmax) + 1))

    def norm_n(self, l: int) -> np.ndarray:
        """N_nl for the exponents ``exponents_l[l]``: ∫ r^(2l+2) exp(−2αr²) dr = Γ(l+3/2) / (2 (2α)^(l+3/2))."""
        alpha_n = np.array(self.exponents)[self.exponents_l[l]]
        return np.sqrt(2 * (2 * alpha_n) ** (l + 1.5) / gamma(l + 1.5))

    def overlap_nn(self, l: int) -> np.ndarray:
        """Overlaps of the normalised functions of angular momentum l at one centre."""
        alpha_n = np.array(self.exponents)[self.exponents_l[l]]
        mean_nn = (alpha_n[:, None] + alpha_n) / 2
        return (np.sqrt(alpha_n[:, None] * alpha_n) / mean_nn) ** (l + 1.5)

    @cached_property
    def monomial_slices(self) -> list[tuple[int, int]]:
        """Where the monomials of each exponent lie along the kernels' axis q, ordered k, j, i with k+j+i ≤ l_n."""
        stops = np.cumsum([(l + 1) * (l + 2) * (l + 3) // 6 for l in self.lmax])
        return [(int(a), int(b)) for a, b in zip([0, *stops[:-1]], stops, strict=True)]

    def monomial_matrices(self, frame_vv: np.ndarray) -> list[np.ndarray]:
        """For each l the matrix (n, 2l+1, nq) that turns coefficients of χ_nlm into those of monomials.

        ``frame_vv`` holds the axes u, v, w as rows; the columns q are those of all exponents, one behind the other.
        """
        matrices = []
        for l, (kji, weights_mq) in enumerate(_harmonics_in_monomials(frame_vv, max(self.lmax))):
            index_n = self.exponents_l[l]
            matrix_nmq = np.zeros((len(index_n), 2 * l + 1, self.monomial_slices[-1][1]))
            for i, (n, norm) in enumerate(zip(index_n, self.norm_n(l), strict=True)):
                columns = [self.monomial_slices[n][0] + _position(*powers, self.lmax[n]) for powers in kji]
                matrix_nmq[i][:, columns] = norm * weights_mq
            matrices.append(matrix_nmq)
        return matrices


def _harmonics_in_monomials(frame_vv: np.ndarray, lmax: int) -> list[tuple[list[tuple[int, int, int]], np.ndarray]]:
    """For each l the powers (k, j, i) and the weights (2l+1, q) in rˡ Y_lm = Σ_q weight wᵏ vʲ uⁱ, by least squares."""
    points_pv = np.random.default_rng(0).normal(size=(4 * (lmax + 1) ** 2, 3))
    u_p, v_p, w_p = (points_pv @ frame_vv.T).T
    harmonics_pL = solid_harmonics(torch.from_numpy(points_pv), lmax).numpy()
    expansions = []
    for l in range(lmax + 1):
        kji = [(k, j, l - k - j) for k in range(l + 1) for j in range(l + 1 - k)]
        monomials_pq = np.stack([w_p**k * v_p**j * u_p**i for k, j, i in kji], axis=1)
        weights_qm = np.linalg.lstsq(monomials_pq, harmonics_pL[:, l * l : (l + 1) ** 2], rcond=None)[0]
        expansions.append((kji, weights_qm.T))
    return expansions


def _position(k: int, j: int, i: int, lmax: int) -> int:
    """Place of w^k v^j u^i among the monomials of degree ≤ lmax in the order k, j, i."""
    before_k = sum((lmax - kk + 1) * (lmax - kk + 2) // 2 for kk in range(k))
    before_j = sum(lmax - k - jj + 1 for jj in range(j))
    return before_k + before_j + i


class Collocation:
    """Basis and grid brought together: coefficients → density, and the transpose.

    Parameters
    ----------
    dtype
        float32 or float64, of coefficients and densities.
    """

    def __init__(self, basis: GaussianBasis, grid: Grid, dtype: torch.dtype = torch.float32):
        self.basis = basis
        self.grid = grid
        self.dtype = dtype
        frame_vv = frame(grid)
        self.matrices = [torch.from_numpy(m).to(dtype) for m in basis.monomial_matrices(frame_vv)]
        self._np_dtype = np.float64 if dtype == torch.float64 else np.float32
        self._arguments = (
            grid.step_cv @ frame_vv.T,
            np.array(basis.exponents),
            np.array(basis.lmax),
            basis.cutoff_n,
            *block(grid),
        )

    def monomials(self, coefficients: list[torch.Tensor]) -> torch.Tensor:
        """``coefficients``: for each l (natoms, n, 2l+1) → (natoms, nq)."""
        parts = [
            torch.einsum('anm, nmq -> aq', c_anm, matrix_nmq.to(c_anm))
            for c_anm, matrix_nmq in zip(coefficients, self.matrices, strict=True)
        ]
        return torch.stack(parts).sum(0)

    def __call__(self, s_ac: np.ndarray, coefficients: list[torch.Tensor]) -> torch.Tensor:
        """Density (n0, n1, n2) in electrons/Å³ of atoms at the fractional grid indices ``s_ac`` (see :func:`index`)."""
        return _Collocate.apply(self.monomials(coefficients), s_ac, self)

    def _collocate(self, C_aq: torch.Tensor, s_ac: np.ndarray) -> torch.Tensor:
        rho_R = np.zeros(self.grid.shape, self._np_dtype)
        sums.collocate(rho_R, self._array(C_aq), s_ac, *self._arguments, torch.get_num_threads())
        return torch.from_numpy(rho_R)

    def _integrate(self, rho_R: torch.Tensor, s_ac: np.ndarray) -> torch.Tensor:
        C_aq = np.zeros((len(s_ac), self.basis.monomial_slices[-1][1]), self._np_dtype)
        sums.integrate(C_aq, self._array(rho_R), s_ac, *self._arguments, torch.get_num_threads())
        return torch.from_numpy(C_aq)

    def _array(self, tensor: torch.Tensor) -> np.ndarray:
        return np.ascontiguousarray(tensor.detach().numpy(), self._np_dtype)


class _Collocate(torch.autograd.Function):
    @staticmethod
    def forward(ctx, C_aq, s_ac, collocation):  # type: ignore[no-untyped-def]
        ctx.s_ac, ctx.collocation = s_ac, collocation
        return collocation._collocate(C_aq, s_ac)

    @staticmethod
    def backward(ctx, drho_R):  # type: ignore[no-untyped-def]
        return ctx.collocation._integrate(drho_R, ctx.s_ac), None, None


def frame(grid: Grid) -> np.ndarray:
    """Rows u, v, w: w along the third step, v in the plane of the second and third, so that u depends on i₀ alone."""
    w_v = grid.step_cv[2] / np.linalg.norm(grid.step_cv[2])
    v_v = grid.step_cv[1] - (grid.step_cv[1] @ w_v) * w_v
    v_v /= np.linalg.norm(v_v)
    u_v = grid.step_cv[0] - (grid.step_cv[0] @ w_v) * w_v - (grid.step_cv[0] @ v_v) * v_v
    return np.array([u_v / np.linalg.norm(u_v), v_v, w_v])


def block(grid: Grid) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """size, start, stop and periodicity of a block for the kernels; images count across all but zero boundaries."""
    return grid.size_c, grid.start_c, grid.stop_c, ~grid.zerobc_c


def index(grid: Grid, positions_av: np.ndarray) -> np.ndarray:
    """(natoms, 3) positions in units of grid steps, wrapped into the cell along all axes without zero boundary.

    Raises
    ------
    ValueError
        Positions that are not finite or not of the shape (natoms, 3).
    """
    positions_av = np.asarray(positions_av, dtype=float)
    if positions_av.ndim != 2 or positions_av.shape[1] != 3 or not np.isfinite(positions_av).all():
        raise ValueError(f'positions must be finite numbers of the shape (natoms, 3), not {positions_av}')
    s_ac = np.linalg.solve(grid.step_cv.T, positions_av.T).T
    return np.ascontiguousarray(np.where(grid.zerobc_c, s_ac, s_ac % grid.size_c))


def even_tempered(first: float, last: float, number: int) -> tuple[float, ...]:
    """``number`` exponents in geometric progression."""
    return tuple(float(x) for x in np.geomspace(first, last, number))
