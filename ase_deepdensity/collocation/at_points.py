"""An expansion in the basis → density at points of many systems, in one flat list, as steps of a training want it."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import numpy as np
import torch

from ase_deepdensity.basis import MAX_L, SplineBasis
from ase_deepdensity.collocation import in_torch, on_device, sums
from ase_deepdensity.collocation.on_grids import harmonics_in_powers, with_mirror
from ase_deepdensity.collocation.point_kernels import NQ, POWERS_qv, Reach
from ase_deepdensity.collocation.points import Points, images


def at_points(
    basis: SplineBasis,
    c_lxanm: list[torch.Tensor],
    position_av: torch.Tensor,
    slices: Sequence[slice],
    points: Points,
    dtype: torch.dtype = torch.float32,
) -> torch.Tensor:
    """(x, points) electrons/Å³: several densities of the same atoms; differentiable in coefficients and positions.

    Parameters
    ----------
    c_lxanm
        For each l the coefficients (x, natoms, n, 2l+1) of normalised functions, for the atoms of all systems.
    position_av
        (natoms, 3) Å, float64; its device is that of the work.
    slices
        For each system where its atoms are.
    dtype
        float32 or float64, of the work.
    """
    if not on_device.has_loops(position_av.device):
        return in_torch.at_points(basis, c_lxanm, position_av.to(dtype), slices, points)
    c_xanL = in_torch.of_plain_functions(basis, c_lxanm)
    C_xanq = c_xanL @ torch.from_numpy(_harmonics(basis.lmax)).to(c_xanL)
    C_xarq = with_mirror(C_xanq)
    density_xp: torch.Tensor = _CollocateAtPoints.apply(C_xarq, position_av, basis, slices, points, dtype)
    return density_xp


@lru_cache(maxsize=8)
def _harmonics(lmax: int) -> np.ndarray:
    """The weights (L, NQ) in rˡ Y_lm = Σ_q W xⁱ yʲ zᵏ."""
    flat_q = np.ravel_multi_index(tuple(POWERS_qv.T), (MAX_L + 1,) * 3)
    W_Lq = harmonics_in_powers(np.eye(3), lmax)[:, flat_q]
    return np.pad(W_Lq, ((0, 0), (0, NQ - W_Lq.shape[1])))


class _CollocateAtPoints(torch.autograd.Function):
    @staticmethod
    def forward(ctx, C_xarq, position_av, basis, slices, points, dtype):  # type: ignore[no-untyped-def]
        np_dtype = np.float64 if dtype == torch.float64 else np.float32
        ctx.C_xarq = np.ascontiguousarray(C_xarq.detach().numpy(), np_dtype)
        ctx.reach = _reach(position_av.detach().numpy(), slices, points, basis.cutoff)
        ctx.arguments = ctx.reach, basis.spacing, basis.cutoff, torch.get_num_threads()
        density_xp = np.zeros((len(ctx.C_xarq), len(points.system_p)), np_dtype)
        sums.add_at_points(density_xp, ctx.C_xarq, *ctx.arguments)
        return torch.from_numpy(density_xp)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, weight_xp):  # type: ignore[no-untyped-def]
        weight_xp = np.ascontiguousarray(weight_xp.numpy(), ctx.C_xarq.dtype)
        of_coefficients = of_positions = None
        if ctx.needs_input_grad[0]:
            moment_xarq = np.zeros_like(ctx.C_xarq)
            sums.integrate_points(moment_xarq, weight_xp, *ctx.arguments)
            of_coefficients = torch.from_numpy(moment_xarq)
        if ctx.needs_input_grad[1]:
            gradient_av = np.zeros((ctx.C_xarq.shape[1], 3))
            sums.point_gradients(gradient_av, weight_xp, ctx.C_xarq, *ctx.arguments)
            of_positions = torch.from_numpy(gradient_av)
        return of_coefficients, of_positions, None, None, None, None


def _reach(positions_av: np.ndarray, slices: Sequence[slice], points: Points, cutoff: float) -> Reach:
    """Images of the atoms of all systems, and which points they may be near."""
    natoms = len(positions_av)
    count_a, points_ax, image_tgv = np.zeros(natoms, np.int64), np.zeros((natoms, 2), np.int64), [np.zeros((0, 3))]
    for t, some in points.of_systems():
        atom_g, image_gv = images(points.grids[t], positions_av[slices[t]], cutoff)
        count_a[slices[t]] = np.bincount(atom_g, minlength=len(positions_av[slices[t]]))
        points_ax[slices[t]] = some.start, some.stop
        image_tgv.append(image_gv)
    last_a = count_a.cumsum()
    position_pv = points.position_pv.numpy()
    order_p = np.lexsort((position_pv[:, 0], points.system_p.numpy()))
    point_vp = np.ascontiguousarray(position_pv[order_p].T)
    return Reach(point_vp, order_p, np.concatenate(image_tgv), np.stack([last_a - count_a, last_a], 1), points_ax)
