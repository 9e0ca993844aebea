"""The same sums as the compiled kernels, in plain torch: for any device, differentiable also in the positions.

The fast paths are tested against this one.  On GPUs it is used without Triton, for derivatives in the positions, at
points of lists, and for densities that a network computes point by point (:mod:`.on_device` tells what has kernels).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from math import prod

import numpy as np
import torch

from ase_deepdensity.basis import RadialTable, SplineBasis
from ase_deepdensity.basis.harmonics import solid_harmonics
from ase_deepdensity.basis.splines import splines
from ase_deepdensity.collocation.points import Points, images
from ase_deepdensity.grid import Grid
from ase_deepdensity.network.contract import Contribution

MAX_PAIRS = 2**21
"""Pairs of an atom and a grid point that are held at once."""
MAX_COMPUTED = 2**13
"""The same where a network computes with each pair."""


def collocate(
    basis: SplineBasis,
    grid: Grid,
    position_av: torch.Tensor,
    c_lanm: list[torch.Tensor],
    *,
    max_pairs: int = MAX_PAIRS,
) -> torch.Tensor:
    """Densities (..., n0, n1, n2) on a grid or a block of one, electrons/Å³.

    Parameters
    ----------
    position_av
        (natoms, 3) Å; its dtype and device are those of the work.
    c_lanm
        For each l the coefficients (..., natoms, n, 2l+1) of the normalised functions: of one density, or of several.
    max_pairs
        Number of pairs of an atom and a grid point that are held at once: it bounds the memory, not the result.
    """
    c_anL = of_plain_functions(basis, c_lanm).to(position_av)
    leading = c_anL.shape[:-3]
    c_xanL = c_anL.reshape(prod(leading), *c_anL.shape[-3:])
    density_xR = position_av.new_zeros(len(c_xanL), int(np.prod(grid.shape)) + 1)  # the last takes what is outside
    for atoms, r_apv, i_ap in _near_points(grid, position_av, basis.cutoff, max_pairs // basis.number):
        B_apn, Y_apL = splines(basis, r_apv.norm(dim=2)), solid_harmonics(r_apv, basis.lmax)
        value_xap = torch.einsum('apL, xanL, apn -> xap', Y_apL, c_xanL[:, atoms], B_apn)
        density_xR = density_xR.index_add(1, i_ap.flatten(), value_xap.flatten(1))
    return density_xR[:, :-1].view(*leading, *grid.shape)


def add_points(
    grid: Grid,
    position_av: torch.Tensor,
    contribution: Contribution,
    cutoff: float,
    *,
    max_pairs: int = MAX_COMPUTED,
) -> torch.Tensor:
    """Σ of what atoms contribute to the points within ``cutoff`` (Å), images included: (members, 1 or 2, n0, n1, n2).

    ``max_pairs`` bounds the memory where no gradient is wanted.
    """
    size = int(np.prod(grid.shape))
    nothing = contribution(torch.zeros(0, dtype=torch.int64, device=position_av.device), position_av[:0])
    density_esx = nothing.new_zeros(*nothing.shape[:2], size + 1)
    for atoms, r_apv, x_ap in _near_points(grid, position_av, cutoff, max_pairs):
        near_ap = (r_apv.detach().square().sum(2) < cutoff**2) & (x_ap < size)
        a_p, i_p = torch.nonzero(near_ap, as_tuple=True)
        value_esp = contribution(a_p + atoms.start, r_apv[a_p, i_p])
        density_esx = density_esx.index_add(2, x_ap[a_p, i_p], value_esp)
    return density_esx[:, :, :-1].unflatten(2, grid.shape)


def at_points(
    basis: SplineBasis,
    c_lxanm: list[torch.Tensor],
    position_av: torch.Tensor,
    slices: Sequence[slice],
    points: Points,
    *,
    max_pairs: int = MAX_PAIRS,
) -> torch.Tensor:
    """:func:`.at_points.at_points` for any device; the dtype of ``position_av`` is that of the work."""
    c_xanL = of_plain_functions(basis, c_lxanm).to(position_av)
    density_xp = position_av.new_zeros(len(c_xanL), len(points.system_p))
    size = max(1, max_pairs // (basis.number * c_xanL.shape[-1] * len(c_xanL)))
    for a_y, p_y, e_yv in _pairs(position_av, slices, points, basis.cutoff):
        for a_z, p_z, e_zv in zip(a_y.split(size), p_y.split(size), e_yv.split(size), strict=True):
            B_zn, Y_zL = splines(basis, (e_zv.square().sum(1) + 1e-24).sqrt()), solid_harmonics(e_zv, basis.lmax)
            density_xp = density_xp.index_add(1, p_z, torch.einsum('xznL, zn, zL -> xz', c_xanL[:, a_z], B_zn, Y_zL))
    return density_xp


def add_at_points(
    contribution: Contribution, position_av: torch.Tensor, slices: Sequence[slice], points: Points, cutoff: float
) -> torch.Tensor:
    """Σ of what atoms contribute to points within ``cutoff`` (Å): (members, 1 or 2, points)."""
    nothing = contribution(torch.zeros(0, dtype=torch.int64, device=position_av.device), position_av[:0])
    density_esp = nothing.new_zeros(*nothing.shape[:2], len(points.system_p))
    for a_x, p_x, e_xv in _pairs(position_av, slices, points, cutoff):
        order_x = a_x.argsort(stable=True)  # networks work atom by atom
        for a_y, p_y, e_yv in zip(*(x[order_x].split(MAX_COMPUTED) for x in (a_x, p_x, e_xv)), strict=True):
            density_esp = density_esp.index_add(2, p_y, contribution(a_y, e_yv))
    return density_esp


def of_plain_functions(basis: SplineBasis, c_lanm: list[torch.Tensor]) -> torch.Tensor:
    """Coefficients of rˡ B_n Y_lm, (..., n, L), from those of normalised functions, for each l (..., n, 2l+1)."""
    c_anL = torch.cat(c_lanm, dim=-1)
    return c_anL * torch.from_numpy(_norms(basis)).to(c_anL)


@lru_cache(maxsize=8)
def _norms(basis: SplineBasis) -> np.ndarray:
    """N_nl for each harmonic: (n, L)."""
    return np.concatenate([np.tile(basis.norm_n(l)[:, None], 2 * l + 1) for l in range(basis.lmax + 1)], axis=1)


def _pairs(
    position_av: torch.Tensor, slices: Sequence[slice], points: Points, cutoff: float
) -> Iterator[tuple[torch.Tensor, torch.Tensor, torch.Tensor]]:
    """Of each system the pairs of an atom, images counted, and a point within the cutoff.

    Indices of the atoms and of the points, and the vectors from the former to the latter, Å.
    """
    for t, some in points.of_systems():
        atoms, grid = slices[t], points.grids[t]
        atom_g, image_gv = images(grid, position_av[atoms].detach().cpu().double().numpy(), cutoff)
        near_pg = torch.cdist(points.position_pv[some], torch.from_numpy(image_gv).to(points.position_pv)) < cutoff
        p_x, g_x = near_pg.nonzero(as_tuple=True)
        a_x = torch.from_numpy(atom_g).to(position_av.device)[g_x] + atoms.start
        moved_av = position_av - position_av.detach()  # zero, with a gradient
        e_xv = (points.position_pv[some][p_x] - torch.from_numpy(image_gv).to(points.position_pv)[g_x]).to(position_av)
        yield a_x, p_x + some.start, e_xv - moved_av[a_x]


def superpose(
    grid: Grid,
    position_av: torch.Tensor,
    numbers_a: np.ndarray,
    tables: Mapping[int, RadialTable],
    *,
    max_pairs: int = MAX_PAIRS,
) -> torch.Tensor:
    """Σ_a n_Z(a)(|r − R_a|) on a grid or a block of one: (n0, n1, n2), in the unit of the tables."""
    density_x = position_av.new_zeros(int(np.prod(grid.shape)) + 1)
    for number in np.unique(numbers_a):
        table = tables[int(number)]
        table_xp = torch.from_numpy(table.table_xp).to(position_av)
        position_bv = position_av[torch.from_numpy(np.flatnonzero(numbers_a == number)).to(position_av.device)]
        for _, r_bpv, x_bp in _near_points(grid, position_bv, table.cutoff, max_pairs):
            r2_bp = r_bpv.square().sum(2)
            interval_bp = (r2_bp.detach() / table.x_step).long().clamp(max=len(table_xp) - 1)
            t_bp = r2_bp / table.x_step - interval_bp
            p0_bp, p1_bp, p2_bp, p3_bp = table_xp[interval_bp].unbind(2)
            value_bp = ((p0_bp * t_bp + p1_bp) * t_bp + p2_bp) * t_bp + p3_bp
            value_bp = torch.where(r2_bp < table.cutoff**2, value_bp, 0.0)
            density_x = density_x.index_add(0, x_bp.flatten(), value_bp.flatten())
    return density_x[:-1].view(grid.shape)


def _near_points(
    grid: Grid, position_av: torch.Tensor, cutoff: float, max_pairs: int
) -> Iterator[tuple[slice, torch.Tensor, torch.Tensor]]:
    """Some atoms at a time: which, vectors (atoms, points, 3) to the points near them, and where these are stored.

    The same offsets from the nearest grid point serve all atoms.
    """
    if len(position_av) == 0:
        return
    step_cv = torch.tensor(grid.step_cv).to(position_av)
    near_av = position_av.detach().double().numpy() if position_av.device.type == 'cpu' else None
    all_offset_pc = torch.from_numpy(_offsets(grid, near_av, cutoff)).to(position_av.device)
    number = max(1, max_pairs // max(1, len(all_offset_pc)))
    for start in range(0, len(position_av), number):
        atoms = slice(start, start + number)
        s_ac = torch.linalg.solve(step_cv.T, position_av[atoms].T).T
        for offset_pc in all_offset_pc.split(max_pairs):
            index_apc = s_ac.detach().round().long()[:, None] + offset_pc
            yield atoms, (index_apc - s_ac[:, None]) @ step_cv, _storage(grid, index_apc)


def _offsets(grid: Grid, position_av: np.ndarray | None, cutoff: float) -> np.ndarray:
    """(points, 3) steps from the grid point nearest to an atom to all that may be within the cutoff of one.

    Where nothing wraps around, steps that lead out of the block from every atom are left out, if ``position_av`` is
    given: of positions on a GPU it would have to be waited for.
    """
    reach = cutoff + np.linalg.norm(np.abs(grid.step_cv).sum(0)) / 2
    half_c = np.ceil(reach / grid.spacing_c).astype(int)
    first_c, last_c = -half_c, half_c
    if position_av is not None:
        nearest_ac = np.round(position_av @ np.linalg.inv(grid.step_cv)).astype(int)
        first_c = np.where(grid.zerobc_c, np.maximum(grid.start_c - nearest_ac.max(0) - 1, first_c), first_c)
        last_c = np.where(grid.zerobc_c, np.minimum(grid.stop_c - nearest_ac.min(0), last_c), last_c)
    ranges = [np.arange(first, last + 1) for first, last in zip(first_c, last_c, strict=True)]
    offset_pc = np.stack(np.meshgrid(*ranges, indexing='ij'), -1).reshape(-1, 3)
    return offset_pc[np.linalg.norm(offset_pc @ grid.step_cv, axis=1) <= reach]


def _storage(grid: Grid, index_apc: torch.Tensor) -> torch.Tensor:
    """Flat index of each grid point in the block; one past the last for points outside."""
    device = index_apc.device
    size_c, start_c, shape_c = (
        torch.as_tensor(np.array(x), device=device) for x in (grid.size_c, grid.start_c, grid.shape)
    )
    wraps_c = torch.as_tensor(~grid.zerobc_c, device=device)
    local_apc = torch.where(wraps_c, index_apc % size_c, index_apc) - start_c
    inside_ap = ((local_apc >= 0) & (local_apc < shape_c)).all(2)
    i0, i1, i2 = local_apc.unbind(2)
    return torch.where(inside_ap, (i0 * shape_c[1] + i1) * shape_c[2] + i2, int(np.prod(grid.shape)))
