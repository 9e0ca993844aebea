"""One list of structures for a model of the periodic table, in an order of which any first part is balanced."""

from __future__ import annotations

import random
import zlib
from collections.abc import Callable, Iterable, Iterator
from itertools import islice

import numpy as np
from ase import Atoms

from ase_deepdensity.level import Level
from ase_deepdensity.sampling.balance import SHARES, Balance
from ase_deepdensity.sampling.cost import estimated_seconds
from ase_deepdensity.sampling.crystals import ELEMENT_SCALES, Compound, compounds
from ase_deepdensity.sampling.distort import rattled, strained, stretched
from ase_deepdensity.sampling.held_out import reason_to_hold_out
from ase_deepdensity.sampling.prototypes import scaled

Variant = Callable[[Atoms, np.random.Generator], Atoms]


def _unchanged(atoms: Atoms, rng: np.random.Generator) -> Atoms:
    return atoms


CRYSTALS: tuple[tuple[str, Variant, int, float], ...] = (
    ('crystal', _unchanged, 900, 15.0),
    ('stretched', stretched, 500, 15.0),
    ('strained', strained, 350, 30.0),
    ('rattled', rattled, 350, 60.0),
)
"""Stages of a plan: name, what is done with the crystal, how many, seconds that one may take."""


def plan(seed: int = 0) -> Iterator[Atoms]:
    """The structures, from cheap symmetric crystals on; what is held out is left out."""
    level = Level.load('general-pw400')
    for n, (name, variant, number, seconds) in enumerate(CRYSTALS):
        rng = random.Random(f'{seed} {name}')
        yield from islice(_stage(name, variant, _by_kind(compounds(rng)), Balance(rng, SHARES), seed, level, seconds), number)


def _by_kind(pool: Iterable[Compound]) -> dict[str, list[Compound]]:
    by_kind: dict[str, list[Compound]] = {}
    for compound in pool:
        by_kind.setdefault(compound.kind, []).append(compound)
    return by_kind


def _stage(
    name: str,
    variant: Variant,
    pool: dict[str, list[Compound]],
    balance: Balance,
    seed: int,
    level: Level,
    seconds: float,
) -> Iterator[Atoms]:
    while any(pool.values()):
        compound = balance.next(pool)
        atoms = compound.relaxed()
        if atoms is None:
            continue
        full_name = f'{compound.name}-{name}'
        rng = np.random.default_rng([seed, zlib.crc32(full_name.encode())])
        if len(compound.elements) == 1:
            atoms = scaled(atoms, rng.choice(ELEMENT_SCALES) ** (1 / 3))
        atoms = variant(atoms, rng)
        if reason_to_hold_out(atoms) or estimated_seconds(atoms, level) > seconds:
            continue
        atoms.info = {'name': full_name, 'kind': compound.kind, 'sampler': name, 'seed': seed}
        balance.count(compound)
        yield atoms
