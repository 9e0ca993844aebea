"""Bader charges: each point of space belongs to the atom that the density rises to, by the weight method."""

from __future__ import annotations

import numpy as np
from numba import njit
from scipy.spatial import ConvexHull, Voronoi

from ase_deepdensity.analysis.shares import nearest_sums, refined
from ase_deepdensity.codes.gpaw.densities import add_cusps
from ase_deepdensity.dataset.volumetric import with_boundaries
from ase_deepdensity.grid import Grid
from ase_deepdensity.state import PAWDensity

SMALL = 1e-6
"""A face of a Voronoi cell that is smaller, in areas of the largest one, is none."""


def bader_charges(state: PAWDensity, *, gridrefinement: int = 4) -> np.ndarray:
    """Of each atom (natoms,) its Bader charge, |e|: Z_a minus the all-electron density in its basin.

    The basin of an atom is where paths uphill end at it.  A point near the surface between basins belongs to several,
    in shares (:func:`basin_sums`).  A maximum that is no nucleus belongs to the nearest atom.  Paths are those of the
    density as it is, without the electrons that a grid misses at a cusp, which belong to their atom.

    Parameters
    ----------
    gridrefinement
        Points per interval of the state's grid; the error falls with its square.

    Raises
    ------
    MissingGPAWError
        Without GPAW.
    """
    state = refined(state, gridrefinement)
    nt_sR = np.stack([with_boundaries(state.grid, nt_R) for nt_R in state.nt_sR])
    n_R, smooth_R = (add_cusps(state, nt_sR, add_missing=missing).sum(axis=0) for missing in (True, False))
    grid = Grid(state.grid.cell_cv, state.grid.size_c)
    charge_a: np.ndarray = state.atoms.numbers - nearest_sums(grid, state.atoms, basin_sums(n_R, grid, smooth_R))
    return charge_a


def basin_sums(n_R: np.ndarray, grid: Grid, height_R: np.ndarray | None = None) -> np.ndarray:
    """Density of each basin, collected at its maximum; zero elsewhere: (``grid.shape``), the sum is that of ``n_R``.

    The weight method (doi:10.1063/1.3553716): from a point p its density flows to the neighbours p' that are higher, in
    shares

        J_pp' ∝ A_pp' / |r_p' − r_p| · (n_p' − n_p)

    with the areas A of the faces of the grid's Voronoi cells.  Going from the lowest point to the highest, all of it
    arrives at maxima.

    Parameters
    ----------
    n_R
        On a whole periodic grid.
    height_R
        What has the basins; default: ``n_R``.
    """
    step_dc, weight_d = voronoi_faces(grid.step_cv)
    height_R = np.ascontiguousarray(n_R if height_R is None else height_R, dtype=float)
    order_p = np.argsort(height_R, axis=None, kind='stable')
    sum_R = np.array(n_R, dtype=float, order='C')
    _flow_uphill(sum_R, height_R, order_p, step_dc, weight_d)
    return sum_R


def voronoi_faces(step_cv: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Steps (ndirections, 3) to the neighbours of a point of a grid whose Voronoi cells touch its own, and A/|r|, Å."""
    step_dc = np.array(list(np.ndindex(5, 5, 5))) - 2
    middle = len(step_dc) // 2
    diagram = Voronoi(step_dc @ step_cv)
    faces: dict[int, float] = {}
    for (p, q), vertices in zip(diagram.ridge_points, diagram.ridge_vertices, strict=True):
        if middle in (p, q) and -1 not in vertices:
            faces[int(q if p == middle else p)] = _area(diagram.vertices[vertices])
    neighbour_d = [d for d, area in faces.items() if area > SMALL * max(faces.values())]
    length_d = np.linalg.norm(step_dc[neighbour_d] @ step_cv, axis=1)
    return step_dc[neighbour_d], np.array([faces[d] for d in neighbour_d]) / length_d


def _area(corner_iv: np.ndarray) -> float:
    """Of a convex polygon in space."""
    centred_iv = corner_iv - corner_iv.mean(axis=0)
    plane_vw = np.linalg.svd(centred_iv)[2][:2].T
    return float(ConvexHull(centred_iv @ plane_vw, qhull_options='QJ').volume)


@njit(cache=True)
def _flow_uphill(sum_R, n_R, order_p, step_dc, weight_d):  # type: ignore[no-untyped-def]
    """In place."""
    n0, n1, n2 = n_R.shape
    share_d = np.empty(len(weight_d))
    for p in order_p:
        i, j, k = p // (n1 * n2), p // n2 % n1, p % n2
        total = 0.0
        for d in range(len(weight_d)):
            rise = n_R[(i + step_dc[d, 0]) % n0, (j + step_dc[d, 1]) % n1, (k + step_dc[d, 2]) % n2] - n_R[i, j, k]
            share_d[d] = max(rise, 0.0) * weight_d[d]
            total += share_d[d]
        if total > 0.0:
            amount = sum_R[i, j, k] / total
            sum_R[i, j, k] = 0.0
            for d in range(len(weight_d)):
                if share_d[d] > 0.0:
                    sum_R[(i + step_dc[d, 0]) % n0, (j + step_dc[d, 1]) % n1, (k + step_dc[d, 2]) % n2] += (
                        share_d[d] * amount
                    )
