"""Geometries from files, checked before any work is done with them."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from ase import Atoms
from ase.io import read

from ase_deepdensity.geometry import GeometryError, check_geometry


def read_frames(names: Iterable[str | Path]) -> list[Atoms]:
    """All frames of files in any format that ASE reads; ``name@0:10`` takes a part, as in ASE.

    Raises
    ------
    ValueError
        A file that is missing, unreadable or empty; a frame that is no geometry to work on (:func:`.check_geometry`;
        overlapping atoms are left to the work itself, which may have other frames to go on with).
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
    path, _, index = name.rpartition('@') if not Path(name).exists() else (name, '', ':')
    if not Path(path or name).is_file():
        raise ValueError(f'{path or name}: no such file')
    try:
        frames = read(path, index=index or ':')
    except KeyError as error:
        if error.args and error.args[0] in ('D', 'T'):
            raise ValueError(
                f'{name}: ASE reads no isotopes from such files; write H for {error.args[0]}: electrons do not feel '
                'the mass of a nucleus'
            ) from None
        raise ValueError(f'{name}: ASE cannot read this file: {error!r}') from error
    except Exception as error:  # whatever ASE's readers raise
        raise ValueError(f'{name}: ASE cannot read this file: {error!r}') from error
    frames = [frames] if isinstance(frames, Atoms) else list(frames)
    if not frames:
        raise ValueError(f'{name}: holds no geometries')
    return frames
