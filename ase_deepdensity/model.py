"""A trained model and its file: weights, hyper-parameters, level of theory, atom types, card.

The file is safetensors: tensors and one JSON header, nothing that could run.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from ase import Atoms
from ase.data import chemical_symbols

from ase_deepdensity.arguments import real
from ase_deepdensity.basis import RadialTable, SplineBasis
from ase_deepdensity.codes import code_of
from ase_deepdensity.level import Level
from ase_deepdensity.model_content import FORMAT, OLDEST, VERSION, damage, read_content, write_content
from ase_deepdensity.model_files import SHIPPED, SUFFIX, ModelError, model_path, shipped_models
from ase_deepdensity.model_packing import to_16_bits
from ase_deepdensity.network.contract import DensityNetwork
from ase_deepdensity.network.environment_distance import EnvironmentDistance
from ase_deepdensity.network.error_bars import ErrorBars
from ase_deepdensity.network.registry import build_network, telling_shapes
from ase_deepdensity.paw import MAX_L, MOST_PROJECTORS, AtomType
from ase_deepdensity.snapshot import Snapshot

__all__ = [
    'FORMAT',
    'OLDEST',
    'SHIPPED',
    'SUFFIX',
    'VERSION',
    'Architecture',
    'DensityModel',
    'ModelError',
    'model_path',
    'shipped_models',
]

ANY_CRYSTAL = Atoms(cell=[1.0, 1.0, 1.0], pbc=True)
"""To see whether k-points can be made for it."""
PARTS = 'network', 'familiarity', 'atom_types', 'error_bars'
"""What the tensors of a file belong to."""


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

    def __post_init__(self) -> None:
        numbers = list(self.species)
        if not numbers or not all(type(Z) is int and 0 < Z < len(chemical_symbols) for Z in numbers):
            raise ValueError(f'the species of a model must be atomic numbers, not {numbers}')
        if numbers != sorted(set(numbers)):
            raise ValueError(f'the species of a model must ascend, not be {numbers}')
        if len(self.projectors) != len(numbers):
            raise ValueError(f'{len(numbers)} species need as many lists of projectors, not {len(self.projectors)}')
        for l_j in self.projectors:
            known = all(type(l) is int and 0 <= l <= MAX_L for l in l_j)
            if not known or len(l_j) > MOST_PROJECTORS:
                raise ValueError(
                    f'an element has at most {MOST_PROJECTORS} projectors with angular momenta of 0 to '
                    f'{MAX_L}, not {l_j}'
                )

    def build(self, *, empty: bool = False) -> DensityNetwork:
        """An untrained network; ``empty``: one that waits for a state dict."""
        return build_network(self.network, self.hypers, self.species, self.basis, self.projectors, empty=empty)

    def check(self, state: dict[str, torch.Tensor]) -> None:
        """Refuse tensors of another network before this one is built, which could take any amount of memory.

        Raises
        ------
        ValueError
            The message names the first that is missing or of another shape.
        """
        shapes = telling_shapes(self.network, self.hypers, self.species, self.basis, self.projectors)
        for name, shape in shapes.items():
            found = tuple(state[name].shape) if name in state else 'missing'
            if found != shape:
                raise ValueError(f'network.{name} is {found}, which should be {shape}')

    def to_dict(self) -> dict[str, Any]:
        """The fields in JSON's types, but for the projectors."""
        fields = asdict(self)
        del fields['projectors']
        return fields

    @classmethod
    def from_dict(cls, data: dict[str, Any], atom_types: Mapping[int, AtomType]) -> Architecture:
        """What :meth:`to_dict` has made; projectors are those of the atom types."""
        basis = data['basis']
        if not isinstance(data['hypers'], dict):
            raise ValueError(f'its hyper-parameters are {data["hypers"]!r}')
        if list(data['species']) != list(atom_types):
            raise ValueError(f'the species {data["species"]} have atom types of {list(atom_types)}')
        return cls(
            data['network'],
            dict(data['hypers']),
            tuple(data['species']),
            tuple(atom_type.l_j for atom_type in atom_types.values()),
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
    atom_types: dict[int, AtomType]
    """What the datasets of the level say of each element, by atomic number, ascending."""
    familiarity: EnvironmentDistance
    """How far environments are from those that the model was trained on."""
    card: dict[str, Any] = field(default_factory=dict)
    """For people: data, training, measured errors."""
    charge: float = 0.0
    """Total charge of the systems that it predicts, |e|."""
    error_bars: ErrorBars | None = None
    """How wrong its predictions are likely to be; None: nobody has measured it."""

    def __post_init__(self) -> None:
        l_j = {number: atom_type.l_j for number, atom_type in self.atom_types.items()}
        wanted = dict(zip(self.species, self.architecture.projectors, strict=True))
        if l_j != wanted:
            raise ValueError(f'atom types with the projectors {l_j} do not fit a network for {wanted}')

    def __repr__(self) -> str:
        head = f'DensityModel({self.name!r}, {" ".join(self.symbols)}, level {self.level.name or "unnamed"})'
        return '\n'.join([head, *(f'  {line}' for line in self._lines())])

    def _repr_html_(self) -> str:
        from ase_deepdensity.plot.cards import text_card

        return text_card(repr(self), self.symbols)

    def _lines(self) -> Iterator[str]:
        yield f'network    {self.architecture.network}, {self.number_of_parameters()} parameters'
        snapshots = self.card.get('snapshots')
        if isinstance(snapshots, dict) and 'training' in snapshots:
            yield f'trained    on {snapshots["training"]} snapshots'
        measured = self.card.get('measured')
        for label, figures in measured.items() if isinstance(measured, dict) else ():
            if isinstance(figures, dict) and 'NMAE of ñ, %' in figures:
                yield f'error      {figures["NMAE of ñ, %"]} % of ñ, {label}'
        yield (
            f'to use it  DeepDensity({self.name!r})'
            if self.name in shipped_models()
            else 'to use it  DeepDensity(model)'
        )

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

    @property
    def superposition(self) -> dict[int, RadialTable]:
        """Pseudo density of each isolated atom, by atomic number."""
        return {number: atom_type.nt for number, atom_type in self.atom_types.items()}

    @property
    def longest_cutoff(self) -> float:
        """Å, up to which an atom has a density: of the basis, or of the isolated atom."""
        return max(self.architecture.basis.cutoff, *(table.cutoff for table in self.superposition.values()))

    def types_of(self, atoms: Atoms) -> list[AtomType]:
        """The type of each atom."""
        return [self.atom_types[number] for number in atoms.numbers.tolist()]

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
        code_of(level).kpoints(level, ANY_CRYSTAL)
        return level

    def differences(self, level: Level) -> list[str]:
        """One line for each physical item of a level that the model cannot predict at."""
        return level.differences(self.at(level))

    def number_of_parameters(self) -> int:
        """Trained weights of the network."""
        return sum(parameter.numel() for parameter in self.network.parameters())

    def adapted(self, snapshots: Sequence[Snapshot]) -> DensityModel:
        """The model with a last layer that has learned some snapshots, such as a :class:`.Dataset`, in seconds.

        Where they gain nothing by it, it is a copy; see :func:`.training.adapt.adapt`.

        Raises
        ------
        AdaptError
            Snapshots that it cannot be adapted to: of another level of theory, with elements that it does not know, …
        """
        from ase_deepdensity.training.adapt import adapt

        return adapt(self, snapshots)[0]

    def save(self, path: str | Path) -> None:
        """Write the model; the file appears whole or not at all.

        Raises
        ------
        ModelError
            Weights that are not finite, or no such folder.
        """
        header = {
            'architecture': self.architecture.to_dict(),
            'level': self.level.to_dict(),
            'card': self.card,
            'charge': self.charge,
        }
        tensors = {f'network.{k}': v for k, v in self.network.state_dict().items()}
        tensors |= {f'familiarity.{k}': v for k, v in self.familiarity.state_dict().items()}
        if self.error_bars is not None:
            tensors |= {f'error_bars.{k}': v for k, v in self.error_bars.state_dict().items()}
        arrays = {k: v.detach().cpu().contiguous().numpy() for k, v in tensors.items()}
        for number, atom_type in self.atom_types.items():
            arrays |= {f'atom_types.{number}.{key}': array for key, array in atom_type.to_arrays().items()}
        write_content(path, header, arrays)

    @classmethod
    def load(cls, name_or_path: str | Path) -> DensityModel:
        """A shipped model by its name, or a model file.

        Raises
        ------
        ModelError
            Not a shipped name and no such file; truncated; not one of our models; changed since it was written; of a
            later version; tensors that do not fit each other; of a version without atom types where these cannot be
            had from the level's code.
        """
        path = model_path(name_or_path)
        header, arrays = read_content(path)
        with damage(path), torch.device('cpu'):
            return cls._from_content(header, {name: torch.from_numpy(array) for name, array in arrays.items()})

    @classmethod
    def _from_content(cls, header: dict[str, Any], tensors: dict[str, torch.Tensor]) -> DensityModel:
        level = Level.from_dict(header['level'])
        atom_types = _atom_types(_part(tensors, 'atom_types.'), level)
        architecture = Architecture.from_dict(header['architecture'], atom_types)
        state = _part(tensors, 'network.')
        architecture.check(state)
        network = architecture.build(empty=True)
        _check_shapes(network, state)
        network.load_state_dict(state)
        familiarity = EnvironmentDistance.from_state_dict(
            _part(tensors, 'familiarity.'), len(architecture.species), network.ninvariants
        )
        bars = _part(tensors, 'error_bars.')
        error_bars = ErrorBars.from_state_dict(bars, network) if bars else None
        if strange := [name for name in tensors if name.partition('.')[0] not in PARTS]:
            raise ValueError(f'tensors that are no part of a model: {", ".join(strange)}')
        if not isinstance(header['card'], dict):
            raise ValueError(f'its card is {header["card"]!r}')
        charge = real('the charge of a model', header['charge'], unit='|e|')
        return cls(architecture, network.eval(), level, atom_types, familiarity, header['card'], charge, error_bars)


def with_rounded_weights(network: DensityNetwork) -> DensityNetwork:
    """A copy whose trained weights have 16 bits of the mantissa, which makes the file a quarter smaller.

    Densities change by a millionth of themselves.  Weights that take no part in training stay.
    """
    network = copy.deepcopy(network)
    with torch.no_grad():
        for weight in network.parameters():
            if weight.requires_grad and weight.dtype == torch.float32:
                weight.copy_(torch.from_numpy(to_16_bits(weight.cpu().numpy())))
    return network


def _check_shapes(network: DensityNetwork, state: dict[str, torch.Tensor]) -> None:
    """Refuse what ``load_state_dict`` would still take: a vector of one number for a number."""
    for name, tensor in network.state_dict().items():
        if name in state and state[name].shape != tensor.shape:
            raise ValueError(f'network.{name} is {tuple(state[name].shape)}, which should be {tuple(tensor.shape)}')


def _atom_types(tensors: dict[str, torch.Tensor], level: Level) -> dict[int, AtomType]:
    """By atomic number, ascending; ``tensors``: by 'atomic number.name'."""
    arrays_z: dict[int, dict[str, np.ndarray]] = {}
    for key, tensor in tensors.items():
        number, _, name = key.partition('.')
        if not number.isdecimal():
            raise ValueError(f'an atom type of {number!r}, which is no atomic number')
        arrays_z.setdefault(int(number), {})[name] = tensor.numpy()
    return {
        number: AtomType.from_arrays(number, arrays, level.fingerprint(number))
        for number, arrays in sorted(arrays_z.items())
    }


def _part(tensors: dict[str, torch.Tensor], prefix: str) -> dict[str, torch.Tensor]:
    return {key.removeprefix(prefix): value for key, value in tensors.items() if key.startswith(prefix)}
