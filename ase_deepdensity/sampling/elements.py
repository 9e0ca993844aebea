"""Elemental crystals: each element as it is found in nature, and as others are, at volumes that may be trained on."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from ase import Atoms
from ase.build import bulk
from ase.collections import dcdft

from ase_deepdensity.sampling.chemistry import ELEMENTS

NATURAL = 'natural'
STRUCTURES = (
    (NATURAL, 0.90), (NATURAL, 1.09), ('fcc', 0.94), ('bcc', 1.06), ('hcp', 1.06), ('diamond', 1.35), ('sc', 1.12),
    ('bcc', 0.92), ('fcc', 1.12),
)  # fmt: skip
"""Each for all elements in turn: the lattice, and the volume per atom in units of that of the ``dcdft`` crystal, from
which it must differ by more than 4 %."""


def elemental_crystals(max_atoms: int = 6) -> Iterator[tuple[str, Atoms]]:
    """With names such as 'Fe-fcc-0.94'; natural crystals of more than ``max_atoms`` are left out."""
    for lattice, scale in STRUCTURES:
        for symbol in ELEMENTS:
            if symbol in dcdft.names:
                natural = dcdft[symbol]
                atoms = natural if lattice == NATURAL else _lattice(symbol, lattice)
                if len(atoms) <= max_atoms:
                    yield f'{symbol}-{lattice}-{scale}', _at_volume(atoms, scale * natural.get_volume() / len(natural))


def _lattice(symbol: str, lattice: str) -> Atoms:
    """At a lattice constant of 1 Å."""
    return bulk(symbol, lattice, a=1.0, c=np.sqrt(8 / 3) if lattice == 'hcp' else None)


def _at_volume(atoms: Atoms, volume: float) -> Atoms:
    """Without moments, at so many Å³ per atom."""
    scale = (volume * len(atoms) / atoms.get_volume()) ** (1 / 3)
    return Atoms(atoms.numbers, scale * atoms.positions, cell=scale * atoms.cell.array, pbc=True)
