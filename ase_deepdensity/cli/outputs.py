"""Files that a command is to write: refused before any work where that cannot go well."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryFile

PICTURES = '.png', '.pdf', '.svg'


def check_output(option: str, name: str, suffixes: Sequence[str] = ()) -> Path:
    """The path of a file that can be written.

    Parameters
    ----------
    option
        What the user calls it, for the message: ``--plot``.
    suffixes
        The allowed ones; none: any.

    Raises
    ------
    ValueError
        No name, another suffix, a folder of this name, or a place where nothing can be written.
    """
    path = Path(name)
    if not path.name or '\0' in name:
        raise ValueError(f'{option} must be the name of a file, not {name!r}')
    if suffixes and path.suffix not in suffixes:
        raise ValueError(f'{option} {name}: use a name that ends in {", ".join(suffixes[:-1])} or {suffixes[-1]}')
    check_folder(path.parent)
    if path.is_dir():
        raise ValueError(f'{option} {name}: this is a folder; give the name of a file')
    if path.exists() and not os.access(path, os.W_OK):
        raise ValueError(f'{option} {name}: this file must not be written')
    return path


def check_folder(folder: Path) -> None:
    """Refuse a folder that does not exist or in which no file can be made."""
    if not folder.is_dir():
        raise ValueError(f'{folder}: no such folder')
    try:
        with TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise ValueError(f'{folder}: no file can be written in this folder: {error.strerror}') from None


def file_kind(name: str) -> str:
    """'cube', 'chgcar', 'h5' or 'zarr', by the name of the file."""
    path = Path(name)
    if path.suffix == '.cube':
        return 'cube'
    if path.suffix in ('.h5', '.hdf5'):
        return 'h5'
    if path.suffix == '.zarr':
        return 'zarr'
    if path.name.startswith('CHG') or path.suffix.lower() in ('.chgcar', '.chg'):
        return 'chgcar'
    raise ValueError(f'--out {name}: what kind of file? Use a name like FILE.cube, CHGCAR, FILE.h5 or FILE.zarr')


def numbered(path: Path, number: int | None) -> Path:
    """water.cube → water-00007.cube for frame 7 of several."""
    return path if number is None else path.with_name(f'{path.stem}-{number:05d}{path.suffix}')


def check_frames_format(name: str, number: int | None) -> None:
    """Refuse names of files for frames of which ASE cannot tell a format that it can write and read again."""
    from ase.io.formats import UnknownFileTypeError, filetype, ioformats

    try:
        ioformat = ioformats[filetype(name, read=False)]
    except (KeyError, UnknownFileTypeError):
        raise ValueError(
            f'OUT {name}: ASE knows no format of this name; use a name that ends in .xyz or .traj'
        ) from None
    if not (ioformat.can_write and ioformat.can_read):
        raise ValueError(f'OUT {name}: ASE cannot write and read the format {ioformat.name}; use .xyz or .traj')
    if number != 1 and ioformat.single:
        raise ValueError(
            f'OUT {name}: the format {ioformat.name} holds one geometry, not {number or "many"}; use .xyz or .traj'
        )
