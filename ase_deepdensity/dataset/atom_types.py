"""Atom types in files of densities: a few thousand bytes for each element.

All numbers of all types stand one after the other in one array of float64, which is compressed.  The table of ñ(r) is
thinned, see :meth:`.RadialTable.thinned`.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import numpy as np

from ase_deepdensity.basis.radial_table import nodes_of
from ase_deepdensity.paw import FLOATS, OPTIONAL, SHELLS, THINNED, AtomType

MOST = 1000
"""Types in a file, and values of each of their shells."""


def distinct(atom_types: Sequence[AtomType]) -> tuple[list[AtomType], np.ndarray]:
    """The different types of some atoms, and which of them each atom has, (natoms,)."""
    types = list({id(atom_type): atom_type for atom_type in atom_types}.values())
    index = {id(atom_type): i for i, atom_type in enumerate(types)}
    return types, np.array([index[id(atom_type)] for atom_type in atom_types], dtype=int)


def packed(types: Sequence[AtomType]) -> tuple[str, np.ndarray]:
    """JSON text and numbers: what :func:`unpacked` reads."""
    entries, numbers = [], [np.zeros(0)]
    for atom_type in types:
        arrays = atom_type.to_arrays()
        numbers += [arrays[name].ravel() for name in (*FLOATS, *SHELLS, 'Delta_iiL', 'D_ii', 'nt_step', 'nt_cutoff')]
        numbers += [*atom_type.nt.thinned()]
        numbers += [arrays[OPTIONAL].ravel()] if OPTIONAL in arrays else []
        nj, _, nL = len(atom_type.l_j), *arrays['Delta_iiL'].shape[1:]
        entry = {'number': atom_type.number, 'fingerprint': atom_type.fingerprint, 'nj': nj, 'nL': nL}
        entries.append(entry | ({OPTIONAL: True} if OPTIONAL in arrays else {}))
    return json.dumps(entries), np.concatenate(numbers).astype(float)


def unpacked(text: str, numbers: np.ndarray) -> list[AtomType]:
    """The types that :func:`packed` has written; the same objects for the same content.

    Raises
    ------
    ValueError
        Something else.
    """
    return list(_unpacked(text, numbers.astype(float).tobytes()))


@lru_cache(maxsize=64)
def _unpacked(text: str, data: bytes) -> tuple[AtomType, ...]:
    reader = _Reader(np.frombuffer(data))
    entries = json.loads(text)
    if not isinstance(entries, list) or len(entries) > MOST:
        raise ValueError(f'atom types are a list of at most {MOST}, not {str(entries)[:50]}')
    types = tuple(_read(entry, reader) for entry in entries)
    if reader.left:
        raise ValueError(f'{reader.left} numbers are too many for its atom types')
    return types


class _Reader:
    """Takes numbers from the beginning of an array."""

    def __init__(self, numbers: np.ndarray):
        self.numbers = numbers

    @property
    def left(self) -> int:
        return len(self.numbers)

    def take(self, *shape: int) -> np.ndarray:
        size = int(np.prod(shape, dtype=object))
        if size > self.left:
            raise ValueError(f'its atom types need {size} more numbers, and {self.left} are left')
        taken, self.numbers = self.numbers[:size], self.numbers[size:]
        return taken.reshape(shape).copy()


def _read(entry: dict[str, Any], reader: _Reader) -> AtomType:
    number, nj, nL = entry['number'], entry['nj'], entry['nL']
    if not all(type(n) is int and 0 <= n <= MOST for n in (number, nj, nL)) or type(entry['fingerprint']) is not str:
        raise ValueError(f'no atom type: {str(entry)[:100]}')
    arrays = {name: reader.take() for name in FLOATS} | {name: reader.take(nj) for name in SHELLS}
    ni = int(np.clip(2 * arrays['l_j'] + 1, 0, MOST).sum())
    arrays |= {'Delta_iiL': reader.take(ni, ni, nL), 'D_ii': reader.take(ni, ni)}
    arrays |= {'nt_step': reader.take(), 'nt_cutoff': reader.take()}
    nnodes = nodes_of(float(arrays['nt_step']), float(arrays['nt_cutoff']))
    arrays |= {THINNED: reader.take(2, nnodes)}
    arrays |= {OPTIONAL: reader.take(ni, ni)} if entry.get(OPTIONAL, False) is True else {}
    return AtomType.from_arrays(number, arrays, entry['fingerprint'])
