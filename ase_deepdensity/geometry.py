"""What is no geometry, or too large a one: found before any work, whatever that is."""

from __future__ import annotations

import numpy as np
import vesin
from ase import Atoms
from ase.data import covalent_radii

from ase_deepdensity.grid import Grid
from ase_deepdensity.memory import check_memory

MIN_HEIGHT, MAX_LENGTH = 0.1, 1e6
"""Å, between opposite faces of a cell and of its vectors: what is beyond is a slip of a unit or of an exponent."""
OUTSIDE = 1e-6
"""Å: atoms that are less outside of a cell are outside by rounding."""


BYTES_PER_POINT = 32
"""What a prediction holds at least for a grid point: twice float32, three times float64."""


class GeometryError(ValueError):
    """Atoms that are no geometry to work on, whatever the work is."""


def check_geometry(atoms: Atoms, *, overlap: bool = True) -> None:
    """Refuse what no density can be calculated or predicted for.

    ``overlap``: overlapping atoms too; without, what is left takes no time.

    Raises
    ------
    GeometryError
        No atoms, ghosts, positions or cell that are not finite, a flat, tiny or absurdly large cell, overlapping atoms.
    """
    if len(atoms) == 0:
        raise GeometryError('there are no atoms')
    if not np.isfinite(atoms.positions).all():
        bad = np.flatnonzero(~np.isfinite(atoms.positions).all(1)).tolist()
        raise GeometryError(f'the positions of atoms {bad[:10]} are not finite')
    if ghosts := np.flatnonzero(atoms.numbers == 0).tolist():
        raise GeometryError(f'atom {ghosts[0]} is a ghost (X), which has no density: leave ghosts out')
    _check_cell(atoms.cell.array)
    if overlap:
        _check_overlap(atoms)


def _check_cell(cell_cv: np.ndarray) -> None:
    """Three independent vectors of reasonable lengths."""
    if not np.isfinite(cell_cv).all() or np.linalg.matrix_rank(cell_cv) < 3:
        raise GeometryError(
            f'a cell of three independent lattice vectors is needed, not {cell_cv.tolist()}; '
            'put a molecule into a box with atoms.center(vacuum=4)'
        )
    height_c = 1 / np.linalg.norm(np.linalg.inv(cell_cv), axis=0)
    length_c = np.linalg.norm(cell_cv, axis=1)
    if height_c.min() < MIN_HEIGHT or length_c.max() > MAX_LENGTH:
        raise GeometryError(
            f'a cell must be at least {MIN_HEIGHT} Å high and have vectors of at most {MAX_LENGTH:g} Å; the heights of '
            f'{cell_cv.tolist()} are {height_c.tolist()} Å, the lengths of its vectors {length_c.tolist()} Å'
        )


def _check_overlap(atoms: Atoms) -> None:
    """No two atoms nearer than half the sum of their covalent radii."""
    radius_a = covalent_radii[atoms.numbers] / 2
    i_e, j_e, d_e = vesin.NeighborList(cutoff=float(2 * radius_a.max()) + 1e-6, full_list=False).compute(
        atoms.positions, atoms.cell.array, atoms.pbc, 'ijd'
    )
    near_e = d_e < radius_a[i_e] + radius_a[j_e]
    if near_e.any():
        e = int(np.flatnonzero(near_e)[0])
        i, j = int(i_e[e]), int(j_e[e])
        if i == j:
            raise GeometryError(f'atom {i} ({atoms.symbols[i]}) overlaps its own image: they are {d_e[e]:.3f} Å apart')
        raise GeometryError(
            f'atoms {i} ({atoms.symbols[i]}) and {j} ({atoms.symbols[j]}) overlap: they are {d_e[e]:.3f} Å apart'
        )


def total_charge(atoms: Atoms) -> float:
    """What the atoms say of their charge, |e|: ``info['charge']``, or else the sum of their initial charges to 1e-3.

    Raises
    ------
    GeometryError
        An ``info['charge']`` that is no finite number.
    """
    charge = atoms.info.get('charge')
    try:
        value = float(np.round(atoms.get_initial_charges().sum(), 3) + 0.0 if charge is None else charge)
    except (TypeError, ValueError):
        value = np.nan
    if not np.isfinite(value):
        raise GeometryError(f"atoms.info['charge'] must be a number, not {charge!r}")
    return value


def atoms_outside(atoms: Atoms) -> list[int]:
    """Which atoms are outside the cell along an axis that is not periodic, by more than rounding does."""
    height_c = 1 / np.linalg.norm(np.linalg.inv(atoms.cell.array), axis=0)
    relpos_ac = atoms.get_scaled_positions(wrap=False)
    beyond_ac = np.maximum(-relpos_ac, relpos_ac - 1) * height_c
    bad: list[int] = np.flatnonzero(((beyond_ac > OUTSIDE) & ~atoms.pbc).any(1)).tolist()
    return bad


def check_grid_memory(grid: Grid, *, refinement: int = 1, max_points: int | None = None) -> None:
    """Refuse a grid whose density does not fit into memory.

    Parameters
    ----------
    refinement
        Points per grid interval.
    max_points
        How many of them are held at a time, but at least one plane.  Default: all.

    Raises
    ------
    TooLargeError
        See :func:`check_memory`.
    """
    n0, n1, n2 = (int(n) * refinement for n in grid.shape)
    check_memory(
        grid_memory(grid, refinement=refinement, max_points=max_points), f'a density on {n0} × {n1} × {n2} grid points'
    )


def grid_memory(grid: Grid, *, refinement: int = 1, max_points: int | None = None) -> float:
    """Bytes that a density on a grid takes while it is made; the arguments are those of :func:`check_grid_memory`."""
    n0, n1, n2 = (int(n) * refinement for n in grid.shape)
    points = n0 * n1 * n2 if max_points is None else min(n0 * n1 * n2, max(max_points, n1 * n2))
    return float(points * BYTES_PER_POINT)
