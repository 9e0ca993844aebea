"""An expansion in the basis → density on a grid, with its exact derivatives: the compiled loops as one operation."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from math import prod

import numpy as np
import torch

from ase_deepdensity.basis import MAX_L, SplineBasis
from ase_deepdensity.basis.harmonics import solid_harmonics
from ase_deepdensity.collocation import in_torch, sums
from ase_deepdensity.collocation.kernels import Lattice
from ase_deepdensity.grid import Grid


class GridCollocation:
    """Coefficients and positions → density on a grid or a part of one; differentiable in both.

    Parameters
    ----------
    dtype
        float32 or float64, of coefficients and densities.
    """

    def __init__(self, basis: SplineBasis, grid: Grid, dtype: torch.dtype = torch.float32):
        self.basis = basis
        self.grid = grid
        self.dtype = dtype
        self.axes_vv = line_axes(grid)
        self.harmonics_Lq = torch.from_numpy(_kept_harmonics(self.axes_vv.tobytes(), basis.lmax)).to(dtype)
        self._np_dtype = np.float64 if dtype == torch.float64 else np.float32
        self._arguments = basis.spacing, basis.cutoff, lattice(grid)

    def __call__(self, position_av: torch.Tensor, c_lanm: list[torch.Tensor]) -> torch.Tensor:
        """Densities (..., n0, n1, n2), electrons/Å³.

        Parameters
        ----------
        position_av
            (natoms, 3) Å, float64.
        c_lanm
            For each l the coefficients (..., natoms, n, 2l+1) of normalised functions: of one density, or of several.

        Raises
        ------
        ValueError
            See :func:`grid_coordinates`.
        """
        leading = c_lanm[0].shape[:-3]
        C_xaijpk = self._polynomials([c_anm.reshape(prod(leading), *c_anm.shape[-3:]) for c_anm in c_lanm])
        density_xR: torch.Tensor = _Collocate.apply(C_xaijpk, position_av, self)
        return density_xR.view(*leading, *self.grid.shape)

    def polynomials(self, c_lxanm: list[torch.Tensor]) -> np.ndarray:
        """What :meth:`of_parts` takes of some atoms: (x, natoms, 5, 5, rows, 5); the same for all blocks of a grid.

        ``c_lxanm``: for each l the coefficients (x, natoms, n, 2l+1) of normalised functions, of x densities.
        """
        return self._array(self._polynomials(c_lxanm))

    def of_parts(self, parts_x: Sequence[Sequence[tuple[np.ndarray, np.ndarray]]]) -> torch.Tensor:
        """Densities (x, n0, n1, n2) of atoms that come some at a time.

        ``parts_x``: for each density polynomials (natoms, 5, 5, rows, 5) and :func:`grid_coordinates` of some atoms.
        """
        density_xR = np.zeros((len(parts_x), *self.grid.shape), self._np_dtype)
        for rho_R, parts in zip(density_xR, parts_x, strict=True):
            sums.collocate(rho_R, parts, *self._arguments, torch.get_num_threads())
        return torch.from_numpy(density_xR)

    def _polynomials(self, c_lxanm: list[torch.Tensor]) -> torch.Tensor:
        """Coefficients of powers of u, v and w: (x, natoms, 5, 5, rows, 5), see :func:`.sums.collocate`."""
        c_xanL = in_torch.of_plain_functions(self.basis, c_lxanm)
        C_xapq = with_mirror(c_xanL @ self.harmonics_Lq.to(c_xanL))
        return C_xapq.unflatten(3, (MAX_L + 1,) * 3).permute(0, 1, 3, 4, 2, 5)

    def _density(self, C_xaijpk: torch.Tensor, s_ac: np.ndarray) -> torch.Tensor:
        return self.of_parts([[(self._array(C_aijpk), s_ac)] for C_aijpk in C_xaijpk])

    def _gradient_of_coefficients(self, weight_R: torch.Tensor, s_ac: np.ndarray) -> torch.Tensor:
        """The transpose: Σ_R weight_R times each of the kernels' functions, (natoms, 5, 5, rows, 5)."""
        C_aijpk = sums.integrate(
            self._array(weight_R), s_ac, sums.rows(self.basis.number), *self._arguments, torch.get_num_threads()
        )
        return torch.from_numpy(C_aijpk)

    def _gradient_of_positions(self, weight_R: torch.Tensor, C_aijpk: torch.Tensor, s_ac: np.ndarray) -> torch.Tensor:
        """d/dR of Σ_R weight_R ρ_R at fixed coefficients: (natoms, 3), per Å."""
        gradient_av = sums.position_gradients(
            self._array(weight_R), self._array(C_aijpk), s_ac, *self._arguments, torch.get_num_threads()
        )
        return torch.from_numpy(gradient_av @ self.axes_vv)

    def _array(self, tensor: torch.Tensor) -> np.ndarray:
        return np.ascontiguousarray(tensor.detach().numpy(), self._np_dtype)


class _Collocate(torch.autograd.Function):
    @staticmethod
    def forward(ctx, C_xaijpk, position_av, collocation):  # type: ignore[no-untyped-def]
        ctx.collocation = collocation
        ctx.s_ac = grid_coordinates(collocation.grid, position_av.detach().numpy())
        ctx.save_for_backward(C_xaijpk)
        return collocation._density(C_xaijpk, ctx.s_ac)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, weight_xR):  # type: ignore[no-untyped-def]
        (C_xaijpk,), collocation = ctx.saved_tensors, ctx.collocation
        of_coefficients = of_positions = None
        if ctx.needs_input_grad[0]:
            of_coefficients = torch.stack([collocation._gradient_of_coefficients(w_R, ctx.s_ac) for w_R in weight_xR])
        if ctx.needs_input_grad[1]:
            of_positions = sum(
                collocation._gradient_of_positions(w_R, C_aijpk, ctx.s_ac)
                for w_R, C_aijpk in zip(weight_xR, C_xaijpk, strict=True)
            )
        return of_coefficients, of_positions, None


def with_mirror(C_anq: torch.Tensor) -> torch.Tensor:
    """Rows as the kernels have them: the mirror image of n = 1, all n, and zeros behind the end; (..., rows, q)."""
    *leading, number, nq = C_anq.shape
    end_aq = C_anq.new_zeros(*leading, sums.rows(number) - number - 1, nq)
    return torch.cat([C_anq[..., 1:2, :], C_anq, end_aq], dim=-2)


def harmonics_in_powers(axes_vv: np.ndarray, lmax: int) -> np.ndarray:
    """The weights (L, 125) in rˡ Y_lm = Σ_ijk W uⁱ vʲ wᵏ, least squares; ``axes_vv``: unit vectors u, v, w as rows."""
    points_pv = np.random.default_rng(0).normal(size=(4 * (lmax + 1) ** 2, 3))
    powers_vpn = (points_pv @ axes_vv.T).T[:, :, None] ** np.arange(MAX_L + 1)
    powers_pq = np.einsum('pi, pj, pk -> pijk', *powers_vpn).reshape(len(points_pv), -1)
    degree_q = np.indices((MAX_L + 1,) * 3).sum(0).ravel()
    harmonics_pL = solid_harmonics(torch.from_numpy(points_pv), lmax).numpy()
    W_Lq = np.zeros((harmonics_pL.shape[1], len(degree_q)))
    for l in range(lmax + 1):
        of_l, of_degree = slice(l * l, (l + 1) ** 2), degree_q == l
        W_Lq[of_l, of_degree] = np.linalg.lstsq(powers_pq[:, of_degree], harmonics_pL[:, of_l], rcond=None)[0].T
    return W_Lq


@lru_cache(maxsize=64)
def _kept_harmonics(axes: bytes, lmax: int) -> np.ndarray:
    """The same, kept: many grids have the same axes, and a small cell takes no longer than this."""
    return harmonics_in_powers(np.frombuffer(axes).reshape(3, 3), lmax)


def line_axes(grid: Grid) -> np.ndarray:
    """(3, 3) unit vectors u, v, w as rows: w along the third step, v in the plane of the second and third.

    So u depends on i₀ alone, v on i₀ and i₁.
    """
    w_v = grid.step_cv[2] / np.linalg.norm(grid.step_cv[2])
    v_v = grid.step_cv[1] - (grid.step_cv[1] @ w_v) * w_v
    v_v /= np.linalg.norm(v_v)
    u_v = grid.step_cv[0] - (grid.step_cv[0] @ w_v) * w_v - (grid.step_cv[0] @ v_v) * v_v
    return np.array([u_v / np.linalg.norm(u_v), v_v, w_v])


def lattice(grid: Grid) -> Lattice:
    """A grid or a part of one for the kernels; images count across all but zero boundaries.

    The types and layouts are always the same, lest numba compile for others; skew within rounding counts as none.
    """
    step_cv = grid.step_cv @ line_axes(grid).T
    step_cv[np.abs(step_cv) < 1e-12 * np.abs(step_cv).max()] = 0.0
    size_c, start_c, stop_c = (np.array(x_c, np.int64) for x_c in (grid.size_c, grid.start_c, grid.stop_c))
    return Lattice(np.ascontiguousarray(step_cv), size_c, start_c, stop_c, ~grid.zerobc_c)


def grid_coordinates(grid: Grid, positions_av: np.ndarray) -> np.ndarray:
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
