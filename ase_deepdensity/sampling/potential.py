"""A universal potential whose weights come with its package: CHGNet (B. Deng et al., Nat. Mach. Intell. 5, 1031 (2023),
doi:10.1038/s42256-023-00716-3; modified BSD licence, weights included)."""

from __future__ import annotations

import hashlib
import sqlite3
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import vesin
from ase import Atoms

ANGLE_RANGE = 3.0
"""Å: the potential looks at all angles between neighbours so near."""
MOST_NEIGHBOURS = 50
"""More of them are met in no solid (28 in diamond), and their angles would fill the memory."""
BOND_RANGE = 6.0
"""Å: the potential sees no neighbour farther away, and nothing binds an atom without any."""


@cache
def _model() -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')
        from chgnet.model.model import CHGNet

        return CHGNet.load(use_device='cpu', verbose=False)


class Memory:
    """Energies that were calculated before, in a file, so that an interrupted plan goes on where it was."""

    def __init__(self, path: Path | None = None) -> None:
        self.database = sqlite3.connect(path or ':memory:')
        self.database.execute('create table if not exists energies (structure blob primary key, energy real)')

    def get(self, atoms: Atoms) -> float | None:
        """Energy, eV per atom; None for a structure that it does not know to the last bit."""
        found = self.database.execute('select energy from energies where structure = ?', [self._key(atoms)]).fetchone()
        return None if found is None else float(found[0])

    def put(self, structures: list[Atoms], energy_n: np.ndarray) -> None:
        """All at once: they are on the disk when this returns."""
        rows = [(self._key(atoms), float(energy)) for atoms, energy in zip(structures, energy_n, strict=True)]
        with self.database:
            self.database.executemany('insert or replace into energies values (?, ?)', rows)

    def is_empty(self) -> bool:
        """Has it no energy?"""
        return self.database.execute('select 1 from energies limit 1').fetchone() is None

    @staticmethod
    def _key(atoms: Atoms) -> bytes:
        parts = atoms.numbers.astype('<i8'), atoms.cell.array.astype('<f8'), atoms.positions.astype('<f8')
        return hashlib.blake2b(b''.join(part.tobytes() for part in parts), digest_size=16).digest()


_memory = Memory()


@contextmanager
def remembered_in(path: Path) -> Iterator[None]:
    """Within the block :func:`energies` looks into this file first, and writes there what it had to calculate.

    A file that holds no energy in the end is removed.
    """
    global _memory
    before, _memory = _memory, Memory(path)
    try:
        yield
    finally:
        is_empty = _memory.is_empty()
        _memory.database.close()
        _memory = before
        if is_empty:
            path.unlink()


def energies(structures: list[Atoms]) -> np.ndarray:
    """Energies (n,) of crystals, eV per atom; infinite for one denser or more dilute than the potential can tell."""
    energy_n = np.array([np.nan if (e := _memory.get(atoms)) is None else e for atoms in structures])
    new = np.isnan(energy_n).nonzero()[0]
    if len(new):
        energy_n[new] = _calculated([structures[n] for n in new])
        _memory.put([structures[n] for n in new], energy_n[new])
    return energy_n


def _calculated(structures: list[Atoms]) -> np.ndarray:
    from pymatgen.io.ase import AseAtomsAdaptor

    energy_n = np.full(len(structures), np.inf)
    possible = [n for n, atoms in enumerate(structures) if _is_within_reach(atoms)]
    if possible:
        with warnings.catch_warnings():
            warnings.simplefilter('ignore')
            crystals = [AseAtomsAdaptor.get_structure(structures[n]) for n in possible]
            results = _model().predict_structure(crystals, task='e', batch_size=len(crystals))
        energy_n[possible] = [float(r['e']) for r in (results if isinstance(results, list) else [results])]
    return energy_n


def _is_within_reach(atoms: Atoms) -> bool:
    """Has each atom a neighbour, and none too many of them?"""
    neighbors = vesin.NeighborList(cutoff=BOND_RANGE, full_list=True)
    i_n, distance_n = neighbors.compute(atoms.positions, atoms.cell.array, atoms.pbc, quantities='id')
    i_n = i_n.astype(np.int64)
    near_a = np.bincount(i_n[distance_n < ANGLE_RANGE], minlength=len(atoms))
    bonded_a = np.bincount(i_n, minlength=len(atoms))
    return bool(near_a.max() <= MOST_NEIGHBOURS and bonded_a.min() > 0)


def calculator() -> Any:
    """The potential as an ASE calculator, for dynamics."""
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')
        from chgnet.model.dynamics import CHGNetCalculator

        return CHGNetCalculator(model=_model(), use_device='cpu', on_isolated_atoms='ignore')
