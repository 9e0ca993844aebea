"""Geometries from files, checked before any work is done with them."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from ase import Atoms
from ase.io import iread

from ase_deepdensity.arguments import reason
from ase_deepdensity.geometry import GeometryError, check_geometry

DATABASES = '.db', '.json'
"""Suffixes of ASE's databases."""
ISOTOPES = ('D',), ('T',)
"""What ASE's readers complain of where hydrogen is heavy."""


def read_frames(names: Iterable[str | Path]) -> list[Atoms]:
    """All frames of files in any format that ASE reads; ``name@0:10`` takes a part, as in ASE.

    Raises
    ------
    ValueError
        A file that is missing, unreadable or empty, or lacks the frames asked for; a frame that is no geometry to work
        on (:func:`.check_geometry`; overlapping atoms are left to the work itself, which may have other frames to go
        on with).
    """
    frames: list[Atoms] = []
    for name in map(str, names):
        new = _read(name)
        for i, atoms in enumerate(new):
            try:
                check_geometry(atoms, overlap=False)
            except GeometryError as error:
                raise GeometryError(f'frame {i} of {name}: {error}') from None
        frames += new
    return frames


def _read(name: str) -> list[Atoms]:
    path, index = _split(name)
    _check_file(path)
    frames = _call_ase(path, index)
    if not frames:
        there = len(_call_ase(path, slice(None)))
        raise ValueError(
            f'{name}: no such frame; the file holds {there}, counted from 0' if there else f'{path}: holds no frames'
        )
    return frames


def _split(name: str) -> tuple[str, slice | str]:
    """The file and which frames of it; of ASE's databases that may be a selection of rows."""
    path, at, text = name.rpartition('@')
    if not at or os.path.lexists(name):
        return name, slice(None)
    parts = (text or ':').split(':')
    try:
        numbers = [int(part) if part else None for part in parts]
        if len(numbers) == 1 and numbers[0] is not None:
            return path, slice(numbers[0], numbers[0] + 1 or None)
        if len(numbers) < 4 and numbers[2:] != [0]:
            return path, slice(*numbers)
    except ValueError:
        if path.endswith(DATABASES):
            return path, text
    raise ValueError(
        f'{name}: after @ there must be the number of a frame or a range such as 0:10 or ::5, not {text!r}'
    )


def _check_file(path: str) -> None:
    if os.path.isdir(path):
        raise ValueError(f'{path}: this is a folder; a file of geometries is needed')
    if '\0' in path or not os.path.isfile(path):
        raise ValueError(f'{path or repr(path)}: no such file')
    if os.path.getsize(path) == 0:
        raise ValueError(f'{path}: the file is empty')
    if not os.access(path, os.R_OK):
        raise ValueError(f'{path}: this file must not be read')


def _call_ase(path: str, index: slice | str) -> list[Atoms]:
    """Some frames of a file; whatever ASE's readers raise is the file's fault."""
    try:
        return list(iread(path, index=index, do_not_split_by_at_sign=True))
    except UnicodeDecodeError as error:
        raise ValueError(
            f'{path}: ASE cannot read this file: no text in UTF-8 ({error.reason} at byte {error.start})'
        ) from error
    except KeyError as error:
        isotope = '; write H for an isotope: electrons do not feel the mass of a nucleus'
        raise ValueError(
            f'{path}: ASE cannot read this file: it does not know {error}{isotope if error.args in ISOTOPES else ""}'
        ) from error
    except Exception as error:
        raise ValueError(f'{path}: ASE cannot read this file: {reason(error)}') from error
