"""Snapshots as a training sees them: read as they are needed, and kept as far as there is room."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar, overload

import numpy as np
import torch

from ase_deepdensity.collocation.superposition import superpose
from ase_deepdensity.dataset import Dataset
from ase_deepdensity.dataset.files import Outline
from ase_deepdensity.grid import Grid
from ase_deepdensity.memory import physical_memory
from ase_deepdensity.network.contract import DensityNetwork, Matrices
from ase_deepdensity.network.system import System
from ase_deepdensity.paw import AtomType
from ase_deepdensity.spin import components
from ase_deepdensity.state import PAWDensity
from ase_deepdensity.system import system_of

SHARE = 0.25
"""Of the machine's memory, for densities."""

SMALLEST_MOMENT = 1e-3
"""Difference of an occupation of spin up and spin down that counts as a magnetisation, electrons."""

Kept = TypeVar('Kept')


@dataclass(frozen=True, eq=False)
class Sample:
    """What is small of a snapshot: its atoms, their matrices, and where its density is known."""

    name: str
    """Of its file."""
    system: System
    """Its atoms for the network, float32."""
    grid: Grid
    """The whole one."""
    D_zsaii: Matrices
    """By atomic number, (components, natoms of it, ni, ni) float32, atoms as in :meth:`.System.atoms_of`."""


@dataclass(frozen=True, eq=False)
class Target:
    """What a network has to add to the superposition of atoms."""

    density_sR: torch.Tensor
    """(components, n0, n1, n2) float32, electrons/Å³: total minus superposition, and the magnetisation."""
    electrons: float
    """Σ_R ñ_R, the denominator of the NMAE, electrons/Å³."""


class Cache:
    """Arrays that are kept until they take so much memory; what comes later is made again each time it is wanted.

    Whoever goes through more than fits, round after round, would find nothing of it if the newest were kept.

    Parameters
    ----------
    nbytes
        Default: a quarter of the machine's memory.
    processes
        That share it.
    """

    def __init__(self, nbytes: float | None = None, processes: int = 1):
        self.left = (SHARE * (physical_memory() or 2**33) if nbytes is None else nbytes) / processes
        self._kept: dict[object, object] = {}

    def get(self, key: object, make: Callable[[], Kept], nbytes: Callable[[Kept], int]) -> Kept:
        """What is kept for ``key``, or a new one."""
        if key in self._kept:
            return self._kept[key]  # type: ignore[return-value]
        made = make()
        if nbytes(made) <= self.left:
            self.left -= nbytes(made)
            self._kept[key] = made
        return made


class TrainingData(Sequence[Sample]):
    """The snapshots of a data set for a network; files are read when one is asked for.

    What is small of a snapshot stays in memory, densities as far as ``cache`` has room.

    Parameters
    ----------
    atom_types
        By atomic number: free atoms, whose superposition is subtracted, and their electrons.

    Raises
    ------
    ValueError
        When it is asked for: a spin-polarised snapshot, where the network puts out no magnetisation; or one that has a
        magnetisation and no initial moments.
    """

    def __init__(self, dataset: Dataset, network: DensityNetwork, atom_types: Mapping[int, AtomType], cache: Cache):
        self.dataset, self.atom_types, self.cache = dataset, atom_types, cache
        self.network = network
        self._samples: list[Sample | None] = [None] * len(dataset)

    def __len__(self) -> int:
        return len(self._samples)

    @overload
    def __getitem__(self, index: int) -> Sample: ...

    @overload
    def __getitem__(self, index: slice) -> list[Sample]: ...

    def __getitem__(self, index: int | slice) -> Sample | list[Sample]:
        """What is small of a snapshot."""
        if isinstance(index, slice):
            return [self[t] for t in range(*index.indices(len(self)))]
        sample = self._samples[index]
        if sample is None:
            sample = self._samples[index] = self._sample(index)
        return sample

    def reference(self, t: int) -> PAWDensity:
        """The density of a snapshot itself."""
        return self.cache.get(
            (self, 'reference', t), lambda: self.dataset[t].density, lambda density: density.nt_sR.nbytes
        )

    def target(self, t: int) -> Target:
        """What a network has to add to the superposition of atoms in a snapshot."""
        return self.cache.get(
            (self, 'target', t), lambda: self.target_of(self.dataset[t].density), lambda made: made.density_sR.nbytes
        )

    def target_of(self, density: PAWDensity) -> Target:
        """The same of a density that is at hand."""
        return target_of(density, self.atom_types)

    def _sample(self, t: int) -> Sample:
        return sample_of(self.dataset.outline(t), self.dataset.files[t].name, self.network, self.atom_types)


def target_of(density: PAWDensity, atom_types: Mapping[int, AtomType]) -> Target:
    """What a network has to add to the superposition of atoms."""
    atoms = density.atoms
    density_sR = components(density.nt_sR)
    electrons = float(density_sR[0].sum())
    tables = {number: atom_type.nt for number, atom_type in atom_types.items()}
    density_sR[0] -= superpose(density.grid, atoms.positions, atoms.numbers, tables, np.float64)
    return Target(torch.from_numpy(density_sR).float(), electrons)


def sample_of(
    state: Outline | PAWDensity, name: str, network: DensityNetwork, atom_types: Mapping[int, AtomType]
) -> Sample:
    """What is small of a state.

    Raises
    ------
    ValueError
        It is spin-polarised, and the network puts out no magnetisation; or it has one and no initial moments.
    """
    if state.nspins != 1 and not network.sees_magnetic_moments:
        raise ValueError(
            f'{name}: spin-polarised, but this network puts out no magnetisation: leave such snapshots out, or '
            'train a network that is told the magnetic moments of atoms'
        )
    if not state.atoms.get_initial_magnetic_moments().any() and _has_moments(state.D_asii):
        raise ValueError(
            f'{name}: there is a magnetisation, but its atoms have no initial magnetic moments, from which a network '
            'predicts it: calculate it from atoms with moments (atoms.set_initial_magnetic_moments), or leave it out'
        )
    electrons = sum(atom_types[Z].nvalence for Z in state.atoms.numbers.tolist()) - state.charge
    system = system_of(state.atoms, network, state.level, charges=[state.charge], electrons=[electrons])
    system = system.to(dtype=torch.float32)
    D_asii = [torch.from_numpy(components(D_sii)).float() for D_sii in state.D_asii]
    D_zsaii = {Z: torch.stack([D_asii[a] for a in system.atoms_of(Z).tolist()], 1) for Z in system.numbers}
    return Sample(name, system, state.grid, D_zsaii)


def _has_moments(D_asii: Sequence[np.ndarray]) -> bool:
    """Whether some matrix of spin up differs from that of spin down by more than an SCF cycle leaves."""
    return any(len(D_sii) == 2 and bool((abs(D_sii[0] - D_sii[1]) > SMALLEST_MOMENT).any()) for D_sii in D_asii)
