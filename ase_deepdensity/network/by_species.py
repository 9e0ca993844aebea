"""Systems with their atoms sorted by species, as networks with weights for each species work on them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from ase_deepdensity.network.system import System


@dataclass(frozen=True, eq=False)
class SortedSystem:
    """A :class:`.System` whose atoms of one species stand together, in the order of a network's species."""

    species: tuple[int, ...]
    """Atomic numbers that the network knows, ascending."""
    slices: list[slice]
    """Where the sorted atoms of each species are."""
    order_a: torch.Tensor
    """Index of each sorted atom in the caller's order."""
    back_a: torch.Tensor
    """Index of each of the caller's atoms among the sorted ones."""
    neighbor_ak: torch.Tensor
    """(natoms, K) index of each neighbour among the sorted atoms."""
    vector_akv: torch.Tensor
    """(natoms, K, 3), see :class:`.System`."""
    species_ak: torch.Tensor
    """(natoms, K) index of the species of each neighbour."""
    response_mac: torch.Tensor | None
    """(m, natoms, features), see :class:`.System`."""

    @classmethod
    def of(cls, system: System, species: tuple[int, ...]) -> SortedSystem:
        """Sort.

        Raises
        ------
        ValueError
            Atomic numbers that are not among ``species``.
        """
        check_species(system, species)
        known_z = torch.tensor(species, device=system.number_a.device)
        species_a = torch.searchsorted(known_z, system.number_a)
        order_a = torch.argsort(species_a, stable=True)
        back_a = torch.argsort(order_a)
        neighbor_ak = back_a[system.neighbor_ak[order_a]]
        return cls(
            species,
            by_species(species_a.bincount(minlength=len(species)).tolist()),
            order_a,
            back_a,
            neighbor_ak,
            system.vector_akv[order_a],
            species_a[order_a][neighbor_ak],
            None if system.response_mac is None else system.response_mac[:, order_a],
        )

    def by_number(self, D_zaii: Sequence[torch.Tensor]) -> dict[int, torch.Tensor]:
        """Matrices (natoms, ni, ni) for each species → (1, 1, natoms, ni, ni) of those that occur."""
        return {Z: D_aii[None, None] for Z, D_aii in zip(self.species, D_zaii, strict=True) if len(D_aii)}


def check_species(system: System, species: Sequence[int]) -> None:
    """Refuse atoms that a network does not know.

    Raises
    ------
    ValueError
        The message names their atomic numbers.
    """
    if unknown := sorted(set(system.numbers) - set(species)):
        raise ValueError(f'atomic numbers {unknown} are not among {list(species)}')


def by_species(counts: Sequence[int]) -> list[slice]:
    """Where so many atoms of each species are that stand one species after the other."""
    return [slice(int(stop) - n, int(stop)) for stop, n in zip(np.cumsum(counts), counts, strict=True)]


def total_matrices(D_tzsaii: Sequence[Mapping[int, torch.Tensor]], number: int) -> torch.Tensor:
    """(natoms, ni, ni) of an element in all of several systems, from (1 or 2, natoms, ni, ni) of each."""
    return torch.cat([D_zsaii[number][0] for D_zsaii in D_tzsaii if number in D_zsaii])
