"""All that a training needs to go on after a kill as if nothing had happened."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from ase_deepdensity.dataset import Dataset
from ase_deepdensity.files import checksum, replacing_path
from ase_deepdensity.model import DensityModel
from ase_deepdensity.training.config import TrainingConfig

VERSION = 3


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

    @property
    def lock(self) -> Path:
        return self.model.with_suffix('.lock')


@dataclass
class Checkpoint:
    """State after a validation; model file and curve can be made from it.

    It is written before them: a kill in between leaves them behind the checkpoint, never ahead of it.
    """

    identity: dict[str, Any]
    """Of the training, see :func:`identify`."""
    step: int
    """Steps taken."""
    seconds: float
    """Wall time that they took, all runs together."""
    finished: bool
    """Whether they were the last."""
    descent: dict[str, dict[str, Any]]
    """Weights, their average, optimiser and scheduler, see :meth:`.Descent.state_dict`."""
    rows: list[list[float]]
    """The curve, see :class:`.Row`."""
    best: int
    """Which of the rows has the lowest validation error."""
    best_network: dict[str, torch.Tensor]
    """The averaged weights that it belongs to."""
    best_familiarity: dict[str, torch.Tensor]
    """The state of their :class:`.EnvironmentDistance`."""

    def save(self, path: Path) -> None:
        """Write it; the file appears whole or not at all."""
        content = {field: getattr(self, field) for field in self.__dataclass_fields__}
        with replacing_path(path) as temporary:
            torch.save({'version': VERSION} | content, temporary)

    @classmethod
    def load(cls, path: Path, identity: dict[str, Any]) -> Checkpoint | None:
        """The checkpoint at ``path``, None if there is none.

        Raises
        ------
        CheckpointError
            It cannot be read, is of another version, or belongs to another training; the message says what differs.
        """
        if not path.exists():
            return None
        try:
            content = torch.load(path, map_location='cpu', weights_only=True)
            version = content.pop('version', 1)
        except Exception as error:  # whatever torch raises for a damaged file
            raise CheckpointError(f'{path}: not a checkpoint, or a damaged one: {error}') from error
        if version != VERSION:
            raise CheckpointError(
                f'{path}: a checkpoint of version {version}; this program continues version {VERSION} only, as '
                'trainings were not the same before: take another --out, or --restart'
            )
        if content.keys() != cls.__dataclass_fields__.keys():
            raise CheckpointError(f'{path}: not a checkpoint, or a damaged one: it holds {", ".join(content)}')
        checkpoint = cls(**content)
        differing = [key for key in identity if checkpoint.identity.get(key) != identity[key]]
        if differing:
            changes = '; '.join(f'{key}: {checkpoint.identity.get(key)} then, {identity[key]} now' for key in differing)
            raise CheckpointError(f'{path} belongs to another training ({changes}); take another --out, or --restart')
        return checkpoint


def identify(
    dataset: Dataset, config: TrainingConfig, init: DensityModel | None, validate_on: Dataset | None = None
) -> dict[str, Any]:
    """What must be the same for a training to go on: settings, content of the data, and the model it started from."""
    identity = {key: json.dumps(value) for key, value in asdict(config).items()}
    snapshots = f'{len(dataset)} (content {dataset.fingerprint})'
    if validate_on is not None:
        snapshots += f', the last {len(validate_on)} to validate on'
    return identity | {'snapshots': snapshots, 'init': f'{init.name} (content {_content(init)})' if init else ''}


def _content(model: DensityModel) -> str:
    weights = {name: tensor.cpu().numpy() for name, tensor in model.network.state_dict().items()}
    return checksum('', weights)[:16]
