"""Densities of many frames as work for a cluster: predicted there, written here."""

from __future__ import annotations

import hashlib
import json
import traceback
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import torch
from ase import Atoms

from ase_deepdensity.checks import UnfamiliarWarning
from ase_deepdensity.dataset.density_file import DensityFileError, read_origin, write_density
from ase_deepdensity.dataset.files import geometry_hash
from ase_deepdensity.dataset.folder import Failure
from ase_deepdensity.generate.jobs import Trouble, reason_of
from ase_deepdensity.level import Level
from ase_deepdensity.model import DensityModel
from ase_deepdensity.predict import Predictor
from ase_deepdensity.state import PAWDensity

if TYPE_CHECKING:
    from gpaw.mpi import MPIComm


@dataclass(frozen=True)
class Predicted:
    """What a worker sends."""

    density: PAWDensity
    warnings: list[str]
    """Of environments unlike the training data."""


@dataclass(frozen=True)
class Predictions:
    """One density for each frame: :class:`.Work`."""

    frames: Sequence[Atoms]
    targets: Sequence[Path]
    """The file of each density."""
    model: bytes
    """The model file: workers need not see the disk that it is on."""
    level: Level
    gpts: tuple[int, int, int] | None = None
    h: float | None = None
    """Å."""
    device: str | None = None
    dtype: torch.dtype = torch.float32
    extrapolate: bool = False

    def without_frames(self) -> Predictions:
        """What each worker needs."""
        return replace(self, frames=(), targets=())

    @property
    def origin(self) -> str:
        """Differs where another density would be predicted of the same atoms."""
        settings = [self.level.to_dict(), self.gpts, self.h, str(self.dtype), self.extrapolate]
        return hashlib.sha256(self.model + json.dumps(settings).encode()).hexdigest()

    def is_open(self, i: int) -> bool:
        """Is there no file yet that holds this very prediction?"""
        try:
            return read_origin(self.targets[i]) != (self.origin, geometry_hash(self.frames[i]))
        except DensityFileError:
            return True

    def compute(self, atoms: Atoms, comm: MPIComm) -> Predicted | Trouble:
        """Predict, or say why not."""
        try:
            level = json.dumps(self.level.to_dict())
            predictor = _predictor(self.model, level, self.device, self.dtype, self.extrapolate)
            grid = predictor.grid(atoms, self.gpts, self.h)
            with warnings.catch_warnings(record=True) as caught:
                warnings.simplefilter('always', UnfamiliarWarning)
                density = predictor.predict(atoms, grid)
            return Predicted(density, [str(w.message) for w in caught if w.category is UnfamiliarWarning])
        except Exception as error:
            return Trouble(reason_of(error), traceback.format_exc())

    def store(self, i: int, result: Predicted | Trouble, comm: MPIComm) -> Path | Failure:
        """Write a density."""
        if isinstance(result, Trouble):
            return Failure(self.targets[i], result.reason)
        for message in result.warnings:
            warnings.warn(f'{self.targets[i].name}: {message}', UnfamiliarWarning, stacklevel=2)
        write_density(self.targets[i], result.density, self.origin)
        return self.targets[i]


@lru_cache(maxsize=1)
def _predictor(model: bytes, level: str, device: str | None, dtype: torch.dtype, extrapolate: bool) -> Predictor:
    """The last one of this process; the level as JSON."""
    with TemporaryDirectory() as folder:
        path = Path(folder) / 'model.safetensors'
        path.write_bytes(model)
        loaded = DensityModel.load(path)
    return Predictor(
        loaded, level=Level.from_dict(json.loads(level)), device=device, dtype=dtype, extrapolate=extrapolate
    )
