"""What a training is told."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from ase_deepdensity.arguments import did_you_mean, real, whole
from ase_deepdensity.basis import SplineBasis

SPLITS = 'snapshots', 'compounds'
TRAINED = 'all', 'elements'


class ConfigError(ValueError):
    """A configuration that cannot be read or makes no sense."""


@dataclass(frozen=True)
class TrainingConfig:
    """Settings of a training; as a JSON file, any of these names."""

    network: str = 'equivariant'
    """Name in :data:`ase_deepdensity.network.registry.NETWORKS`."""
    hypers: dict[str, Any] = field(default_factory=dict)
    """Hyper-parameters of the network that differ from its defaults."""
    basis_cutoff: float = 3.0
    """Distance from an atom to which it adds to the superposition of atoms, Å."""
    basis_functions: int = 23
    """Radial functions of each angular momentum: they resolve basis_cutoff / (basis_functions + 1)."""
    lmax: int = 4
    """Highest angular momentum of what an atom adds."""
    steps: int = 6000
    """Optimisation steps."""
    batch: int = 1
    """Snapshots in each step; several cost little more than one where molecules are small."""
    minutes: float | None = None
    """Wall time for all of the training, instead of ``steps``; see :class:`.Clock`."""
    learning_rate: float = 4e-3
    """Of Adam, at the start of a cosine schedule."""
    warmup: int = 50
    """Steps in which the learning rate rises to its start, as a parabola."""
    weight_decay: float = 0.0
    """Of AdamW."""
    stride: int = 2
    """Each step takes every ``stride``-th grid point along each axis, a new coset each time."""
    points: int | None = None
    """Each step takes so many random grid points of each snapshot (all, if it has fewer), instead of ``stride``."""
    matrix_weight: float = 5.0
    """Weight of ε_D (1 is the trivial model; mean of the elements in a step) beside the NMAE in %."""
    magnetisation_weight: float = 1.0
    """Weight of the errors of the magnetisation, on the grid and of matrices, beside those of the total."""
    moment_scatter: float = 0.5
    """Each step multiplies the moments that a snapshot began with by a random factor between 1 − this and 1 + this."""
    smoothing: float = 0.002
    """Below this error, electrons/Å³, the loss on the grid is quadratic instead of linear."""
    trained: str = 'all'
    """Which weights: 'all', or only those that the 'elements' of the data have for themselves (fine-tuning)."""
    averaging: float = 0.998
    """Decay per step of the running average of the weights, which is the model."""
    clip: float = 5.0
    """Largest norm of a gradient."""
    validation: int | None = None
    """Number of snapshots kept for validation; default: a tenth, at least one."""
    split: str = 'snapshots'
    """What is set aside for validation: 'snapshots', or whole 'compounds' (all snapshots of a formula)."""
    validate_every: int = 200
    """Steps between validations; a checkpoint is written at each."""
    seed: int = 0
    """Of the initial weights, the split, and the order of snapshots and cosets."""

    def __post_init__(self) -> None:
        try:
            self._check_numbers()
            if self.split not in SPLITS:
                raise ValueError(f'split must be {" or ".join(SPLITS)}, not {self.split!r}')
            if self.trained not in TRAINED:
                raise ValueError(f'trained must be {" or ".join(TRAINED)}, not {self.trained!r}')
            if not isinstance(self.hypers, dict):
                raise ValueError(f'hypers must be a dictionary of hyper-parameters, not {self.hypers!r}')
        except ValueError as error:
            raise ConfigError(str(error)) from None
        try:
            SplineBasis(self.basis_cutoff, self.basis_functions, self.lmax)
        except (TypeError, ValueError) as error:
            raise ConfigError(f'basis_cutoff, basis_functions, lmax: {error}') from None

    def _check_numbers(self) -> None:
        for name in ('steps', 'batch', 'stride', 'validate_every', 'warmup'):
            whole(name, getattr(self, name), least=1)
        whole('seed', self.seed, least=0)
        for name in ('validation', 'points'):
            if getattr(self, name) is not None:
                whole(name, getattr(self, name), least=1)
        for name in ('learning_rate', 'smoothing', 'clip'):
            real(name, getattr(self, name), above=0)
        for name in ('weight_decay', 'matrix_weight', 'magnetisation_weight'):
            real(name, getattr(self, name), least=0)
        if self.minutes is not None:
            real('minutes', self.minutes, above=0)
        for name in ('averaging', 'moment_scatter'):
            if not 0 <= real(name, getattr(self, name)) < 1:
                raise ValueError(f'{name} must be in [0, 1), not {getattr(self, name)!r}')

    @classmethod
    def load(
        cls, path: str | Path | None, *, defaults: Mapping[str, Any] | None = None, **changes: Any
    ) -> TrainingConfig:
        """From a JSON file (or the defaults), with ``changes`` that are not None on top.

        Parameters
        ----------
        defaults
            Of settings that are neither in the file nor in ``changes``, instead of those of the class.

        Raises
        ------
        ConfigError
            No such file, not JSON, unknown names, or values that make no sense.
        """
        data: Any = {}
        if path is not None:
            try:
                data = json.loads(Path(path).read_text())
            except OSError as error:
                raise ConfigError(f'{path}: cannot be read: {error.strerror}') from None
            except ValueError as error:
                raise ConfigError(f'{path}: not a JSON file: {error}') from None
            if not isinstance(data, dict):
                raise ConfigError(f'{path}: must hold a dictionary of settings')
        allowed = [f.name for f in fields(cls)]
        if unknown := sorted(data.keys() - set(allowed)):
            raise ConfigError(
                f'{path}: no setting {", ".join(unknown)}; there are {", ".join(allowed)}'
                f'{did_you_mean(unknown[0], allowed)}'
            )
        try:
            return replace(cls(**dict(defaults or {}) | data), **{k: v for k, v in changes.items() if v is not None})
        except TypeError as error:
            raise ConfigError(f'{path}: {error}') from None

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    @property
    def basis(self) -> SplineBasis:
        """The radial functions."""
        return SplineBasis(self.basis_cutoff, self.basis_functions, self.lmax)
