"""A trained model and its file: weights, hyper-parameters, level of theory, superposition of atoms, card.

The file is safetensors: tensors and one JSON header, nothing that could run.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from ase.data import chemical_symbols
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from ase_deepdensity.basis import SplineBasis
from ase_deepdensity.evaluate.superposition import RadialTable
from ase_deepdensity.level import Level
from ase_deepdensity.model_files import SHIPPED, SUFFIX, ModelError, model_path, shipped_models
from ase_deepdensity.network.contract import DensityNetwork
from ase_deepdensity.network.familiarity import Familiarity
from ase_deepdensity.network.registry import build_network

FORMAT, OLDEST, VERSION = 'ase-deepdensity model', 2, 2

__all__ = ['SHIPPED', 'SUFFIX', 'Architecture', 'DensityModel', 'ModelError', 'model_path', 'shipped_models']


@dataclass(frozen=True)
class Architecture:
    """All that is needed to build an untrained network."""

    network: str
    """Name in :data:`ase_deepdensity.network.registry.NETWORKS`."""
    hypers: dict[str, Any]
    """Its hyper-parameters."""
    species: tuple[int, ...]
    """Atomic numbers, ascending."""
    projectors: tuple[tuple[int, ...], ...]
    """Angular momenta of the PAW projectors of each species."""
    basis: SplineBasis
    """Radial functions of what is added to the superposition of atoms."""

    def build(self, *, empty: bool = False) -> DensityNetwork:
        """An untrained network; ``empty``: one that waits for a state dict."""
        return build_network(self.network, self.hypers, self.species, self.basis, self.projectors, empty=empty)

    def to_dict(self) -> dict[str, Any]:
        """The fields in JSON's types."""
        return asdict(self)

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Architecture:
        """What :meth:`to_dict` has made."""
        basis = data['basis']
        return cls(
            data['network'],
            dict(data['hypers']),
            tuple(data['species']),
            tuple(tuple(l_j) for l_j in data['projectors']),
            SplineBasis(basis['cutoff'], basis['number'], basis['lmax']),
        )


@dataclass
class DensityModel:
    """A network with all that turns its output into a PAW density."""

    architecture: Architecture
    """What the network was built from."""
    network: DensityNetwork
    """Trained, in evaluation mode."""
    level: Level
    """The level of theory that it was trained on, with the versions that made the data."""
    superposition: dict[int, RadialTable]
    """Pseudo density of each isolated atom, by atomic number."""
    familiarity: Familiarity
    """Which environments the model was trained on."""
    card: dict[str, Any] = field(default_factory=dict)
    """For people: data, training, measured errors."""

    def __repr__(self) -> str:
        return f'DensityModel({self.name!r}, {" ".join(self.symbols)}, level {self.level.name or "unnamed"})'

    @property
    def name(self) -> str:
        """Of the card."""
        return str(self.card.get('name', 'unnamed model'))

    @property
    def species(self) -> tuple[int, ...]:
        """Atomic numbers of the elements that it knows, ascending."""
        return self.architecture.species

    @property
    def symbols(self) -> list[str]:
        """Symbols of the same elements."""
        return [chemical_symbols[number] for number in self.species]

    def at(self, level: Level) -> Level:
        """The model's level; with the k-points of another one, if the network is told about them."""
        return self.at_kpoints(level.parameters.get('kpts', [1, 1, 1])) if self.network.sees_kpoints else self.level

    def at_kpoints(self, kpts: Any) -> Level:
        """The model's level with other k-points, in any form that GPAW takes.

        Raises
        ------
        ModelError
            The network is not told about k-points: there is one density for all of them.
        LevelError
            No k-points.
        """
        if not self.network.sees_kpoints:
            raise ModelError(f'{self.name} is not told about k-points and predicts at those of its level only')
        level = replace(self.level, parameters=self.level.parameters | {'kpts': kpts})
        level.gpaw_parameters()
        return level

    def differences(self, level: Level) -> list[str]:
        """One line for each physical item of a level that the model cannot predict at."""
        return level.differences(self.at(level))

    def number_of_parameters(self) -> int:
        """Trained weights of the network."""
        return sum(parameter.numel() for parameter in self.network.parameters())

    def save(self, path: str | Path) -> None:
        """Write the model; the file appears whole or not at all."""
        path = Path(path)
        if not path.parent.is_dir():
            raise ModelError(f'{path.parent}: no such folder')
        header = {
            'architecture': self.architecture.to_dict(),
            'level': self.level.to_dict(),
            'superposition': {str(Z): [t.x_step, t.cutoff] for Z, t in self.superposition.items()},
            'card': self.card,
        }
        tensors = {f'network.{k}': v for k, v in self.network.state_dict().items()}
        tensors |= {f'familiarity.{k}': v for k, v in self.familiarity.state_dict().items()}
        tensors |= {f'superposition.{Z}': torch.from_numpy(t.table_xp.copy()) for Z, t in self.superposition.items()}
        metadata = {'format': FORMAT, 'version': str(VERSION), 'header': json.dumps(header)}
        temporary = path.with_name(f'.{path.name}.{os.getpid()}.tmp')
        try:
            save_file({k: v.detach().cpu().contiguous() for k, v in tensors.items()}, temporary, metadata=metadata)
            temporary.chmod(0o644)  # safetensors lets only the owner read
            os.replace(temporary, path)
        finally:
            temporary.unlink(missing_ok=True)

    @classmethod
    def load(cls, name_or_path: str | Path) -> DensityModel:
        """A shipped model by its name, or a model file.

        Raises
        ------
        ModelError
            Not a shipped name and no such file; truncated; not safetensors; not one of our models; of a later version.
        """
        path = model_path(name_or_path)
        header, tensors = _read(path)
        try:
            architecture = Architecture.from_dict(header['architecture'])
            network = architecture.build(empty=True)
            network.load_state_dict(_part(tensors, 'network.'))
            familiarity = Familiarity.from_state_dict(_part(tensors, 'familiarity.'))
            tables = {
                int(Z): RadialTable(x_step, cutoff, tensors[f'superposition.{Z}'].numpy())
                for Z, (x_step, cutoff) in header['superposition'].items()
            }
            model = cls(
                architecture, network.eval(), Level.from_dict(header['level']), tables, familiarity, header['card']
            )
        except (AttributeError, KeyError, TypeError, ValueError, RuntimeError) as error:
            raise ModelError(f'{path}: a damaged model file: {error}') from error
        return model


def _read(path: Path) -> tuple[dict[str, Any], dict[str, torch.Tensor]]:
    """Header and tensors of a model file of any version, upgraded to this one."""
    try:
        with safe_open(path, framework='pt') as file:
            metadata = file.metadata() or {}
            if metadata.get('format') != FORMAT:
                raise ModelError(f'{path}: a safetensors file, but not an {FORMAT}')
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise ModelError(f'{path}: not a model file, or a truncated one ({error})') from None
    try:
        version, header = int(metadata['version']), json.loads(metadata['header'])
    except (KeyError, ValueError) as error:
        raise ModelError(f'{path}: a damaged model file: {error!r}') from None
    if version > VERSION:
        raise ModelError(f'{path}: model file version {version}; this program reads up to {VERSION}: update it')
    if version < OLDEST:
        raise ModelError(
            f'{path}: model file version {version}, whose basis no longer exists; this program reads {OLDEST} to '
            f'{VERSION}: train the model again'
        )
    for step in range(version, VERSION):
        header, tensors = UPGRADES[step](header, tensors)
    return header, tensors


Upgrade = Callable[[dict[str, Any], dict[str, torch.Tensor]], tuple[dict[str, Any], dict[str, torch.Tensor]]]
UPGRADES: dict[int, Upgrade] = {}
"""version → what makes a file of that version one of the next."""


def _part(tensors: dict[str, torch.Tensor], prefix: str) -> dict[str, torch.Tensor]:
    return {key.removeprefix(prefix): value for key, value in tensors.items() if key.startswith(prefix)}
