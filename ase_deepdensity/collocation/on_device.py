"""Density on a grid where the compiled loops do not run: one operation of a GPU, the superposition of atoms included.

With Triton it is a kernel, for each tile of points a program that sums over the atoms which reach it
(:mod:`.triton_kernels`), and a second one for the derivatives in the coefficients.  Without Triton, and where
derivatives in the positions are wanted, plain torch does the same (:mod:`.in_torch`).
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache, lru_cache
from importlib.util import find_spec
from math import prod

import numpy as np
import torch

from ase_deepdensity.basis import RadialTable, SplineBasis
from ase_deepdensity.collocation import in_torch, sums
from ase_deepdensity.collocation.on_grids import harmonics_in_powers, with_mirror
from ase_deepdensity.collocation.tiles import Tiles
from ase_deepdensity.grid import Grid


@dataclass(frozen=True, eq=False)
class FreeAtoms:
    """What is superposed."""

    number_a: np.ndarray
    """(natoms,) atomic numbers."""
    tables: Mapping[int, RadialTable]
    """Density of each isolated atom, by atomic number."""


def has_loops(device: torch.device) -> bool:
    """Whether the compiled loops (:mod:`.sums`) do the work on a device."""
    return device.type == 'cpu'


def has_triton(device: torch.device) -> bool:
    """Whether Triton's kernels run on a device: on GPUs where it is installed; elsewhere with TRITON_INTERPRET=1."""
    interprets = os.environ.get('TRITON_INTERPRET') == '1'
    return (device.type == 'cuda' or interprets) and _is_installed()


@cache
def _is_installed() -> bool:
    return find_spec('triton') is not None


def collocate(
    basis: SplineBasis,
    grid: Grid,
    position_av: torch.Tensor,
    c_lanm: Sequence[torch.Tensor],
    dtype: torch.dtype,
    atoms: FreeAtoms | None = None,
) -> torch.Tensor:
    """Densities (..., n0, n1, n2) on a grid or a block of one, electrons/Å³, with derivatives as those of the loops.

    Parameters
    ----------
    position_av
        (natoms, 3) Å, float64; its device is that of the work.
    c_lanm
        For each l the coefficients (..., natoms, n, 2l+1) of normalised functions, of one density or of several.
    dtype
        float32 or float64, of the work.
    atoms
        Whose superposition is added to the first of the densities.
    """
    leading = c_lanm[0].shape[:-3]
    c_lxanm = [c_anm.reshape(prod(leading), *c_anm.shape[-3:]) for c_anm in c_lanm]
    wants_positions = position_av.requires_grad and torch.is_grad_enabled()
    if wants_positions or not has_triton(position_av.device):
        density_xR = _in_torch(basis, grid, position_av.to(dtype), c_lxanm, atoms)
    elif len(position_av) == 0 or prod(grid.shape) == 0:
        density_xR = torch.zeros((prod(leading), *grid.shape), dtype=dtype, device=position_av.device)
    else:
        c_xanL = in_torch.of_plain_functions(basis, c_lxanm)
        C_xarq = with_mirror(c_xanL @ torch.from_numpy(_harmonics(basis.lmax)).to(c_xanL)).to(dtype)
        density_xR = _Collocate.apply(C_xarq, _Launch.of(basis, grid, position_av, dtype, atoms))
    return density_xR.view(*leading, *grid.shape)


def _in_torch(
    basis: SplineBasis,
    grid: Grid,
    position_av: torch.Tensor,
    c_lxanm: list[torch.Tensor],
    atoms: FreeAtoms | None,
) -> torch.Tensor:
    density_xR = in_torch.collocate(basis, grid, position_av, c_lxanm)
    if atoms is None:
        return density_xR
    n_R = in_torch.superpose(grid, position_av, atoms.number_a, atoms.tables)
    return torch.cat([density_xR[:1] + n_R, density_xR[1:]])


@lru_cache(maxsize=8)
def _powers(lmax: int) -> np.ndarray:
    """(NQ, 3) exponents of x, y and z, in the order in which the kernels have them."""
    return np.ascontiguousarray(np.argwhere(np.indices((lmax + 1,) * 3).sum(0) <= lmax))


@lru_cache(maxsize=8)
def _harmonics(lmax: int) -> np.ndarray:
    """The weights (L, NQ) in rˡ Y_lm / 6 = Σ_q W xⁱ yʲ zᵏ; the kernels have six times the B-splines."""
    flat_q = np.ravel_multi_index(tuple(_powers(lmax).T), (5,) * 3)
    return harmonics_in_powers(np.eye(3), lmax)[:, flat_q] / 6


@dataclass(frozen=True, eq=False)
class _Launch:
    """What the kernels are called with besides coefficients and densities."""

    tiles: Tiles
    lmax: int
    nrows: int
    npoints: int
    grid_i: torch.Tensor
    """int64: atoms, points of the block; along each axis size of the grid, points, tiles and window."""
    geometry_i: torch.Tensor
    """Steps of the grid (9), Å; the square of the cutoff, Å²; knots of the B-splines per Å."""
    atoms_i: tuple[torch.Tensor, ...]
    """Of the superposition: which element each atom is; the tables of all elements; for each element where its own
    begins, how many intervals it has, how many in 1 Å², and the square of its cutoff."""
    with_atoms: bool

    @classmethod
    def of(
        cls, basis: SplineBasis, grid: Grid, position_av: torch.Tensor, dtype: torch.dtype, atoms: FreeAtoms | None
    ) -> _Launch:
        device, natoms, npoints = position_av.device, len(position_av), prod(grid.shape)
        cutoff = basis.cutoff
        if atoms is not None:
            cutoff = max(cutoff, *(atoms.tables[int(number)].cutoff for number in np.unique(atoms.number_a)))
        tiles = Tiles.of(grid, position_av.detach(), cutoff, dtype)
        along_axes = grid.size_c, grid.shape, tiles.number_c, tiles.window_c
        numbers_i = [natoms, npoints, *(int(n) for n_c in along_axes for n in n_c)]
        geometry_i = [*grid.step_cv.ravel().tolist(), basis.cutoff**2, 1 / basis.spacing]
        return cls(
            tiles=tiles,
            lmax=basis.lmax,
            nrows=sums.rows(basis.number),
            npoints=npoints,
            grid_i=torch.tensor(numbers_i, dtype=torch.int64, device=device),
            geometry_i=torch.tensor(geometry_i, dtype=dtype, device=device),
            atoms_i=_superposed(atoms, device, dtype),
            with_atoms=atoms is not None,
        )

    @property
    def nq(self) -> int:
        return len(_powers(self.lmax))

    def density(self, C_xarq: torch.Tensor) -> torch.Tensor:
        """(x, points)."""
        from ase_deepdensity.collocation import triton_kernels

        tiles, density_xR = self.tiles, C_xarq.new_empty(len(C_xarq), self.npoints)
        with torch.cuda.device_of(C_xarq):
            triton_kernels.density[tiles.number, len(C_xarq)](
                density_xR, C_xarq, self.grid_i, self.geometry_i,
                tiles.origin_ac, tiles.away_ac, tiles.first_ac, tiles.pair_y, tiles.start_k, *self.atoms_i,
                ROWS=self.nrows, LMAX=self.lmax, NQ=self.nq, WITH_ATOMS=self.with_atoms, enable_fp_fusion=True,
            )  # fmt: skip
        return density_xR

    def moments(self, weight_xR: torch.Tensor) -> torch.Tensor:
        """The transpose: (x, natoms, rows, NQ)."""
        from ase_deepdensity.collocation import triton_kernels

        tiles, natoms, nx = self.tiles, len(self.tiles.away_ac), len(weight_xR)
        moment_xarq = weight_xR.new_empty(nx, natoms, self.nrows, self.nq)
        power_qv = torch.from_numpy(_powers(self.lmax)).to(weight_xR.device)
        with torch.cuda.device_of(weight_xR):
            triton_kernels.moments[natoms, nx * self.nq](
                moment_xarq, weight_xR, self.grid_i, self.geometry_i,
                tiles.origin_ac, tiles.away_ac, tiles.first_ac, tiles.count_ac, power_qv,
                ROWS=self.nrows, ALL_ROWS=1 << (self.nrows - 1).bit_length(), LMAX=self.lmax, NQ=self.nq,
                enable_fp_fusion=True,
            )  # fmt: skip
        return moment_xarq


class _Collocate(torch.autograd.Function):
    @staticmethod
    def forward(ctx, C_xarq, launch):  # type: ignore[no-untyped-def]
        ctx.launch = launch
        return launch.density(C_xarq.detach().contiguous())

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, weight_xR):  # type: ignore[no-untyped-def]
        return ctx.launch.moments(weight_xR.contiguous()), None


def _superposed(atoms: FreeAtoms | None, device: torch.device, dtype: torch.dtype) -> tuple[torch.Tensor, ...]:
    """See :attr:`_Launch.atoms_i`; without atoms some memory that is not read."""
    if atoms is None:
        nothing, none = torch.zeros(1, dtype=dtype, device=device), torch.zeros(1, dtype=torch.int64, device=device)
        return none, nothing, none, none, nothing, nothing
    numbers_z, element_a = np.unique(atoms.number_a, return_inverse=True)
    tables = tuple(atoms.tables[int(number)] for number in numbers_z)
    return torch.from_numpy(element_a).to(device), *_tables_of(tables, device, dtype)


@lru_cache(maxsize=4)
def _tables_of(tables: tuple[RadialTable, ...], device: torch.device, dtype: torch.dtype) -> tuple[torch.Tensor, ...]:
    """What the kernel has of each element, kept on the device."""
    count_z = [len(table.table_xp) for table in tables]
    first_z = np.cumsum([0, *count_z[:-1]])
    return (
        torch.from_numpy(np.concatenate([table.table_xp for table in tables])).to(device, dtype),
        torch.from_numpy(first_z).to(device),
        torch.tensor(count_z, device=device),
        torch.tensor([1 / table.x_step for table in tables], dtype=dtype, device=device),
        torch.tensor([table.cutoff**2 for table in tables], dtype=dtype, device=device),
    )
