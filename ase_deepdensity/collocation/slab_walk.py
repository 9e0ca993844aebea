"""A density on slab after slab of a grid: each slab costs what the atoms cost that reach it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import torch

from ase_deepdensity.basis import RadialTable
from ase_deepdensity.collocation import in_torch, on_device
from ase_deepdensity.collocation.density import DensityEvaluator
from ase_deepdensity.collocation.on_device import FreeAtoms
from ase_deepdensity.collocation.on_grids import GridCollocation, grid_coordinates
from ase_deepdensity.collocation.superposition import superposition, with_superposition
from ase_deepdensity.grid import Grid
from ase_deepdensity.network.contract import Coefficients, Contribution, Output

GROUP = 256
"""Atoms whose polynomials are made and dropped together."""
THICKNESS = 2.0
"""Å, of the layer that the atoms of a group lie in."""


class SlabWalk:
    """Evaluates what a network says, with the superposition of atoms, on slabs cut along the first axis of a grid.

    The atoms are sorted into groups that lie in one thin layer.  On the CPU the polynomials of a group are made when a
    slab comes within its reach and dropped when one does not: whoever takes the slabs in order makes them once, and
    holds those of a few layers.

    Parameters
    ----------
    output
        Of a network, of one member, for one system.
    grid
        That the slabs are cut from.
    position_av
        (natoms, 3) Å, float64; its device is that of the work.
    number_a
        (natoms,) atomic numbers.
    tables
        Density of each isolated atom, by atomic number.
    """

    def __init__(
        self,
        evaluator: DensityEvaluator,
        output: Output,
        grid: Grid,
        position_av: torch.Tensor,
        number_a: np.ndarray,
        tables: Mapping[int, RadialTable],
    ):
        self.evaluator, self.output, self.tables = evaluator, output, tables
        self.position_av, self.number_a = position_av, number_a
        self._longest = max(table.cutoff for table in tables.values())
        self._s_ac = grid_coordinates(grid, position_av.detach().cpu().numpy())
        self._groups = [_Group(atoms_a) for atoms_a in _grouped(grid, self._s_ac)]

    def __call__(self, slab: Grid) -> torch.Tensor:
        """(1 or 2, n0, n1, n2) electrons/Å³, float64: the total, and the magnetisation where there is one."""
        if isinstance(self.output, Coefficients) and not on_device.has_loops(self.position_av.device):
            return self.output.density(_SlabPoints(self, slab, with_atoms=True))[0].double()
        near_a = np.flatnonzero(reaching_a(slab, self._s_ac[:, 0], self._longest))
        position_av, number_a = self.position_av[near_a], torch.from_numpy(self.number_a[near_a])
        nt_R = superposition(slab, position_av, number_a, self.tables, self.evaluator.dtype)
        density_sR = self.output.density(_SlabPoints(self, slab))[0]
        if isinstance(self.output, Coefficients):
            self.output.release()
        return with_superposition(nt_R, density_sR)

    def groups_near(self, slab: Grid, cutoff: float) -> Iterator[_Group]:
        """Those with atoms within ``cutoff`` (Å) of the slab; the others forget what they have made."""
        near_a = reaching_a(slab, self._s_ac[:, 0], cutoff)
        for group in self._groups:
            if near_a[group.atoms_a].any():
                yield group
            else:
                group.C_xaijpk = None


@dataclass
class _Group:
    """Some atoms and, where a slab is near, what the kernels make of their coefficients."""

    atoms_a: np.ndarray
    C_xaijpk: np.ndarray | None = None


@dataclass
class _SlabPoints:
    """The points of a slab: :class:`.Places`."""

    walk: SlabWalk
    slab: Grid
    with_atoms: bool = False
    """The superposition is part of the first density, where the compiled loops do not run."""

    def expansion(self, c_lesanm: list[torch.Tensor]) -> torch.Tensor:
        evaluator, position_av = self.walk.evaluator, self.walk.position_av
        if on_device.has_loops(position_av.device):
            return self._collocated(evaluator.collocation(self.slab), c_lesanm)
        index_a = self._near_a(max(evaluator.basis.cutoff, self.walk._longest))
        near_a = torch.from_numpy(index_a).to(position_av.device)
        near_lesanm = [c_esanm[:, :, near_a] for c_esanm in c_lesanm]
        atoms = FreeAtoms(self.walk.number_a[index_a], self.walk.tables) if self.with_atoms else None
        return on_device.collocate(evaluator.basis, self.slab, position_av[near_a], near_lesanm, evaluator.dtype, atoms)

    def pointwise(self, contribution: Contribution, cutoff: float) -> torch.Tensor:
        position_av, dtype = self.walk.position_av, self.walk.evaluator.dtype
        near_a = torch.from_numpy(self._near_a(cutoff)).to(position_av.device)

        def of_near(a_p: torch.Tensor, e_pv: torch.Tensor) -> torch.Tensor:
            return contribution(near_a[a_p], e_pv)

        return in_torch.add_points(self.slab, position_av[near_a].to(dtype), of_near, cutoff)

    def _near_a(self, cutoff: float) -> np.ndarray:
        return np.flatnonzero(reaching_a(self.slab, self.walk._s_ac[:, 0], cutoff))

    def _collocated(self, collocation: GridCollocation, c_lesanm: list[torch.Tensor]) -> torch.Tensor:
        leading, basis = c_lesanm[0].shape[:2], collocation.basis
        parts_x: list[list[tuple[np.ndarray, np.ndarray]]] = [[] for _ in range(leading.numel())]
        for group in self.walk.groups_near(self.slab, basis.cutoff):
            if group.C_xaijpk is None:
                group.C_xaijpk = collocation.polynomials([c.flatten(0, 1)[:, group.atoms_a] for c in c_lesanm])
            for parts, C_aijpk in zip(parts_x, group.C_xaijpk, strict=True):
                parts.append((C_aijpk, self.walk._s_ac[group.atoms_a]))
        return collocation.of_parts(parts_x).unflatten(0, leading)


def reaching_a(slab: Grid, s_a: np.ndarray, cutoff: float, c: int = 0) -> np.ndarray:
    """(natoms,) does an atom, or an image of it, reach the planes of a slab, or of a block along axis ``c``?

    ``s_a`` (natoms,): positions along that axis in grid steps, inside the cell where images count.
    """
    first, last, half = slab.start_c[c], slab.stop_c[c] - 1, cutoff / slab.spacing_c[c]
    if slab.zerobc_c[c]:
        near_a: np.ndarray = (s_a + half >= first) & (s_a - half <= last)
        return near_a
    after_a = (s_a - (first - half)) % slab.size_c[c]  # steps from where the reach begins
    return after_a <= last - first + 2 * half


def reaching_block_a(block: Grid, position_av: np.ndarray, cutoff: float) -> np.ndarray:
    """(natoms,) may an atom at ``position_av`` (Å), or an image of it, be within ``cutoff`` (Å) of a block?"""
    s_ac = grid_coordinates(block, position_av)
    near_a: np.ndarray = np.all([reaching_a(block, s_ac[:, c], cutoff, c) for c in range(3)], axis=0)
    return near_a


def _grouped(grid: Grid, s_ac: np.ndarray) -> Iterator[np.ndarray]:
    """Indices of atoms, at most :data:`GROUP` of one layer, neighbours of each other as far as that is easy."""
    layer_ac = (s_ac * grid.spacing_c // THICKNESS).astype(int)
    order_a = np.lexsort((s_ac[:, 2], layer_ac[:, 1], layer_ac[:, 0]))
    layer_a = layer_ac[order_a, 0]
    for atoms_a in np.split(order_a, np.flatnonzero(np.diff(layer_a)) + 1):
        for start in range(0, len(atoms_a), GROUP):
            yield atoms_a[start : start + GROUP]
