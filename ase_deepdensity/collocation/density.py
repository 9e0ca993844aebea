"""What a network says of atoms → density on a grid: by the compiled loops, by torch, or point by point."""

from __future__ import annotations

import pickle
from dataclasses import dataclass, fields
from threading import Lock
from typing import Any

import numpy as np
import torch

from ase_deepdensity.basis import SplineBasis
from ase_deepdensity.collocation import in_torch
from ase_deepdensity.collocation.on_grids import Collocation, index
from ase_deepdensity.grid import Grid
from ase_deepdensity.network.contract import Coefficient, Contribution, Output


class DensityEvaluator:
    """Writes densities on grids of any kind and keeps what was prepared for the grids met last.

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
        self._collocations: dict[bytes, Collocation] = {}
        self._lock = Lock()

    def __call__(
        self, output: Output, grid: Grid, positions_av: np.ndarray, device: torch.device | None = None
    ) -> torch.Tensor:
        """(members, 1 or 2, n0, n1, n2) electrons/Å³ on a grid or a block of one; positions (Å) as in the output."""
        return output.density(_OnGrid(self, grid, positions_av, device or torch.device('cpu')))

    def collocation(self, grid: Grid) -> Collocation:
        """What is prepared for a grid, kept from before or new."""
        key = pickle.dumps([getattr(grid, field.name).tolist() for field in fields(grid)])  # 100 times faster than ==
        with self._lock:  # several threads may ask
            known = self._collocations.pop(key, None) or Collocation(self.basis, grid, self.dtype)
            self._collocations[key] = known  # the last one met is the last to go
            while len(self._collocations) > self.grids:
                del self._collocations[next(iter(self._collocations))]
            return known

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__.copy() | {'_lock': None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__ |= state | {'_lock': Lock()}


@dataclass
class _OnGrid:
    """A :class:`.contract.Writer`."""

    evaluator: DensityEvaluator
    grid: Grid
    positions_av: np.ndarray
    device: torch.device

    @property
    def _position_av(self) -> torch.Tensor:
        return torch.from_numpy(self.positions_av).to(self.device, self.evaluator.dtype)

    def expansion(self, c_lanm: Coefficient) -> torch.Tensor:
        if self.device.type == 'cpu':
            density_R: torch.Tensor = self.evaluator.collocation(self.grid)(index(self.grid, self.positions_av), c_lanm)
            return density_R
        return in_torch.collocate(self.evaluator.basis, self.grid, self._position_av, c_lanm)

    def points(self, contribution: Contribution, cutoff: float) -> torch.Tensor:
        return in_torch.add_points(self.grid, self._position_av, contribution, cutoff)
