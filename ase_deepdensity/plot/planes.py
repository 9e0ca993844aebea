"""Pieces of planes through a grid: lattice planes of its own points, and the plane through three atoms."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np
from ase import Atoms

from ase_deepdensity.arguments import shown
from ase_deepdensity.dataset.volumetric import with_boundaries
from ase_deepdensity.grid import Grid

PLANES = {'bc': 0, 'ac': 1, 'ab': 2}
"""The two lattice vectors in a plane: the third one, which it cuts."""
MARGIN = 2.5
"""Å around three atoms that a picture of their plane shows."""
FINENESS = 3
"""Points of such a picture for each of the grid, along a line."""


@dataclass(frozen=True, eq=False)
class Plane:
    """A piece of a plane and the density there."""

    point_ijv: np.ndarray
    """(n, m, 3) its points, Å."""
    n_ij: np.ndarray
    """(n, m) the density there, electrons/Å³; not a number outside of a cell that is not periodic."""
    frame_vx: np.ndarray
    """(3, 3) columns: two directions in the plane, and its normal."""
    origin_v: np.ndarray
    """(3,) a point of the plane, the zero of its own coordinates, Å."""
    grid: Grid
    axis: int | None
    """The lattice vector that is not in the plane; None: a plane through three atoms."""

    def coordinates(self, position_av: np.ndarray) -> np.ndarray:
        """(natoms, 3) of points: along the two directions in the plane, and the height above it, Å."""
        return (position_av - self.origin_v) @ self.frame_vx

    def extent(self) -> tuple[float, float]:
        """Å that it takes along its two directions."""
        width, height = np.ptp(self.coordinates(self.point_ijv.reshape(-1, 3))[:, :2], axis=0)
        return float(width), float(height)

    def images(self, atoms: Atoms, reach: float) -> tuple[np.ndarray, np.ndarray]:
        """(n, 2) coordinates in the plane, and atomic numbers, of the atoms within ``reach`` of it, images included."""
        dots = self._in_window(atoms) if self.axis is None else self._wrapped(atoms)
        x_ax, number_a = (np.concatenate(parts) for parts in zip(*dots, strict=True))
        near_a = np.abs(x_ax[:, 2]) <= reach
        return x_ax[near_a, :2], number_a[near_a]

    def _in_window(self, atoms: Atoms) -> list[tuple[np.ndarray, np.ndarray]]:
        corner_x = self.coordinates(self.point_ijv.reshape(-1, 3))[:, :2]
        shifts = [(-1, 0, 1) if periodic else (0,) for periodic in self.grid.pbc_c]
        dots = []
        for shift_c in product(*shifts):
            x_ax = self.coordinates(atoms.positions + np.array(shift_c) @ self.grid.cell_cv)
            inside_a = ((x_ax[:, :2] >= corner_x.min(axis=0)) & (x_ax[:, :2] <= corner_x.max(axis=0))).all(axis=1)
            dots.append((x_ax[inside_a], atoms.numbers[inside_a]))
        return dots

    def _wrapped(self, atoms: Atoms) -> list[tuple[np.ndarray, np.ndarray]]:
        """In the plane an image is chosen so that the dot lies on the drawn piece."""
        inverse_vc = np.linalg.inv(self.grid.cell_cv)
        in_plane_c = self.grid.pbc_c & (np.arange(3) != self.axis)
        dots = []
        for shift in (-1, 0, 1) if self.grid.pbc_c[self.axis] else (0,):
            position_av = atoms.positions + shift * self.grid.cell_cv[self.axis]
            height_a = self.coordinates(position_av)[:, 2]
            on_plane_av = position_av - height_a[:, np.newaxis] * self.frame_vx[:, 2]
            wrap_ac = np.floor((on_plane_av - self.origin_v) @ inverse_vc) * in_plane_c
            dots.append((self.coordinates(position_av - wrap_ac @ self.grid.cell_cv), atoms.numbers))
        return dots


def lattice_plane(n_R: np.ndarray, grid: Grid, plane: str, position: float) -> Plane:
    """The plane of grid points nearest to ``position``, its periodic directions closed by a copy of their first line.

    Parameters
    ----------
    n_R
        (n0, n1, n2) = ``grid.shape``.
    plane
        Which lattice vectors lie in it: a name of :data:`PLANES`.
    position
        Where it cuts the third one, in units of that vector.

    Raises
    ------
    ValueError
        Another name, or a part of a grid.
    """
    if plane not in PLANES:
        raise ValueError(f'plane must be one of {", ".join(sorted(PLANES))}, not {plane!r}')
    if not grid.is_whole:
        raise ValueError('a picture needs the density on the whole grid')
    axis = PLANES[plane]
    c1, c2 = (c for c in range(3) if c != axis)
    size = int(grid.size_c[axis])
    index = max(round(position * size) % size, int(grid.start_c[axis]))
    plane_ij = np.take(n_R, index - int(grid.start_c[axis]), axis=axis)
    plane_ij = np.pad(plane_ij, [(0, int(not grid.zerobc_c[c])) for c in (c1, c2)], mode='wrap')
    i, j = (np.arange(n) + grid.start_c[c] for n, c in zip(plane_ij.shape, (c1, c2), strict=True))
    origin_v = index * grid.step_cv[axis]
    point_ijv = origin_v + i[:, None, None] * grid.step_cv[c1] + j[None, :, None] * grid.step_cv[c2]
    return Plane(point_ijv, plane_ij, _frame(grid.cell_cv[c1], grid.cell_cv[c2]), origin_v, grid, axis)


def plane_through(n_R: np.ndarray, grid: Grid, atoms: Atoms, indices: Sequence[int]) -> Plane:
    """The plane through three atoms, as far as 2.5 Å around them: the density is interpolated by cubic splines.

    Of periodic images those nearest to the first atom are taken.  ``n_R``: (n0, n1, n2) = ``grid.shape``.

    Raises
    ------
    ValueError
        Not three atoms, or three on a line.
    """
    corner_av = _three_atoms(atoms, indices)
    frame_vx = _frame(corner_av[1] - corner_av[0], corner_av[2] - corner_av[0])
    middle_v = corner_av.mean(axis=0)
    half = np.linalg.norm(corner_av - middle_v, axis=1).max() + MARGIN
    x_i = np.linspace(-half, half, int(np.ceil(2 * half * FINENESS / grid.spacing_c.min())) + 1)
    point_ijv = middle_v + x_i[:, None, None] * frame_vx[:, 0] + x_i[None, :, None] * frame_vx[:, 1]
    relpos_ijc = point_ijv @ np.linalg.inv(grid.cell_cv)
    n_ij = interpolated(with_boundaries(grid, n_R), relpos_ijc)
    outside_ij = (~grid.pbc_c & ((relpos_ijc < 0) | (relpos_ijc > 1))).any(axis=-1)
    return Plane(point_ijv, np.where(outside_ij, np.nan, n_ij), frame_vx, middle_v, grid, None)


def interpolated(n_R: np.ndarray, relpos_xc: np.ndarray) -> np.ndarray:
    """Values of a periodic function on a grid at scaled positions (..., 3), by cubic splines."""
    from scipy.ndimage import map_coordinates

    index_cx = np.moveaxis(relpos_xc * n_R.shape, -1, 0)
    n_x: np.ndarray = map_coordinates(n_R, index_cx, order=3, mode='grid-wrap')
    return n_x


def _three_atoms(atoms: Atoms, indices: Sequence[int]) -> np.ndarray:
    """(3, 3) positions, the second and third as near to the first as images can be, Å."""
    if len(indices) != 3 or len(set(indices)) < 3:
        raise ValueError(f'a plane goes through one atom or through three different ones, not {shown(list(indices))}')
    position_av = np.array([atoms.positions[index_of(atoms, a)] for a in indices])
    from ase.geometry import find_mic

    offset_av = find_mic(position_av[1:] - position_av[0], atoms.cell, atoms.pbc)[0]
    position_av[1:] = position_av[0] + offset_av
    if np.linalg.norm(np.cross(*offset_av)) < 1e-3 * np.prod(np.linalg.norm(offset_av, axis=1)):
        raise ValueError(f'the atoms {", ".join(map(str, indices))} lie on a line: there is no one plane through them')
    return position_av


def index_of(atoms: Atoms, index: int) -> int:
    """The index of an atom, checked."""
    if not -len(atoms) <= index < len(atoms):
        raise ValueError(f'there is no atom {index}: these are {len(atoms)} atoms, counted from 0')
    return int(index)


def _frame(first_v: np.ndarray, second_v: np.ndarray) -> np.ndarray:
    """(3, 3) columns: along the first vector, in the plane across it, and normal to the plane."""
    x_v = first_v / np.linalg.norm(first_v)
    y_v = second_v - (second_v @ x_v) * x_v
    y_v /= np.linalg.norm(y_v)
    return np.stack([x_v, y_v, np.cross(x_v, y_v)], axis=1)
