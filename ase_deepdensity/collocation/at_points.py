"""An expansion in the basis → density at points of many systems, in one flat list, as steps of a training want it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import lru_cache

import numpy as np
import torch

from ase_deepdensity.basis import MAX_L, SplineBasis
from ase_deepdensity.collocation import in_torch, point_kernels, sums
from ase_deepdensity.collocation.on_grids import harmonics_in_powers, with_mirror
from ase_deepdensity.collocation.points import Points, images


def at_points(
    basis: SplineBasis,
    c_lanm: list[torch.Tensor],
    position_av: torch.Tensor,
    slices: Sequence[slice],
    points: Points,
    dtype: torch.dtype = torch.float32,
) -> torch.Tensor:
    """(points,) electrons/Å³; differentiable in coefficients and positions.

    Parameters
    ----------
    c_lanm
        For each l the coefficients (natoms, n, 2l+1) of normalised functions, for the atoms of all systems.
    position_av
        (natoms, 3) Å, float64; its device is that of the work.
    slices
        For each system where its atoms are.
    dtype
        float32 or float64, of the work.
    """
    if position_av.device.type != 'cpu':
        return in_torch.at_points(basis, c_lanm, position_av.to(dtype), slices, points)
    W_lmq = [torch.from_numpy(W_mq).to(dtype) for W_mq in _harmonics(basis.lmax)]
    parts = [
        (c_anm * torch.from_numpy(basis.norm_n(l)[:, np.newaxis]).to(c_anm)) @ W_mq.to(c_anm)
        for l, (c_anm, W_mq) in enumerate(zip(c_lanm, W_lmq, strict=True))
    ]
    C_apq = with_mirror(torch.stack(parts).sum(0))
    density_p: torch.Tensor = _AtPoints.apply(C_apq, position_av, basis, slices, points, dtype)
    return density_p


@lru_cache(maxsize=8)
def _harmonics(lmax: int) -> list[np.ndarray]:
    """For each l the weights (2l+1, 35) in rˡ Y_lm = Σ_q W x^i y^j z^k."""
    flat_q = np.ravel_multi_index(tuple(point_kernels.POWERS_qv.T), (MAX_L + 1,) * 3)
    return [W_mq[:, flat_q] for W_mq in harmonics_in_powers(np.eye(3), lmax)]


class _AtPoints(torch.autograd.Function):
    @staticmethod
    def forward(ctx, C_apq, position_av, basis, slices, points, dtype):  # type: ignore[no-untyped-def]
        ctx.basis, ctx.slices, ctx.points = basis, slices, points
        np_dtype = np.float64 if dtype == torch.float64 else np.float32
        ctx.C_apq = np.ascontiguousarray(C_apq.detach().numpy(), np_dtype)
        ctx.positions_av = position_av.detach().numpy()
        density_p = np.zeros(len(points.system_p), np_dtype)
        for atoms, some, near in _by_system(ctx):
            sums.add_at_points(
                density_p[some], ctx.C_apq[atoms], near, basis.spacing, basis.cutoff, torch.get_num_threads()
            )
        return torch.from_numpy(density_p)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, weight_p):  # type: ignore[no-untyped-def]
        weight_p = np.ascontiguousarray(weight_p.numpy(), ctx.C_apq.dtype)
        of_coefficients, of_positions = np.zeros_like(ctx.C_apq), np.zeros_like(ctx.positions_av)
        shape = ctx.basis.spacing, ctx.basis.cutoff, torch.get_num_threads()
        for atoms, some, near in _by_system(ctx):
            if ctx.needs_input_grad[0]:
                sums.integrate_points(of_coefficients[atoms], weight_p[some], near, *shape)
            if ctx.needs_input_grad[1]:
                sums.point_gradients(of_positions[atoms], weight_p[some], ctx.C_apq[atoms], near, *shape)
        return torch.from_numpy(of_coefficients), torch.from_numpy(of_positions), None, None, None, None


def _by_system(ctx) -> Iterator[tuple[slice, slice, sums.Near]]:  # type: ignore[no-untyped-def]
    """Where the atoms and the points of each system are, and what is near what."""
    position_pv = ctx.points.position_pv.numpy()
    for t, some in ctx.points.of_systems():
        atoms = ctx.slices[t]
        atom_g, position_gv = images(ctx.points.grids[t], ctx.positions_av[atoms], ctx.basis.cutoff)
        yield atoms, some, sums.Near(position_pv[some], atom_g, position_gv)
