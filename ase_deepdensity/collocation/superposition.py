"""The superposition of atoms: one spherical function per element, summed over atoms and their images."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from numpy.typing import DTypeLike

from ase_deepdensity.basis import RadialTable
from ase_deepdensity.collocation import in_torch, on_device, sums
from ase_deepdensity.collocation.on_grids import grid_coordinates, lattice, line_axes
from ase_deepdensity.grid import Grid


def superposition(
    grid: Grid, position_av: torch.Tensor, number_a: torch.Tensor, tables: Mapping[int, RadialTable], dtype: torch.dtype
) -> torch.Tensor:
    """:func:`superpose` for tensors on any device, differentiable in the positions: (n0, n1, n2).

    ``dtype``: of the work and of what is returned.
    """
    if not on_device.has_loops(position_av.device):
        return in_torch.superpose(grid, position_av.to(dtype), number_a.cpu().numpy(), tables)
    n_R: torch.Tensor = _Superpose.apply(position_av, grid, number_a.numpy(), tables, dtype)
    return n_R


class _Superpose(torch.autograd.Function):
    @staticmethod
    def forward(ctx, position_av, grid, number_a, tables, dtype):  # type: ignore[no-untyped-def]
        positions_av = position_av.detach().numpy()
        ctx.arguments = grid, positions_av, number_a, tables
        np_dtype = np.float64 if dtype == torch.float64 else np.float32
        return torch.from_numpy(superpose(grid, positions_av, number_a, tables, np_dtype))

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, v_R):  # type: ignore[no-untyped-def]
        gradient_av = superposition_gradient(np.ascontiguousarray(v_R.numpy(), float), *ctx.arguments)
        return torch.from_numpy(gradient_av), None, None, None, None


def superpose(
    grid: Grid,
    positions_av: np.ndarray,
    numbers_a: np.ndarray,
    tables: Mapping[int, RadialTable],
    dtype: DTypeLike = np.float64,
) -> np.ndarray:
    """Σ_a n_Z(a)(|r − R_a|) on the grid, images included: (n0, n1, n2), in the unit of the tables.

    Parameters
    ----------
    positions_av, numbers_a
        (natoms, 3) Å, and (natoms,) atomic numbers.
    tables
        By atomic number.
    """
    n_R = np.zeros(grid.shape, dtype)
    sums.add_radial(n_R, _by_element(grid, positions_av, numbers_a, tables), lattice(grid), torch.get_num_threads())
    return n_R


def superposition_gradient(
    v_R: np.ndarray, grid: Grid, positions_av: np.ndarray, numbers_a: np.ndarray, tables: Mapping[int, RadialTable]
) -> np.ndarray:
    """Derivatives of Σ_R v_R n_R with respect to the positions, n the superposition of atoms: (natoms, 3), per Å.

    ``v_R``: (n0, n1, n2) on the grid; the other arguments are those of :func:`superpose`.
    """
    gradient_av = np.zeros((len(positions_av), 3))
    arguments = lattice(grid), torch.get_num_threads()
    parts = _by_element(grid, positions_av, numbers_a, tables)
    for number, part in zip(np.unique(numbers_a), parts, strict=True):
        gradient_av[numbers_a == number] = sums.radial_gradients(v_R, *part, *arguments)
    return gradient_av @ line_axes(grid)


def _by_element(
    grid: Grid, positions_av: np.ndarray, numbers_a: np.ndarray, tables: Mapping[int, RadialTable]
) -> list[tuple[RadialTable, np.ndarray]]:
    """Of each element, ascending, its table and where its atoms are (natoms of it, 3), in grid steps."""
    s_ac = grid_coordinates(grid, positions_av)
    return [(tables[int(number)], s_ac[numbers_a == number]) for number in np.unique(numbers_a)]


def with_superposition(nt_R: torch.Tensor, density_sR: torch.Tensor) -> torch.Tensor:
    """Superposition and what a network adds, (1 or 2, ...), together, float64."""
    total_R = nt_R.double() + density_sR[0]
    return total_R[None] if len(density_sR) == 1 else torch.stack([total_R, density_sR[1].double()])
