"""Geometries from files, checked before any work is done with them."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np
from ase import Atoms
from ase.io import read


def read_frames(names: Iterable[str | Path]) -> list[Atoms]:
    """All frames of files in any format that ASE reads; ``name@0:10`` takes a part, as in ASE.

    Raises
    ------
    ValueError
        A file that is missing, unreadable or empty; a frame without atoms, without three lattice vectors, or with
        positions that are not finite.
    """
    frames: list[Atoms] = []
    for name in map(str, names):
        new = _read(name)
        for i, atoms in enumerate(new):
            _check(atoms, f'frame {i} of {name}')
        frames += new
    return frames


def _read(name: str) -> list[Atoms]:
    path, _, index = name.rpartition('@') if not Path(name).exists() else (name, '', ':')
    if not Path(path or name).is_file():
        raise ValueError(f'{path or name}: no such file')
    try:
        frames = read(path, index=index or ':')
    except Exception as error:  # whatever ASE's readers raise
        raise ValueError(f'{name}: ASE cannot read this file: {error!r}') from error
    frames = [frames] if isinstance(frames, Atoms) else list(frames)
    if not frames:
        raise ValueError(f'{name}: holds no geometries')
    return frames


def _check(atoms: Atoms, where: str) -> None:
    if len(atoms) == 0:
        raise ValueError(f'{where}: has no atoms')
    if atoms.cell.rank < 3:
        raise ValueError(
            f'{where}: needs a cell of three lattice vectors, not {atoms.cell.array.tolist()}; '
            'put a molecule into a box with atoms.center(vacuum=4)'
        )
    if not np.isfinite(atoms.positions).all() or not np.isfinite(atoms.cell.array).all():
        raise ValueError(f'{where}: holds positions or lattice vectors that are not finite')
