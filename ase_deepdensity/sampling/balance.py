"""In which order a pool is calculated: so that any first part of it knows all elements and kinds of bonding."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Sequence
from typing import Protocol, TypeVar

from ase.data import atomic_numbers

from ase_deepdensity.sampling.chemistry import NOBLE

SHARES = {
    'oxide': 0.17, 'intermetallic': 0.16, 'halide': 0.15, 'chalcogenide': 0.15, 'pnictide': 0.11, 'carbide': 0.1,
    'metal': 0.08, 'hydride': 0.05, 'element': 0.02, 'noble': 0.01,
}  # fmt: skip
"""Of the crystals of a plan, by kind of bonding."""


class Candidate(Protocol):
    """Something that may be calculated."""

    @property
    def elements(self) -> Sequence[str]: ...

    @property
    def kind(self) -> str: ...

    @property
    def natoms(self) -> int:
        """Atoms in the cell: what it costs."""

    @property
    def family(self) -> str:
        """Of structures, like a prototype's name."""


T = TypeVar('T', bound=Candidate)


class Balance:
    """Counts what was taken, and takes next what adds most.

    Parameters
    ----------
    shares
        Of the kinds of bonding; kinds that the pool lacks are passed over.
    draws
        Each time the best of so many candidates of the kind is taken, drawn at random.
    """

    def __init__(self, rng: random.Random, shares: dict[str, float], *, draws: int = 60) -> None:
        self.rng, self.shares, self.draws = rng, shares, draws
        self.counts: Counter[object] = Counter()

    def next(self, pool: dict[str, list[T]]) -> T:
        """Take the next candidate out of ``pool``, lists by kind of bonding."""
        kind = min((k for k in pool if pool[k]), key=lambda k: self.counts[k] / self.shares[k])
        candidates = pool[kind]
        n = max(
            self.rng.sample(range(len(candidates)), min(self.draws, len(candidates))),
            key=lambda n: self.gain(candidates[n]),
        )
        candidates[n], candidates[-1] = candidates[-1], candidates[n]
        return candidates.pop()

    def gain(self, candidate: Candidate) -> float:
        """What a candidate adds, per atom of its cell.

        Most for an element rarely seen, seen in few kinds of bonding or with few partners.
        """
        gain = 0.5 / (1 + self.counts[candidate.family])
        for keys in _keys(candidate):
            gain += sum(1 / (1 + self.counts[key]) for key in keys) / len(candidate.elements)
        return gain / candidate.natoms

    def count(self, candidate: Candidate) -> None:
        """What is calculated counts."""
        self.counts[candidate.kind] += 1
        self.counts[candidate.family] += 1
        for keys in _keys(candidate):
            self.counts.update(keys)


def _keys(candidate: Candidate) -> list[tuple[object, ...]]:
    """What is counted for each element: itself, with its kind of bonding, with each group of partners."""
    return [
        (symbol, (symbol, candidate.kind), *((symbol, group) for group in partner_groups(symbol, candidate.elements)))
        for symbol in candidate.elements
    ]


def partner_groups(symbol: str, elements: Sequence[str]) -> list[str]:
    """Chemically different partners of an element in a compound."""
    return sorted({group(other) for other in elements if other != symbol})


def group(symbol: str) -> str:
    """A coarse group of the periodic table, or a light nonmetal by itself."""
    if symbol in NOBLE:
        return 'noble gas'
    if symbol in ('H', 'C', 'N', 'O', 'F'):
        return symbol
    for name, members in _GROUPS.items():
        if symbol in members:
            return name
    column = _column(symbol)
    if column <= 2:
        return 'alkali' if column == 1 else 'alkaline earth'
    return 'early d' if column <= 7 else 'late d'


_GROUPS = {
    'heavy halogen': ('Cl', 'Br', 'I'),
    'chalcogen': ('S', 'Se', 'Te'),
    'metalloid': ('B', 'Si', 'Ge', 'P', 'As'),
    'p metal': ('Al', 'Ga', 'In', 'Tl', 'Sn', 'Pb', 'Sb', 'Bi', 'Zn', 'Cd', 'Hg'),
}


def _column(symbol: str) -> int:
    """Of the periodic table, for the s and d blocks."""
    number = atomic_numbers[symbol]
    if symbol in ('La', 'Lu'):
        return 3
    noble = max(atomic_numbers[gas] for gas in NOBLE if atomic_numbers[gas] < number)
    return number - noble - (14 if number > 71 else 0)


def coverage(structures: Sequence[tuple[Sequence[str], str]], elements: Sequence[str]) -> str:
    """A table: for each element its structures, groups of partners and kinds of bonding.

    ``structures`` are given as (elements, kind).
    """
    lines = [f'   {"number":>6} {"partners":>8} {"kinds":>5}']
    for symbol in elements:
        own = [(others, kind) for others, kind in structures if symbol in others]
        kinds = Counter(kind for _, kind in own)
        partners = {name for others, _ in own for name in partner_groups(symbol, others)}
        text = ', '.join(f'{kind} {n}' for kind, n in kinds.most_common())
        lines.append(f'{symbol:2} {len(own):6} {len(partners):8} {len(kinds):5}  {text}')
    return '\n'.join(lines)
