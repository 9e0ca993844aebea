"""Collocation: what a network says of atoms, and the superposition of atoms → density on grids or at points.

One operation on all devices, differentiable in the coefficients of the basis and in the positions: on the CPU by
compiled loops with derivatives of their own, elsewhere by :mod:`.on_device`.
"""

from __future__ import annotations

import pickle
from collections.abc import Sequence
from dataclasses import dataclass, fields
from threading import Lock
from typing import Any

import torch

from ase_deepdensity.basis import SplineBasis
from ase_deepdensity.collocation import in_torch, on_device
from ase_deepdensity.collocation.at_points import at_points
from ase_deepdensity.collocation.on_device import FreeAtoms
from ase_deepdensity.collocation.on_grids import GridCollocation
from ase_deepdensity.collocation.points import Points
from ase_deepdensity.collocation.superposition import superposition, with_superposition
from ase_deepdensity.grid import Grid
from ase_deepdensity.network.contract import Coefficients, Contribution, Output


class DensityEvaluator:
    """Evaluates densities on grids of any kind and keeps what was prepared for the grids met last.

    Parameters
    ----------
    basis
        Of the model.
    dtype
        float32 or float64, of the work.
    grids
        How many to keep.
    """

    def __init__(self, basis: SplineBasis, dtype: torch.dtype = torch.float32, grids: int = 64):
        self.basis = basis
        self.dtype = dtype
        self.grids = grids
        self._collocations: dict[bytes, GridCollocation] = {}
        self._lock = Lock()

    def __call__(self, output: Output, grid: Grid, position_av: torch.Tensor) -> torch.Tensor:
        """(members, 1 or 2, n0, n1, n2) electrons/Å³ on a grid or a block of one, without the superposition of atoms.

        Parameters
        ----------
        output
            Of a network, for one system.
        position_av
            (natoms, 3) Å, float64, in the order of the output; its device is that of the work.
        """
        return output.density(_GridPoints(self, grid, position_av))

    def total(self, output: Output, grid: Grid, position_av: torch.Tensor, atoms: FreeAtoms) -> torch.Tensor:
        """(1 or 2, n0, n1, n2) electrons/Å³, float64: the same of an output of one member, with the superposition.

        That is the total, and the magnetisation where there is one.
        """
        if isinstance(output, Coefficients) and not on_device.has_loops(position_av.device):
            return output.density(_GridPoints(self, grid, position_av, atoms))[0].double()
        nt_R = superposition(grid, position_av, torch.from_numpy(atoms.number_a), atoms.tables, self.dtype)
        return with_superposition(nt_R, self(output, grid, position_av)[0])

    def at_points(
        self, output: Output, position_av: torch.Tensor, slices: Sequence[slice], points: Points
    ) -> torch.Tensor:
        """(members, 1 or 2, points) electrons/Å³ at points of many systems, without the superposition of atoms.

        Parameters
        ----------
        output
            Of a network, for all systems together.
        position_av
            (natoms, 3) Å, float64, of all atoms.
        slices
            For each system where its atoms are.
        """
        return output.density(_ListedPoints(self, points, position_av, slices))

    def collocation(self, grid: Grid) -> GridCollocation:
        """What is prepared for a grid, kept from before or new."""
        key = pickle.dumps([getattr(grid, field.name).tolist() for field in fields(grid)])  # 100 times faster than ==
        with self._lock:  # several threads may ask
            kept = self._collocations.pop(key, None) or GridCollocation(self.basis, grid, self.dtype)
            self._collocations[key] = kept  # the last one met is the last to go
            while len(self._collocations) > self.grids:
                del self._collocations[next(iter(self._collocations))]
            return kept

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__.copy() | {'_lock': None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__ |= state | {'_lock': Lock()}


@dataclass
class _GridPoints:
    """All points of a grid or a block of one: :class:`.Places`."""

    evaluator: DensityEvaluator
    grid: Grid
    position_av: torch.Tensor
    atoms: FreeAtoms | None = None
    """Whose superposition is part of the first density, where the compiled loops do not run."""

    def expansion(self, c_lesanm: list[torch.Tensor]) -> torch.Tensor:
        if on_device.has_loops(self.position_av.device):
            return self.evaluator.collocation(self.grid)(self.position_av, c_lesanm)
        return on_device.collocate(
            self.evaluator.basis, self.grid, self.position_av, c_lesanm, self.evaluator.dtype, self.atoms
        )

    def pointwise(self, contribution: Contribution, cutoff: float) -> torch.Tensor:
        return in_torch.add_points(self.grid, self.position_av.to(self.evaluator.dtype), contribution, cutoff)


@dataclass
class _ListedPoints:
    """Some points of several systems, likewise."""

    evaluator: DensityEvaluator
    points: Points
    position_av: torch.Tensor
    slices: Sequence[slice]

    def expansion(self, c_lesanm: list[torch.Tensor]) -> torch.Tensor:
        basis, dtype = self.evaluator.basis, self.evaluator.dtype
        c_lxanm = [c_esanm.flatten(0, 1) for c_esanm in c_lesanm]
        density_xp = at_points(basis, c_lxanm, self.position_av, self.slices, self.points, dtype)
        return density_xp.unflatten(0, c_lesanm[0].shape[:2])

    def pointwise(self, contribution: Contribution, cutoff: float) -> torch.Tensor:
        position_av = self.position_av.to(self.evaluator.dtype)
        return in_torch.add_at_points(contribution, position_av, self.slices, self.points, cutoff)
