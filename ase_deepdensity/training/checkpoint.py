"""All that a training needs to go on after a kill as if nothing had happened."""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from ase_deepdensity.dataset import Dataset
from ase_deepdensity.model import DensityModel
from ase_deepdensity.training.config import TrainingConfig


class CheckpointError(ValueError):
    """A checkpoint that cannot be continued."""


@dataclass(frozen=True)
class Files:
    """Where a training writes: all beside the model."""

    model: Path

    @property
    def checkpoint(self) -> Path:
        return self.model.with_suffix('.checkpoint')

    @property
    def csv(self) -> Path:
        return self.model.with_suffix('.csv')

    @property
    def png(self) -> Path:
        return self.model.with_suffix('.png')


@dataclass
class Checkpoint:
    """State after a number of steps."""

    identity: dict[str, Any]
    step: int
    steps: int
    best: float
    network: dict[str, torch.Tensor]
    average: dict[str, torch.Tensor]
    optimizer: dict[str, Any]
    rows: list[list[float]]

    def save(self, path: Path) -> None:
        """Write it; the file appears whole or not at all."""
        temporary = path.with_name(f'.{path.name}.{os.getpid()}.tmp')
        try:
            torch.save({field: getattr(self, field) for field in self.__dataclass_fields__}, temporary)
            os.replace(temporary, path)
        finally:
            temporary.unlink(missing_ok=True)

    @classmethod
    def load(cls, path: Path, identity: dict[str, Any]) -> Checkpoint | None:
        """The checkpoint at ``path``, None if there is none.

        Raises
        ------
        CheckpointError
            It cannot be read, or belongs to another training; the message says what differs.
        """
        if not path.exists():
            return None
        try:
            checkpoint = cls(**torch.load(path, map_location='cpu', weights_only=True))
        except Exception as error:  # whatever torch raises for a damaged file
            raise CheckpointError(f'{path}: not a checkpoint, or a damaged one: {error}') from error
        differing = [key for key in identity if checkpoint.identity.get(key) != identity[key]]
        if differing:
            changes = '; '.join(f'{key}: {checkpoint.identity.get(key)} then, {identity[key]} now' for key in differing)
            raise CheckpointError(f'{path} belongs to another training ({changes}); take another --out, or --restart')
        return checkpoint


def identify(dataset: Dataset, config: TrainingConfig, init: DensityModel | None) -> dict[str, Any]:
    """What must be the same for a training to go on: settings, files, and the model it started from."""
    files = hashlib.sha256(''.join(file.name for file in dataset.files).encode()).hexdigest()[:12]
    identity = {key: json.dumps(value) for key, value in asdict(config).items()}
    return identity | {'snapshots': f'{len(dataset)} ({files})', 'init': init.name if init else ''}
