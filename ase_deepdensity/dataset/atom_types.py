"""Atom types in files of densities: a few thousand bytes for each element.

All numbers of all types stand one after the other in one array of float64, which is compressed.  Of the table of ñ(r)
there are value and slope where its intervals begin, about every :data:`SPACING` or at all where these are wider,
in single precision.  The table that is made of them differs by 1e-6 of the largest value and 1e-7 electrons; it is
written as the same numbers again.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import numpy as np
from scipy.interpolate import CubicHermiteSpline

from ase_deepdensity.arguments import real, whole
from ase_deepdensity.basis import RadialTable
from ase_deepdensity.paw import FLOATS, OPTIONAL, SHELLS, AtomType

SPACING = 0.01
"""Å."""
MOST_INTERVALS = 2**16
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
        numbers += [*_thinned(atom_type.nt)]
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
    step, cutoff = (real(f'{name} of an atom type', float(arrays[name]), above=0) for name in ('nt_step', 'nt_cutoff'))
    intervals = whole('intervals of an atom type', round(min(cutoff**2 / step, 1e9)), least=1, most=MOST_INTERVALS)
    node_k = _nodes(intervals, cutoff)
    table = _table(intervals, step, node_k, reader.take(len(node_k)), reader.take(len(node_k)))
    arrays |= {'nt_xp': table} | ({OPTIONAL: reader.take(ni, ni)} if entry.get(OPTIONAL, False) is True else {})
    return AtomType.from_arrays(number, arrays, entry['fingerprint'])


def _nodes(intervals: int, cutoff: float) -> np.ndarray:
    """Which ends of intervals in r² are kept: the first, the last, and about one every :data:`SPACING` in between."""
    wanted = np.append((np.arange(0, cutoff, SPACING) / cutoff) ** 2, 1.0) * intervals
    return np.unique(wanted.round().astype(int))


def _thinned(table: RadialTable) -> tuple[np.ndarray, np.ndarray]:
    """ñ and dñ/d(r²) at the nodes, the last of which are 0."""
    node_k = _nodes(len(table.table_xp), table.cutoff)
    slope, value = table.table_xp[node_k[:-1], 2:].T
    value_k, slope_k = (np.append(x, 0.0).astype(np.float32) for x in (value, slope / table.x_step))
    return value_k, slope_k


def _table(intervals: int, step: float, node_k: np.ndarray, value_k: np.ndarray, slope_k: np.ndarray) -> np.ndarray:
    """(intervals, 4) coefficients of a table that goes through the nodes, see :class:`.RadialTable`."""
    x_x = np.arange(intervals + 1) * step
    through = CubicHermiteSpline(x_x[node_k], value_k, slope_k)
    fine = CubicHermiteSpline(x_x, through(x_x), through(x_x, 1))
    return np.ascontiguousarray(fine.c.T * step ** np.arange(3, -1, -1))
