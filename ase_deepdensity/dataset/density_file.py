"""One PAW density, one HDF5 file: the state of a snapshot without energy and forces (see :mod:`.files`)."""

from __future__ import annotations

import json
from pathlib import Path

import h5py

from ase_deepdensity.dataset import files
from ase_deepdensity.level import Level
from ase_deepdensity.state import PAWDensity

FORMAT, VERSION = 'ase-deepdensity density', 1


class DensityFileError(ValueError):
    """A file that holds no whole density."""


def write_density(path: str | Path, density: PAWDensity) -> None:
    """Write ñ, D, atoms, grid and level without loss; the file appears whole or not at all."""
    path = Path(path)
    temporary = files.temporary_path(path)
    try:
        with h5py.File(temporary, 'w') as file:
            files._write_state(file, density)
            file.attrs.update(format=FORMAT, version=VERSION, level=json.dumps(density.level.to_dict()))
        files.move_into_place(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def read_density(path: str | Path) -> PAWDensity:
    """Read a density, from a file of its own or out of a snapshot.

    Raises
    ------
    DensityFileError
        The file is missing, truncated, foreign, damaged, or of a later version; the message says which.
    """
    if not Path(path).is_file():
        raise DensityFileError(f'{path}: no such file')
    try:
        file = h5py.File(path, 'r', locking=False)
    except OSError as error:
        raise DensityFileError(f'{path}: not a density, or a truncated one ({error})') from None
    with file:
        _check_header(path, file)
        try:
            return files._read_state(file, Level.from_dict(json.loads(file.attrs['level'])))
        except (KeyError, OSError, ValueError, RuntimeError) as error:
            raise DensityFileError(f'{path}: a damaged density: {error}') from error


def _check_header(path: str | Path, file: h5py.File) -> None:
    newest = {FORMAT: VERSION, files.FORMAT: files.VERSION}.get(file.attrs.get('format'))
    if newest is None:
        raise DensityFileError(f'{path}: an HDF5 file, but neither an {FORMAT} nor an {files.FORMAT}')
    version = int(file.attrs.get('version', 0))
    if not 1 <= version <= newest:
        raise DensityFileError(f'{path}: format version {version}; this program reads up to {newest}: update it')
