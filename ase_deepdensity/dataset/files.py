"""One snapshot, one HDF5 file.

==================  =================  =======================================================================
data set            shape              content
==================  =================  =======================================================================
``nt_sR``           (nspins, n, n, n)  pseudo density, electrons/Å³, float64, compressed without loss
``D_sI``            (nspins, Σ ni²)    the density matrices of the atoms, one after the other
``ni_a``            (natoms,)          their sizes
``numbers`` …       (natoms,)          the atoms: ``numbers``, ``positions`` and ``cell`` in Å, ``pbc``, ``magmoms``
``size_c`` …        (3,)               the grid: ``size_c``, ``pbc_c``, ``zerobc_c``, ``start_c``, ``stop_c``
``forces``          (natoms, 3)        eV/Å
``dipole``          (3,)               e·Å
==================  =================  =======================================================================

Attributes: ``format``, ``version``, ``level`` (JSON: every GPAW parameter and the versions), ``geometry`` (hash),
``energy`` (eV), ``niter``, ``seconds``, ``info`` (JSON, free).
"""

from __future__ import annotations

import hashlib
import json
import os
import socket
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from ase import Atoms

from ase_deepdensity.grid import Grid
from ase_deepdensity.level import Level, LevelError
from ase_deepdensity.state import PAWDensity

FORMAT, VERSION = 'ase-deepdensity snapshot', 1


class SnapshotError(ValueError):
    """A file that is not a whole snapshot."""


@dataclass(frozen=True, eq=False)
class Snapshot:
    """A converged ground state: what a model learns from."""

    density: PAWDensity
    """The state, with its atoms and level."""
    energy: float
    """eV, extrapolated to zero smearing."""
    forces: np.ndarray
    """(natoms, 3) eV/Å."""
    dipole: np.ndarray
    """(3,) e·Å; where matter reaches across a periodic boundary it depends on where the cell begins."""
    niter: int
    """SCF iterations from the superposition of atoms."""
    seconds: float
    """Wall time of the SCF, set-up included."""
    info: dict[str, Any] = field(default_factory=dict)
    """Anything else that JSON can hold."""

    def __post_init__(self) -> None:
        natoms = len(self.density.atoms)
        for name, shape in ('forces', (natoms, 3)), ('dipole', (3,)):
            array = np.asarray(getattr(self, name), dtype=float)
            if array.shape != shape:
                raise ValueError(f'{name} must have the shape {shape}, not {array.shape}')
            object.__setattr__(self, name, array)
        for name, kind in ('energy', float), ('niter', int), ('seconds', float):
            object.__setattr__(self, name, kind(getattr(self, name)))

    def __repr__(self) -> str:
        return (
            f'Snapshot({self.atoms.symbols}, {self.energy:.6f} eV, {self.niter} iterations in {self.seconds:.1f} s, '
            f'level {self.level.name or "unnamed"})'
        )

    @property
    def atoms(self) -> Atoms:
        """Of the density."""
        return self.density.atoms

    @property
    def level(self) -> Level:
        """The level of theory of the density."""
        return self.density.level


def geometry_hash(atoms: Atoms) -> str:
    """SHA-256 of elements, positions, cell (to 1e-9 Å), boundary conditions and initial magnetic moments."""
    digest = hashlib.sha256(atoms.numbers.astype('<i4').tobytes())
    for array in atoms.positions, atoms.cell.array, atoms.get_initial_magnetic_moments():
        digest.update(np.round(array / 1e-9).astype('<i8').tobytes())
    digest.update(atoms.pbc.tobytes())
    return digest.hexdigest()


def write_snapshot(path: str | Path, snapshot: Snapshot) -> None:
    """Write a snapshot: the file appears whole or not at all, whatever happens."""
    path = Path(path)
    temporary = temporary_path(path)
    try:
        with h5py.File(temporary, 'w') as file:
            _write_state(file, snapshot.density)
            file['forces'] = snapshot.forces
            file['dipole'] = snapshot.dipole
            file.attrs.update(
                format=FORMAT,
                version=VERSION,
                level=json.dumps(snapshot.level.to_dict()),
                geometry=geometry_hash(snapshot.atoms),
                energy=snapshot.energy,
                niter=snapshot.niter,
                seconds=snapshot.seconds,
                info=json.dumps(snapshot.info),
            )
        move_into_place(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def read_snapshot(path: str | Path) -> Snapshot:
    """Read a snapshot.

    Raises
    ------
    SnapshotError
        The file is missing, truncated, foreign, or of a later version; the message names it.
    """
    with open_snapshot(path) as file:
        try:
            attrs = file.attrs
            return Snapshot(
                density=_read_state(file, Level.from_dict(json.loads(attrs['level']))),
                energy=float(attrs['energy']),
                forces=file['forces'][()],
                dipole=file['dipole'][()],
                niter=int(attrs['niter']),
                seconds=float(attrs['seconds']),
                info=json.loads(attrs['info']),
            )
        except (KeyError, OSError, ValueError, RuntimeError) as error:
            raise SnapshotError(f'{path}: a damaged snapshot: {error}') from error


def read_level(path: str | Path) -> Level:
    """The level of theory of a snapshot, without its arrays."""
    with open_snapshot(path) as file:
        try:
            return Level.from_dict(json.loads(file.attrs['level']))
        except (KeyError, OSError, LevelError, json.JSONDecodeError) as error:
            raise SnapshotError(f'{path}: a damaged snapshot: {error}') from error


def read_numbers(path: str | Path) -> np.ndarray:
    """The atomic numbers (natoms,) of a snapshot, without its density."""
    with open_snapshot(path) as file:
        try:
            return file['numbers'][()]
        except (KeyError, OSError) as error:
            raise SnapshotError(f'{path}: a damaged snapshot: {error}') from error


def open_snapshot(path: str | Path) -> h5py.File:
    """The open HDF5 file of a snapshot, its format and version checked."""
    if not Path(path).is_file():
        raise SnapshotError(f'{path}: no such file')
    try:
        file = h5py.File(path, 'r', locking=False)
    except OSError as error:
        raise SnapshotError(f'{path}: not a snapshot, or a truncated one ({error})') from None
    if file.attrs.get('format') != FORMAT:
        file.close()
        raise SnapshotError(f'{path}: an HDF5 file, but not an {FORMAT}')
    version = int(file.attrs.get('version', 0))
    if not 1 <= version <= VERSION:
        file.close()
        raise SnapshotError(f'{path}: format version {version}; this program reads up to {VERSION}: update it')
    return file


def temporary_path(path: Path) -> Path:
    """A name beside ``path`` that tells which process is writing."""
    return path.with_name(f'.{path.name}.{_host()}.{os.getpid()}.tmp')


def remove_stale_temporaries(folder: Path) -> None:
    """Remove what killed processes of this machine have left half-written."""
    for temporary in folder.glob('.*.tmp'):
        *_, host, pid, _ = temporary.name.rsplit('.', 3)
        if host == _host() and pid.isdigit() and not _is_running(int(pid)):
            temporary.unlink(missing_ok=True)


def _host() -> str:
    return socket.gethostname().replace('.', '-')


def _is_running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True


def move_into_place(temporary: Path, path: Path) -> None:
    """Make a written file durable and give it its name in one step."""
    with open(temporary, 'rb') as file:
        os.fsync(file.fileno())
    os.replace(temporary, path)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def _write_state(file: h5py.File, density: PAWDensity) -> None:
    atoms, grid = density.atoms, density.grid
    file.create_dataset('nt_sR', data=density.nt_sR, compression='gzip', compression_opts=4, shuffle=True)
    flat = [D_sii.reshape(density.nspins, -1) for D_sii in density.D_asii]
    file['D_sI'] = np.concatenate(flat, axis=1) if flat else np.zeros((density.nspins, 0))
    file['ni_a'] = np.array([D_sii.shape[1] for D_sii in density.D_asii], dtype=int)
    for name, value in {
        'numbers': atoms.numbers,
        'positions': atoms.positions,
        'cell': atoms.cell.array,
        'pbc': atoms.pbc,
        'magmoms': atoms.get_initial_magnetic_moments(),
        'size_c': grid.size_c,
        'pbc_c': grid.pbc_c,
        'zerobc_c': grid.zerobc_c,
        'start_c': grid.start_c,
        'stop_c': grid.stop_c,
    }.items():
        file[name] = value


def _read_state(file: h5py.File, level: Level) -> PAWDensity:
    magmoms = file['magmoms'][()]
    atoms = Atoms(
        numbers=file['numbers'][()],
        positions=file['positions'][()],
        cell=file['cell'][()],
        pbc=file['pbc'][()],
        magmoms=magmoms if magmoms.any() else None,
    )
    grid = Grid(atoms.cell.array, *(file[name][()] for name in ('size_c', 'pbc_c', 'zerobc_c', 'start_c', 'stop_c')))
    D_sI, ni_a = file['D_sI'][()], file['ni_a'][()]
    blocks = np.split(D_sI, np.cumsum(ni_a**2)[:-1], axis=1)
    D_asii = [block.reshape(len(block), ni, ni) for block, ni in zip(blocks, ni_a, strict=True)]
    return PAWDensity(atoms, grid, file['nt_sR'][()], D_asii, level)
