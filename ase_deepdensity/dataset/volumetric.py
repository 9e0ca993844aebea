"""Densities for other programs: Gaussian cube files and VASP's CHGCAR."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
from ase import Atoms
from ase.units import Bohr

from ase_deepdensity.files import replacing, replacing_path
from ase_deepdensity.grid import Grid


def write_cube(path: str | Path, atoms: Atoms, n_R: np.ndarray) -> None:
    """Write a density on all points of a periodic grid as a cube file (in electrons/bohr³ there).

    Parameters
    ----------
    n_R
        (n0, n1, n2) electrons/Å³, its point i at i/n · cell.
    """
    write_cube_slabs(path, atoms, n_R.shape, [n_R])


def write_cube_slabs(path: str | Path, atoms: Atoms, shape: Iterable[int], slabs: Iterable[np.ndarray]) -> None:
    """The same, from slabs (n, n1, n2) that follow each other along the first axis; only one at a time is held.

    ``shape``: (n0, n1, n2) of all slabs together.
    """
    with replacing(path) as file:
        file.write(_cube_header(atoms, tuple(shape)))
        for n_R in slabs:
            file.flush()
            (n_R * Bohr**3).tofile(file, sep='\n', format='%.6e')
            file.write('\n')


def _cube_header(atoms: Atoms, shape: tuple[int, ...]) -> str:
    def line(first: int, *numbers: float) -> str:
        """Columns of 5 and 12 letters as usual; numbers that need more get more, and stay apart."""
        return f'{first:5d}' + ''.join(f' {number:11.6f}' for number in numbers)

    lines = ['electrons/bohr³, written by ase_deepdensity', 'OUTER LOOP: X, MIDDLE LOOP: Y, INNER LOOP: Z']
    lines.append(line(len(atoms), 0.0, 0.0, 0.0))
    lines += [line(n, *(vector_v / n / Bohr)) for n, vector_v in zip(shape, atoms.cell.array, strict=True)]
    lines += [
        line(int(number), 0.0, *(position_v / Bohr))
        for number, position_v in zip(atoms.numbers, atoms.positions, strict=True)
    ]
    return '\n'.join(lines) + '\n'


def read_cube(path: str | Path) -> tuple[Atoms, np.ndarray]:
    """Atoms and density (n0, n1, n2), electrons/Å³, of a cube file: six digits, positions to 1e-6 bohr.

    With matrices D from elsewhere it makes a :class:`.PAWDensity` if it holds ñ.
    """
    from ase.io.cube import read_cube_data

    n_R, atoms = read_cube_data(str(path))
    return atoms, n_R / Bohr**3


def write_chgcar(path: str | Path, atoms: Atoms, n_R: np.ndarray) -> None:
    """Write a density (n0, n1, n2) on a periodic grid, electrons/Å³, as VASP's CHGCAR; atoms are sorted by element."""
    from ase.build import sort
    from ase.calculators.vasp import VaspChargeDensity

    chgcar = VaspChargeDensity(None)
    chgcar.atoms, chgcar.chg = [sort(atoms)], [n_R]
    with replacing_path(path) as temporary:
        chgcar.write(str(temporary), format='chgcar')


def in_order(grid: Grid, slabs: Iterable[tuple[Grid, np.ndarray]]) -> Iterator[tuple[int, np.ndarray]]:
    """Where each slab of a whole grid begins along the first axis, and its density (..., n0, n1, n2).

    Raises
    ------
    ValueError
        A gap, or slabs that are not all of the grid.
    """
    done = 0
    for slab, n_sR in slabs:
        start = int(slab.start_c[0] - grid.start_c[0])
        if start != done:
            raise ValueError(f'a slab begins at plane {start} where {done} was expected')
        yield start, n_sR
        done = start + n_sR.shape[-3]
    if done != grid.shape[0]:
        raise ValueError(f'the slabs end at plane {done} of {grid.shape[0]}')


def with_boundaries(grid: Grid, n_R: np.ndarray) -> np.ndarray:
    """The density of a grid (or of a slab along its first axis) with the points on its zero boundaries added.

    ``n_R``: ``grid.shape``; of a whole grid the result has the shape ``grid.size_c``.
    """
    missing_c = grid.zerobc_c & (grid.start_c == 1)
    return np.pad(n_R, [(int(missing), 0) for missing in missing_c]) if missing_c.any() else n_R


def without_boundaries(grid: Grid, n_R: np.ndarray) -> np.ndarray:
    """The opposite of :func:`with_boundaries`, for a whole grid: (n0, n1, n2) = ``size_c`` → ``grid.shape``."""
    i0, i1, i2 = grid.zerobc_c.astype(int)
    return n_R[i0:, i1:, i2:]
