"""Points of many systems in one flat list, and the images of atoms that reach them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch

from ase_deepdensity.grid import Grid


@dataclass(frozen=True, eq=False)
class Points:
    """Points of several systems, one system after the other."""

    position_pv: torch.Tensor
    """(points, 3) Å, float64, inside the cells."""
    system_p: torch.Tensor
    """(points,) index of the system, int64, ascending."""
    grids: tuple[Grid, ...]
    """For each system its grid: along which vectors images of the atoms count."""

    def to(self, device: torch.device | str) -> Points:
        """The same elsewhere."""
        return replace(self, position_pv=self.position_pv.to(device), system_p=self.system_p.to(device))

    @classmethod
    def draw(
        cls, grids: Sequence[Grid], number: int, rng: np.random.Generator | Sequence[np.random.Generator]
    ) -> tuple[Points, list[np.ndarray]]:
        """``number`` different points of each grid, or all if it has fewer; and for each grid their flat indices.

        Parameters
        ----------
        rng
            One for all grids, or one for each.
        """
        rng_t = [rng] * len(grids) if isinstance(rng, np.random.Generator) else rng
        size_t = [int(np.prod(grid.shape)) for grid in grids]
        index_tp = [
            np.sort(rng.choice(size, min(number, size), replace=False)) for rng, size in zip(rng_t, size_t, strict=True)
        ]
        position_tpv = [
            (np.stack(np.unravel_index(index_p, grid.shape), axis=1) + grid.start_c) @ grid.step_cv
            for grid, index_p in zip(grids, index_tp, strict=True)
        ]
        system_p = np.repeat(np.arange(len(grids)), [len(index_p) for index_p in index_tp])
        return cls(torch.from_numpy(np.concatenate(position_tpv)), torch.from_numpy(system_p), tuple(grids)), index_tp

    def of_systems(self) -> Iterator[tuple[int, slice]]:
        """Each system that has points, and where they are."""
        stop_t = self.system_p.bincount(minlength=len(self.grids)).cumsum(0).tolist()
        for t, (start, stop) in enumerate(zip([0, *stop_t], stop_t, strict=False)):
            if stop > start:
                yield t, slice(start, stop)


def images(grid: Grid, positions_av: np.ndarray, cutoff: float) -> tuple[np.ndarray, np.ndarray]:
    """All images of atoms that reach into the cell of a grid: which atom (images,), and where (images, 3), Å."""
    inverse_vc = np.linalg.inv(grid.cell_cv)
    relpos_ac = positions_av @ inverse_vc
    relpos_ac = np.where(grid.zerobc_c, relpos_ac, relpos_ac % 1)
    reach_c = cutoff * np.linalg.norm(inverse_vc, axis=0)
    most_c = np.where(grid.zerobc_c, 0, np.ceil(reach_c).astype(int))
    shift_xc = np.stack(np.meshgrid(*(np.arange(-n, n + 1) for n in most_c), indexing='ij'), axis=-1).reshape(-1, 3)
    relpos_axc = relpos_ac[:, np.newaxis] + shift_xc
    near_ax = ((relpos_axc > -reach_c) & (relpos_axc < 1 + reach_c)).all(axis=2)
    atom_g, _ = np.nonzero(near_ax)
    return atom_g, np.ascontiguousarray(relpos_axc[near_ax] @ grid.cell_cv)
