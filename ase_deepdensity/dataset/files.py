"""One snapshot, one HDF5 file.

==================  =================  =======================================================================
data set            shape              content
==================  =================  =======================================================================
``nt_sR``           (nspins, n, n, n)  pseudo density, electrons/Å³, float64, compressed without loss
``D_sI``            (nspins, Σ ni²)    the density matrices of the atoms, one after the other
``ni_a``            (natoms,)          their sizes
``numbers`` …       (natoms,)          the atoms: ``numbers``, ``positions`` and ``cell`` in Å, ``pbc``, ``magmoms``
``size_c`` …        (3,)               the grid: ``size_c``, ``pbc_c``, ``zerobc_c``, ``start_c``, ``stop_c``
``type_a``          (natoms,)          which of the atom types each atom has
``atom_types``      (n,)               their numbers: :mod:`.dataset.atom_types`
``forces``          (natoms, 3)        eV/Å; (0, 3): they were not calculated
``dipole``          (3,)               e·Å
==================  =================  =======================================================================

Attributes: ``level`` (JSON: every GPAW parameter and the versions), ``charge`` (|e|), ``geometry`` (hash),
``atom_types`` (JSON: element, MD5 and sizes of each), ``energy`` (eV), ``niter``,
``seconds``, ``info`` (JSON, free).  How files are sealed: :mod:`.hdf5`.

Files of versions 1 to 3 are read.  Those have no overlaps of partial waves (:attr:`.AtomType.N0_ii`), from which the
moments of atoms are counted; before version 3 there are no atom types.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from ase import Atoms

from ase_deepdensity.codes import code_of
from ase_deepdensity.dataset import hdf5
from ase_deepdensity.dataset.contents import (
    SINCE,
    STATE,
    check_electrons,
    geometry_hash,
    outline,
    read_level_and_charge,
    read_state,
    read_types,
    write_state,
)
from ase_deepdensity.files import read_json, remove_stale_temporaries, temporary_path
from ase_deepdensity.grid import Grid
from ase_deepdensity.level import Level
from ase_deepdensity.paw import AtomType
from ase_deepdensity.snapshot import Snapshot

__all__ = [
    'FORMAT',
    'VERSION',
    'Outline',
    'Snapshot',
    'SnapshotError',
    'geometry_hash',
    'read_atom_types',
    'read_charge',
    'read_level',
    'read_numbers',
    'read_outline',
    'read_snapshot',
    'remove_stale_temporaries',
    'temporary_path',
    'write_snapshot',
]

FORMAT, VERSION = 'ase-deepdensity snapshot', 4


class SnapshotError(ValueError):
    """A file that is not a whole snapshot."""


LAYOUT = hdf5.Layout(
    FORMAT, VERSION, STATE | {'forces': ('f', 2), 'dipole': ('f', 1)}, 'snapshot', SnapshotError, SINCE
)


@dataclass(frozen=True, eq=False)
class Outline:
    """What is small of a snapshot: where its density is known, not the density."""

    atoms: Atoms
    """With their magnetic moments."""
    grid: Grid
    """The whole one."""
    D_asii: list[np.ndarray]
    """(nspins, ni, ni) for each atom."""
    level: Level
    """Of theory."""
    charge: float
    """Total charge of the system, |e|."""

    @property
    def nspins(self) -> int:
        """1: spin-paired; 2: two spin densities."""
        return len(self.D_asii[0]) if self.D_asii else 1


def write_snapshot(path: str | Path, snapshot: Snapshot) -> None:
    """Write a snapshot: the file appears whole or not at all, whatever happens.

    Raises
    ------
    SnapshotError
        Its electrons do not add up.
    OSError
        The disk is full, and the like.
    """
    try:
        check_electrons(snapshot.density)
    except ValueError as error:
        raise SnapshotError(f'{path}: no such snapshot can be written: {error}') from None
    forces_av = np.empty((0, 3)) if snapshot.forces is None else snapshot.forces
    arrays = {'forces': forces_av, 'dipole': snapshot.dipole}
    attributes: dict[str, str | int | float] = {
        'energy': float(snapshot.energy),
        'niter': int(snapshot.niter),
        'seconds': float(snapshot.seconds),
        'info': json.dumps(snapshot.info),
    }
    write_state(path, LAYOUT, snapshot.density, arrays, attributes)


def read_snapshot(path: str | Path) -> Snapshot:
    """Read a snapshot.

    Raises
    ------
    SnapshotError
        The file is missing, truncated, foreign, changed since it was written, of a later version, or holds what cannot
        be; the message names it and says which.
    """
    with hdf5.opened(path, LAYOUT) as content:
        arrays = content.arrays()
        density = read_state(content, arrays)
        check_electrons(density)
        return Snapshot(
            density=density,
            energy=content.number('energy'),
            forces=arrays['forces'] if len(arrays['forces']) else None,
            dipole=arrays['dipole'],
            niter=int(content.number('niter')),
            seconds=content.number('seconds'),
            info=read_json(content.text('info')),
        )


def read_outline(path: str | Path) -> Outline:
    """A snapshot without its density, many times faster; the checksum, which is that of all, is not looked at.

    Raises
    ------
    SnapshotError
        As :func:`read_snapshot`.
    """
    with hdf5.opened(path, LAYOUT, whole=False) as content:
        arrays = {name: content.array(name) for name in STATE if name != 'nt_sR' and name not in SINCE}
        return Outline(*outline(content, arrays), *read_level_and_charge(content))


def read_level(path: str | Path) -> Level:
    """The level of theory of a snapshot, without its arrays."""
    with hdf5.opened(path, LAYOUT, whole=False) as content:
        return read_level_and_charge(content)[0]


def read_charge(path: str | Path) -> float:
    """The charge of the system of a snapshot, |e|, without its arrays."""
    with hdf5.opened(path, LAYOUT, whole=False) as content:
        return read_level_and_charge(content)[1]


def read_atom_types(path: str | Path) -> list[AtomType]:
    """The type of each atom of a snapshot; of an older one that has none, what its level's code says."""
    with hdf5.opened(path, LAYOUT, whole=False) as content:
        types, level = read_types(content), read_level_and_charge(content)[0]
        return types or code_of(level).atom_types(level, content.array('numbers'))


def read_numbers(path: str | Path) -> np.ndarray:
    """The atomic numbers (natoms,) of a snapshot, without its density."""
    with hdf5.opened(path, LAYOUT, whole=False) as content:
        return content.array('numbers')
