"""The uniform grid that GPAW would choose for atoms, found without GPAW."""

from __future__ import annotations

from collections.abc import Mapping
from math import pi
from typing import Any

import numpy as np
from ase import Atoms
from ase.units import Bohr, Hartree
from numpy.typing import ArrayLike

from ase_deepdensity.codes.gpaw.require import require_gpaw
from ase_deepdensity.codes.gpaw.symmetry import (
    NO_SYMMETRIES,
    TOLERANCE,
    Symmetries,
    atom_kinds,
    lattice_rotations,
    suits,
    symmetries_of,
)
from ase_deepdensity.grid import Grid, check_size
from ase_deepdensity.level import Level, LevelError

MODES = 'pw', 'lcao', 'fd'
DEFAULT_CUTOFF = 340.0
"""eV, of plane waves."""
DEFAULT_SPACING = 0.2
"""Å, of a grid in real space, whose numbers of intervals are multiples of :data:`MULTIPLE`."""
MULTIPLE = 4
PRIMES = 2, 3, 5, 7
"""The factors of numbers that fast Fourier transforms are fast for."""


def grid(level: Level, atoms: Atoms, *, gpts: ArrayLike | None = None, h: float | None = None) -> Grid:
    """The grid that GPAW would choose for ``atoms`` at a level of theory.

    In real space the density is zero on boundaries that are not periodic; in plane waves all boundaries are periodic.
    GPAW itself is asked where a level has ``experimental`` or ``extensions`` or brings its own symmetry operations.

    Parameters
    ----------
    gpts
        (3,) numbers of grid intervals, instead of the level's own choice.
    h
        Grid spacing, Å, instead of the level's own choice.

    Raises
    ------
    ValueError
        A flat cell, values that are no grid, or symmetries that no grid was found for.
    LevelError
        Parameters that GPAW would refuse.
    MissingGPAWError
        Where GPAW must be asked and is not installed.
    """
    if atoms.cell.rank < 3:
        raise ValueError(f'a grid needs three lattice vectors; the cell is {atoms.cell.array.tolist()} Å')
    length = float(atoms.cell.lengths().max())
    gpts, h = check_size(gpts, h, length)
    changes = {} if gpts is None and h is None else {'gpts': gpts, 'h': h}
    parameters = level.keywords(**changes)
    mode = mode_of(parameters)
    symmetry = _symmetry(parameters)
    if parameters.get('experimental') or parameters.get('extensions') or symmetry.get('rotations') is not None:
        return _grid_of_gpaw(level, atoms, changes)
    size, h = check_size(parameters.get('gpts'), parameters.get('h'), length)
    if size is not None and h is not None:
        raise LevelError('GPAW refuses a level of theory with both "gpts" and "h"')
    in_real_space = mode['name'] != 'pw' and parameters.get('interpolation') != 'fft'
    plain = _PlainGrid(mode, h, atoms.cell.array)
    size_c = np.array(size) if size is not None else _symmetric_size(plain, atoms, parameters, symmetry)
    return Grid(atoms.cell.array, size_c, atoms.pbc, ~atoms.pbc if in_real_space else np.zeros(3, bool))


def mode_of(parameters: Mapping[str, Any]) -> dict[str, Any]:
    """The mode and its settings.

    Raises
    ------
    LevelError
        None of :data:`MODES`.
    """
    mode = parameters['mode']
    mode = {'name': mode} if isinstance(mode, str) else mode
    if not isinstance(mode, dict) or mode.get('name') not in MODES:
        raise LevelError(f'GPAW refuses the mode {parameters["mode"]!r}: it has {", ".join(MODES)}')
    return mode


class _PlainGrid:
    """The grid of a cell without symmetries, and the multiples of it that symmetries may ask for."""

    def __init__(self, mode: Mapping[str, Any], h: float | None, cell_cv: np.ndarray):
        self.plane_waves = mode['name'] == 'pw'
        cell_cv = cell_cv / Bohr
        if self.plane_waves:
            spacing = pi / (4 * mode.get('ecut', DEFAULT_CUTOFF) / Hartree) ** 0.5 if h is None else h / Bohr
            self.least_c = np.ceil((cell_cv**2).sum(1) ** 0.5 / spacing).astype(int)
        else:
            height_c = (np.linalg.inv(cell_cv) ** 2).sum(0) ** -0.5
            multiple_c = (height_c / ((DEFAULT_SPACING if h is None else h) / Bohr) / MULTIPLE + 0.5).astype(int)
            self.least_c = np.maximum(MULTIPLE, multiple_c * MULTIPLE)

    def size_c(self, denominator_c: np.ndarray) -> np.ndarray:
        """(3,) numbers of intervals; in plane waves multiples of the denominators."""
        return fast_sizes(self.least_c, denominator_c) if self.plane_waves else self.least_c


def fast_sizes(least_c: np.ndarray, multiple_c: np.ndarray) -> np.ndarray:
    """(3,) the next numbers that are multiples and have prime factors up to 7 only."""
    return np.array(
        [_fast_size(int(least), int(multiple)) for least, multiple in zip(least_c, multiple_c, strict=True)]
    )


def _fast_size(least: int, multiple: int) -> int:
    size = -(-least // multiple) * multiple
    while not _is_fast(size):
        size += multiple
    return size


def _is_fast(size: int) -> bool:
    for prime in PRIMES:
        while size % prime == 0:
            size //= prime
    return size == 1


def _symmetric_size(
    plain: _PlainGrid, atoms: Atoms, parameters: Mapping[str, Any], symmetry: Mapping[str, Any]
) -> np.ndarray:
    """(3,) numbers of intervals with which all symmetries map the grid onto itself.

    A grid that suits all rotations of the lattice suits those of the atoms: then these, whose search takes a second for
    500 molecules, are not needed.  (Not so with translations.)
    """
    one_c = np.ones(3, int)
    tolerance = symmetry.get('tolerance') or TOLERANCE
    symmorphic = symmetry.get('symmorphic', True)
    rotation_scc = np.eye(3, dtype=int)[np.newaxis]
    if symmetry.get('point_group', True):
        rotation_scc = lattice_rotations(atoms.cell.array, atoms.pbc, tolerance)
    size_c = plain.size_c(one_c)
    if symmorphic and suits(size_c, rotation_scc).all():
        return size_c
    symmetries = NO_SYMMETRIES
    if len(atoms) > 0 and len(rotation_scc) > 1:
        relpos_ac, kind_a = atoms.get_scaled_positions(), atom_kinds(atoms, parameters)
        symmetries = symmetries_of(relpos_ac, kind_a, rotation_scc, tolerance=tolerance, symmorphic=symmorphic)
    denominator_c = symmetries.denominators_c()
    size_c = plain.size_c(denominator_c)
    return size_c if symmetries.suit(size_c) else _common_size(size_c, denominator_c, symmetries)


def _common_size(size_c: np.ndarray, denominator_c: np.ndarray, symmetries: Symmetries) -> np.ndarray:
    """(3,) equally many intervals along axes that a symmetry maps onto one another."""
    related_cc = (symmetries.rotation_scc != 0).any(axis=0)
    related_cc = np.linalg.matrix_power((related_cc | related_cc.T).astype(int), 3) > 0
    largest_c = np.array([size_c[related_c].max() for related_c in related_cc])
    multiple_c = np.array([np.lcm.reduce(denominator_c[related_c]) for related_c in related_cc])
    size_c = fast_sizes(largest_c, multiple_c)
    if not symmetries.suit(size_c):
        raise ValueError(
            f'no grid was found that the {len(symmetries.rotation_scc)} symmetries of the atoms map onto itself '
            f'({size_c.tolist()} intervals do not): choose one with gpts, or switch symmetry off'
        )
    return size_c


def _symmetry(parameters: Mapping[str, Any]) -> dict[str, Any]:
    symmetry = parameters.get('symmetry') or {}
    if symmetry == 'off':
        return {'point_group': False}
    if symmetry != 'on' and not isinstance(symmetry, dict):
        raise LevelError(f'GPAW refuses the symmetry {symmetry!r}: it is on, off or a dictionary')
    return {} if symmetry == 'on' else symmetry


def _grid_of_gpaw(level: Level, atoms: Atoms, changes: dict[str, Any]) -> Grid:
    """As GPAW's builder makes it; slow, as it builds much more."""
    require_gpaw('the grid of a level of theory with experimental, extensions or rotations')
    from gpaw.mpi import serial_comm

    from ase_deepdensity.codes.gpaw.parameters import gpaw_parameters

    desc = gpaw_parameters(level, **changes).dft_component_builder(atoms, comm=serial_comm).grid
    return Grid(desc.cell_cv * Bohr, desc.size_c, desc.pbc_c, desc.zerobc_c)
