"""Dipole moment."""

from __future__ import annotations

from math import pi, sqrt

import numpy as np

from ase_deepdensity.analysis.charges import compensation_charges
from ase_deepdensity.state import PAWDensity


def dipole_moment(state: PAWDensity) -> np.ndarray:
    """(3,) dipole moment of the cell, e·Å, as GPAW's ``Density.calculate_dipole_moment`` has it.

        μ = −∫ r ñ(r) dr − Σ_a [√(4π) Q^a_00 R^a + √(4π/3) (Q^a_1x, Q^a_1y, Q^a_1z)]

    Points on a periodic boundary count half on either side.  Along a periodic direction the value depends on where the
    cell begins, as any such value does.
    """
    position_av = state.relpos_ac() @ state.grid.cell_cv
    dipole_v = -_first_moment(state)
    for Q_L, position_v in zip(compensation_charges(state), position_av, strict=True):
        dipole_v -= sqrt(4 * pi) * Q_L[0] * position_v
        if len(Q_L) > 1:
            y, z, x = Q_L[1:4]
            dipole_v -= sqrt(4 * pi / 3) * np.array([x, y, z])
    return dipole_v


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
