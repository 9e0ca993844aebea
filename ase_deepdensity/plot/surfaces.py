"""Triangles: isosurfaces of a density on a periodic grid in any cell, and balls for atoms."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from ase import Atoms
from ase.data import covalent_radii
from ase.data.colors import jmol_colors

from ase_deepdensity.plot.planes import interpolated

BALL = 0.35
"""Radius of a ball, of the covalent radius of its element."""
ENCLOSED, ENCLOSED_OF_SIGNED = 0.8, 0.4
"""Share of the electrons (of a difference: of its size) that the default surface is around."""
FINEST = 72
"""Grid points along a lattice vector that a surface is made from; finer grids are interpolated to this."""


@dataclass(frozen=True, eq=False)
class Mesh:
    """Triangles with a colour for each corner."""

    corner_kv: np.ndarray
    """(corners, 3) Å."""
    triangle_tk: np.ndarray
    """(triangles, 3) the corners of each."""
    colour_kx: np.ndarray
    """(corners, 3) red, green and blue, from 0 to 1."""


def default_isovalue(n_R: np.ndarray, *, signed: bool) -> float:
    """The value of the surface around :data:`ENCLOSED` of all electrons (of |n|, where it is ``signed``)."""
    n_i = np.sort(np.abs(n_R), axis=None)[::-1]
    share_i = np.cumsum(n_i)
    if share_i[-1] <= 0.0:
        raise ValueError('a density that is zero everywhere has no surface')
    i = np.searchsorted(share_i, (ENCLOSED_OF_SIGNED if signed else ENCLOSED) * share_i[-1])
    return float(n_i[min(i, len(n_i) - 1)])


def isosurface(n_R: np.ndarray, cell_cv: np.ndarray, isovalue: float, colour: str, finest: int = FINEST) -> Mesh:
    """Where a periodic density has one value; open where it leaves the cell.

    Parameters
    ----------
    n_R
        (n0, n1, n2) at the points i/n · cell.
    isovalue
        In the unit of the density; negative ones are taken from below.
    colour
        As matplotlib names it.
    finest
        Grid points along a lattice vector.

    Raises
    ------
    ValueError
        The density has no such value.
    """
    from matplotlib.colors import to_rgb
    from skimage.measure import marching_cubes

    low, high = float(n_R.min()), float(n_R.max())
    if not low < isovalue < high:
        raise ValueError(f'there is no surface of {isovalue:.4g}: the density is from {low:.4g} to {high:.4g}')
    coarse_R = _at_most(n_R, finest)
    closed_R = np.pad(coarse_R, (0, 1), mode='wrap')
    if not closed_R.min() < isovalue < closed_R.max():
        raise ValueError(f'the surface of {isovalue:.4g} is smaller than the grid can show')
    index_kc, triangle_tk, _, _ = marching_cubes(closed_R, isovalue)
    corner_kv = index_kc / coarse_R.shape @ cell_cv
    return Mesh(corner_kv, triangle_tk, np.tile(to_rgb(colour), (len(corner_kv), 1)))


def balls(atoms: Atoms, finest: int = 16) -> Mesh:
    """Balls for atoms where they are, with those of images where a ball leaves the cell.

    ``finest``: meridians of each.
    """
    corner_kv, triangle_tk = _ball(finest)
    position_av = atoms.get_positions(wrap=True) if len(atoms) else atoms.positions
    radius_a = BALL * covalent_radii[atoms.numbers]
    count = len(corner_kv)
    return Mesh(
        (position_av[:, np.newaxis] + radius_a[:, np.newaxis, np.newaxis] * corner_kv).reshape(-1, 3),
        (np.arange(len(atoms))[:, np.newaxis, np.newaxis] * count + triangle_tk).reshape(-1, 3),
        jmol_colors[atoms.numbers].repeat(count, axis=0),
    )


def edges(cell_cv: np.ndarray) -> np.ndarray:
    """(12, 2, 3) the edges of a cell, Å."""
    corner_kc = np.array(list(np.ndindex(2, 2, 2)))
    pairs = [(k, m) for k in range(8) for m in range(k) if abs(corner_kc[k] - corner_kc[m]).sum() == 1]
    return (corner_kc @ cell_cv)[np.array(pairs)]


def bonds(atoms: Atoms) -> np.ndarray:
    """(bonds, 2, 3) ends of the bonds that do not cross the boundary of the cell, Å."""
    from ase.neighborlist import natural_cutoffs, neighbor_list

    wrapped = atoms.copy()
    wrapped.wrap()
    i, j, shift_bc = neighbor_list('ijS', wrapped, natural_cutoffs(wrapped, mult=1.1))
    inside_b = (i < j) & ~shift_bc.any(axis=1)
    ends: np.ndarray = wrapped.positions[np.stack([i[inside_b], j[inside_b]], axis=1)]
    return ends


def _at_most(n_R: np.ndarray, finest: int) -> np.ndarray:
    """The density on a grid of at most ``finest`` points along each lattice vector."""
    size_c = np.minimum(n_R.shape, finest)
    if (size_c == n_R.shape).all():
        return n_R
    return interpolated(n_R, np.stack(np.meshgrid(*(np.arange(n) / n for n in size_c), indexing='ij'), axis=-1))


def _ball(meridians: int) -> tuple[np.ndarray, np.ndarray]:
    """Corners and triangles of a ball of radius 1."""
    rings = meridians // 2
    theta_i, phi_j = np.linspace(0, np.pi, rings + 1), np.linspace(0, 2 * np.pi, meridians, endpoint=False)
    theta_ij, phi_ij = np.meshgrid(theta_i, phi_j, indexing='ij')
    sine_ij = np.sin(theta_ij)
    corner_kv = np.stack([sine_ij * np.cos(phi_ij), sine_ij * np.sin(phi_ij), np.cos(theta_ij)], -1).reshape(-1, 3)
    k_ij = np.arange(len(corner_kv)).reshape(theta_ij.shape)
    a, b = k_ij[:-1], k_ij[1:]
    next_a, next_b = np.roll(a, -1, axis=1), np.roll(b, -1, axis=1)
    halves = np.stack([a, b, next_b], axis=-1), np.stack([a, next_b, next_a], axis=-1)
    return corner_kv, np.concatenate([half.reshape(-1, 3) for half in halves])
