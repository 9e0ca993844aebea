"""Systems with their atoms sorted by species, as networks with weights for each species work on them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch

from ase_deepdensity.network.system import System

CHUNK = 512
"""Atoms that layers and heads work on at once where no gradient is wanted: it bounds the memory."""


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
    shell_a: torch.Tensor | None = None
    """(natoms,) of a block, see :class:`.System`; the last shell is left out."""

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
        natoms = len(system.neighbor_ak)
        order_a = torch.argsort(species_a[:natoms], stable=True)
        back_a = torch.argsort(order_a)
        neighbor_ak = system.neighbor_ak[order_a]
        return cls(
            species,
            by_species(species_a[:natoms].bincount(minlength=len(species)).tolist()),
            order_a,
            back_a,
            back_a[neighbor_ak.clamp(max=natoms - 1)],
            system.vector_akv[order_a],
            species_a[neighbor_ak],
            None if system.response_mac is None else system.response_mac[:, order_a],
            None if system.shell_a is None else system.shell_a[order_a],
        )

    def within(self, steps: int) -> torch.Tensor | slice:
        """Which atoms are at most so many steps away from those that are asked about."""
        return slice(None) if self.shell_a is None else torch.nonzero(self.shell_a <= steps).flatten()

    def chunks(self) -> Iterator[tuple[slice, list[slice]]]:
        """Some atoms at a time, and which of them are of each species; all at once where gradients are wanted."""
        for rows in chunks(len(self.order_a)):
            yield rows, [within(some, rows) for some in self.slices]

    def part(self, rows: torch.Tensor | slice) -> SortedSystem:
        """Some of the atoms, in this order; indices of neighbours stay those among all."""
        order_a = self.order_a[rows]
        species_a = torch.repeat_interleave(torch.tensor([some.stop - some.start for some in self.slices]))
        return replace(
            self,
            slices=by_species(species_a.to(order_a.device)[rows].bincount(minlength=len(self.slices)).tolist()),
            order_a=order_a,
            back_a=torch.argsort(order_a),
            neighbor_ak=self.neighbor_ak[rows],
            vector_akv=self.vector_akv[rows],
            species_ak=self.species_ak[rows],
            response_mac=None if self.response_mac is None else self.response_mac[:, rows],
            shell_a=None if self.shell_a is None else self.shell_a[rows],
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


def chunks(natoms: int) -> Iterator[slice]:
    """Atoms that a layer works on at once: as many as fit into a cache, all where gradients are wanted."""
    step = max(1, natoms) if torch.is_grad_enabled() else CHUNK
    for start in range(0, max(1, natoms), step):
        yield slice(start, min(start + step, natoms))


def within(some: slice, rows: slice) -> slice:
    """Where the atoms ``some`` are among ``rows``; empty where they are elsewhere."""
    start, stop = (min(max(i, rows.start), rows.stop) - rows.start for i in (some.start, some.stop))
    return slice(start, stop)


def by_species(counts: Sequence[int]) -> list[slice]:
    """Where so many atoms of each species are that stand one species after the other."""
    return [slice(int(stop) - n, int(stop)) for stop, n in zip(np.cumsum(counts), counts, strict=True)]


def total_matrices(D_tzsaii: Sequence[Mapping[int, torch.Tensor]], number: int) -> torch.Tensor:
    """(natoms, ni, ni) of an element in all of several systems, from (1 or 2, natoms, ni, ni) of each."""
    return torch.cat([D_zsaii[number][0] for D_zsaii in D_tzsaii if number in D_zsaii])
