"""Space shared out among atoms: by profiles of atoms, or to the nearest of them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from math import prod
from typing import NamedTuple, Protocol

import numpy as np
from ase import Atoms
from numpy.typing import ArrayLike
from scipy.spatial import cKDTree

from ase_deepdensity.analysis.all_electron import all_electron_density
from ase_deepdensity.analysis.poisson import refine_by_polynomials, refine_by_waves
from ase_deepdensity.analysis.potential import STENCIL
from ase_deepdensity.arguments import whole
from ase_deepdensity.codes.gpaw.grid import mode_of
from ase_deepdensity.dataset.volumetric import without_boundaries
from ase_deepdensity.geometry import check_grid_memory
from ase_deepdensity.grid import Grid
from ase_deepdensity.state import PAWDensity

NOTHING = 1e-12
"""electrons/Å³: where profiles add up to less, a point belongs to the nearest atom."""
TIE = 1e-6
"""Å: a point that is as close to several atoms, to within this, is shared among them."""
REFINEMENTS = 1, 2, 4, 8
"""Of densities in real space."""
NEIGHBOURS = 12
"""Atoms that a point is shared among at most."""


class Profile(Protocol):
    """A spherical function of the distance from an atom."""

    @property
    def cutoff(self) -> float:
        """Where it ends, Å."""

    def __call__(self, r: ArrayLike, /) -> np.ndarray:
        """Its values, electrons/Å³."""


class Share(NamedTuple):
    """What an atom has of the points around it; a point may come several times, for several images of the atom."""

    index_p: np.ndarray
    """Flat indices of the points of the grid."""
    distance_p: np.ndarray
    """From the atom, Å."""
    weight_p: np.ndarray
    """Of the atom, 0 to 1."""


def fine_density(state: PAWDensity, gridrefinement: int) -> tuple[Grid, np.ndarray]:
    """The all-electron density, electrons/Å³, and the grid that it is on; points on zero boundaries are left out.

    Raises
    ------
    ValueError
        As :func:`refined`.
    """
    state = refined(state, gridrefinement)
    return state.grid, without_boundaries(state.grid, all_electron_density(state))


def refined(state: PAWDensity, gridrefinement: int) -> PAWDensity:
    """The same state on a grid with so many points per interval.

    In real space ñ is refined by polynomials: the Fourier series of a density that ends on a grid rings far outside.

    Raises
    ------
    ValueError
        A refinement that is no whole number, or in real space none of 1, 2, 4 and 8; a density without matrices.
    """
    if not state.has_matrices:
        raise ValueError('an all-electron density needs atoms with density matrices, which one-dimensional models lack')
    refinement = whole('gridrefinement', gridrefinement, least=1, most=16)
    check_grid_memory(state.grid, refinement=refinement)
    if mode_of(state.level.parameters)['name'] == 'pw':
        nt_sR = np.stack([refine_by_waves(nt_R, refinement) for nt_R in state.nt_sR])
        return state.new(grid=state.grid.new(size_c=refinement * state.grid.size_c), nt_sR=nt_sR)
    if refinement not in REFINEMENTS:
        raise ValueError(f'gridrefinement must be one of {", ".join(map(str, REFINEMENTS))}, not {gridrefinement}')
    while refinement > 1:
        nt_sR = np.stack([_doubled(nt_R, state.grid) for nt_R in state.nt_sR])
        state = state.new(grid=state.grid.new(size_c=2 * state.grid.size_c), nt_sR=nt_sR)
        refinement //= 2
    return state


def _doubled(nt_R: np.ndarray, grid: Grid) -> np.ndarray:
    """ñ at twice as many points along each axis, with the electrons that it has."""
    fine_R = refine_by_polynomials(nt_R, grid, STENCIL)
    electrons = fine_R.sum() / 8
    return fine_R * (nt_R.sum() / electrons) if electrons > 0 else fine_R


def sum_of_profiles(grid: Grid, position_av: np.ndarray, profiles: Sequence[Profile]) -> np.ndarray:
    """Σ_a n_a(|r − R_a|) on a whole grid, electrons/Å³; images across periodic boundaries count."""
    n_R = np.zeros(prod(grid.shape))
    for position_v, profile in zip(position_av, profiles, strict=True):
        index_p, vector_pv = grid.around(position_v, profile.cutoff)
        np.add.at(n_R, index_p, profile(np.linalg.norm(vector_pv, axis=1)))
    return n_R.reshape(grid.shape)


def stockholder_shares(
    grid: Grid, position_av: np.ndarray, profiles: Sequence[Profile], sum_R: np.ndarray | None = None
) -> Iterator[Share]:
    """For each atom its share  w_a(r) = n_a(|r − R_a|) / Σ_b n_b(|r − R_b|)  of the points that its profile reaches.

    ``sum_R``: :func:`sum_of_profiles`, if it is known.
    """
    sum_R = sum_of_profiles(grid, position_av, profiles) if sum_R is None else sum_R
    sum_r = sum_R.ravel()
    for position_v, profile in zip(position_av, profiles, strict=True):
        index_p, vector_pv = grid.around(position_v, profile.cutoff)
        distance_p = np.linalg.norm(vector_pv, axis=1)
        near_p = sum_r[index_p] > NOTHING
        index_p, distance_p = index_p[near_p], distance_p[near_p]
        yield Share(index_p, distance_p, profile(distance_p) / sum_r[index_p])


def nearest_sums(grid: Grid, atoms: Atoms, n_R: np.ndarray) -> np.ndarray:
    """(natoms,) ∫ n dr over the points that are nearest to each atom, electrons: over its Voronoi cell.

    Points at the same distance from several atoms are shared equally.  Points where n is zero are skipped.

    Parameters
    ----------
    grid
        A whole grid.
    n_R
        (``grid.shape``) electrons/Å³.
    """
    image_iv, owner_i = _images(grid, atoms)
    tree = cKDTree(image_iv)
    sums_a = np.zeros(len(atoms))
    start = 0
    flat_r = n_R.ravel()
    for slab in grid.slabs(2**18):
        n_p = flat_r[start : start + prod(slab.shape)]
        start += len(n_p)
        some_p = np.flatnonzero(n_p)
        if not len(some_p):
            continue
        distance_pk, image_pk = tree.query(slab.points().reshape(-1, 3)[some_p], k=min(NEIGHBOURS, len(image_iv)))
        distance_pk, image_pk = distance_pk.reshape(len(some_p), -1), image_pk.reshape(len(some_p), -1)
        tied_pk = distance_pk < distance_pk[:, :1] + TIE
        share_pk = tied_pk * (n_p[some_p] / tied_pk.sum(axis=1))[:, np.newaxis]
        sums_a += np.bincount(owner_i[image_pk].ravel(), share_pk.ravel(), minlength=len(atoms))
    return sums_a * grid.dv


def _images(grid: Grid, atoms: Atoms) -> tuple[np.ndarray, np.ndarray]:
    """Positions of the atoms and of their images that can be nearest to a point of the cell, and which atom each is.

    A point is at most half a diagonal of the cell from the nearest image of any atom and from the middle of the cell.
    """
    periodic_c = ~grid.zerobc_c
    corner_sc = np.array(list(np.ndindex(3, 3, 3))) - 1
    diagonal = float(np.linalg.norm(corner_sc @ grid.cell_cv, axis=1).max())
    reach_c = np.where(periodic_c, np.ceil(diagonal / (grid.spacing_c * grid.size_c)) + 1, 0).astype(int)
    shift_sc = np.array(list(np.ndindex(*(2 * reach_c + 1)))) - reach_c
    relpos_ac = atoms.cell.scaled_positions(atoms.positions)
    relpos_ac = np.where(periodic_c, relpos_ac % 1, relpos_ac)
    image_iv = ((shift_sc[:, np.newaxis] + relpos_ac) @ grid.cell_cv).reshape(-1, 3)
    owner_i = np.tile(np.arange(len(atoms)), len(shift_sc))
    distance_i = np.linalg.norm(image_iv - 0.5 * grid.cell_cv.sum(axis=0), axis=1)
    near_i = (distance_i <= diagonal) | (len(shift_sc) == 1)
    return image_iv[near_i], owner_i[near_i]
