"""The superposition of atoms: one spherical function per element, summed over atoms and their images."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import DTypeLike

from ase_deepdensity.basis import RadialTable
from ase_deepdensity.collocation import in_torch, sums
from ase_deepdensity.collocation.on_grids import grid_coordinates, lattice, line_axes
from ase_deepdensity.grid import Grid


def superposition(
    grid: Grid, position_av: torch.Tensor, number_a: torch.Tensor, tables: Mapping[int, RadialTable], dtype: torch.dtype
) -> torch.Tensor:
    """:func:`superpose` for tensors on any device, differentiable in the positions: (n0, n1, n2).

    ``dtype``: of the work and of what is returned.
    """
    if position_av.device.type != 'cpu':
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
    for number, s_ac, table, arguments in _of_each_element(grid, positions_av, numbers_a, tables):
        sums.add_radial(n_R, table.table_xp, table.x_step, table.cutoff, s_ac[numbers_a == number], *arguments)
    return n_R


def superposition_gradient(
    v_R: np.ndarray, grid: Grid, positions_av: np.ndarray, numbers_a: np.ndarray, tables: Mapping[int, RadialTable]
) -> np.ndarray:
    """Derivatives of Σ_R v_R n_R with respect to the positions, n the superposition of atoms: (natoms, 3), per Å.

    ``v_R``: (n0, n1, n2) on the grid; the other arguments are those of :func:`superpose`.
    """
    gradient_av = np.zeros((len(positions_av), 3))
    for number, s_ac, table, arguments in _of_each_element(grid, positions_av, numbers_a, tables):
        chosen_a = numbers_a == number
        gradient_av[chosen_a] = sums.radial_gradients(
            v_R, table.table_xp, table.x_step, table.cutoff, s_ac[chosen_a], *arguments
        )
    return gradient_av @ line_axes(grid)


def _of_each_element(
    grid: Grid, positions_av: np.ndarray, numbers_a: np.ndarray, tables: Mapping[int, RadialTable]
) -> Iterator[tuple[int, np.ndarray, RadialTable, tuple[Any, ...]]]:
    """Atomic number, coordinates of all atoms, table, and what the sums are told of grid and threads."""
    s_ac = grid_coordinates(grid, positions_av)
    arguments = lattice(grid), torch.get_num_threads()
    for number in np.unique(numbers_a):
        yield number, s_ac, tables[int(number)], arguments
