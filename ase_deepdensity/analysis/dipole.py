"""Dipole moment."""

from __future__ import annotations

import numpy as np

from ase_deepdensity.state import PAWDensity

MAX_DRIFT = 0.1
"""e·Å per Å: a dipole moment that changes by more as the beginning of its cell is moved is no property of the atoms."""


def dipole_moment(state: PAWDensity) -> np.ndarray:
    """(3,) e·Å, see :meth:`.PAWDensity.dipole_moment`."""
    return state.dipole_moment()


def drift_c(state: PAWDensity) -> np.ndarray:
    """(3,) how fast the dipole moment changes as the beginning of the cell is moved along each axis, e·Å per Å.

    Moving the boundary across lattice vector **a** by dx takes the electrons of a layer of that thickness to the other
    end of the cell, by **a**:

        |dμ| = |a| dx ∫ ñ dA ,      over the boundary plane; 0 where the cell is not periodic.

    It is 0 in vacuum, and the number of electrons in a homogeneous medium.
    """
    grid = state.grid
    nt_R = state.nt_sR.sum(axis=0)
    result_c = np.zeros(3)
    for c in np.flatnonzero(grid.pbc_c & ~grid.zerobc_c):
        plane_electrons = abs(np.take(nt_R, 0, axis=c)).sum() * grid.dv
        result_c[c] = np.linalg.norm(grid.cell_cv[c]) * plane_electrons / grid.spacing_c[c]
    return result_c


def depends_on_origin_c(state: PAWDensity) -> np.ndarray:
    """(3,) does matter reach across the boundary of the cell along this axis?

    Then the dipole moment depends on where the cell begins: one of a crystal or a liquid does in all directions, one of
    a slab in two, one of a molecule in the middle of a large enough periodic cell in none.  The bound is
    :data:`MAX_DRIFT`.
    """
    return drift_c(state) > MAX_DRIFT


def origin_caveat(state: PAWDensity) -> str:
    """What must be said beside a dipole moment, in one line; empty if it is a property of the atoms alone."""
    if abs(state.charge) > 0:
        return f'depends on the origin: the cell has a charge of {state.charge:+g}'
    axes = [f'{c + 1}' for c in np.flatnonzero(depends_on_origin_c(state))]
    if not axes:
        return ''
    vectors = f'lattice vector{"s" if len(axes) > 1 else ""} {", ".join(axes)}'
    return f'depends on where the cell begins: matter reaches across its boundary along {vectors}'
