"""Dipole moment."""

from __future__ import annotations

from math import pi, sqrt

import numpy as np

from ase_deepdensity.paw import compensation_charges
from ase_deepdensity.state import PAWDensity

MAX_DRIFT = 0.1
"""e·Å per Å: a dipole moment that changes by more as the beginning of its cell is moved is no property of the atoms."""


def dipole_moment(state: PAWDensity) -> np.ndarray:
    """(3,) dipole moment of the cell, e·Å, as GPAW's ``Density.calculate_dipole_moment`` has it.

        μ = −∫ r ñ(r) dr − Σ_a [√(4π) Q^a_00 R^a + √(4π/3) (Q^a_1x, Q^a_1y, Q^a_1z)]

    Points on a periodic boundary count half on either side.  Where matter reaches across a periodic boundary the value
    depends on where the cell begins, as any such value does: see :func:`depends_on_origin_c`.
    """
    position_av = state.relpos_ac() @ state.grid.cell_cv
    dipole_v = -_first_moment(state)
    for Q_L, position_v in zip(compensation_charges(state.D_asii, state.types()), position_av, strict=True):
        dipole_v -= sqrt(4 * pi) * Q_L[0] * position_v
        if len(Q_L) > 1:
            y, z, x = Q_L[1:4]
            dipole_v -= sqrt(4 * pi / 3) * np.array([x, y, z])
    return dipole_v


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


def _first_moment(state: PAWDensity) -> np.ndarray:
    """(3,) ∫ r ñ(r) dr, electrons · Å."""
    grid = state.grid
    nt_R = state.nt_sR.sum(axis=0)
    moment_c = np.empty(3)
    for c in range(3):
        index_i = np.arange(grid.start_c[c], grid.stop_c[c], dtype=float)
        if len(index_i) and index_i[0] == 0:
            index_i[0] = 0.5 * grid.size_c[c]
        moment_c[c] = index_i @ nt_R.sum(axis=tuple({0, 1, 2} - {c})) / grid.size_c[c]
    return moment_c @ grid.cell_cv * grid.dv
