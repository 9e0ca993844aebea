"""Compensation charges: the multipoles that stand in for nuclei and cores."""

from __future__ import annotations

from math import pi, sqrt

import numpy as np

from ase_deepdensity import paw
from ase_deepdensity.analysis.compensation import Multipoles
from ase_deepdensity.spin import of_spin
from ase_deepdensity.state import PAWDensity


def compensation_charges(state: PAWDensity) -> list[np.ndarray]:
    """Of each atom the coefficients (nL,), electrons · Å^l: see :func:`.paw.compensation_charges`."""
    return paw.compensation_charges(state.D_asii, state.types())


def compensation_multipoles(state: PAWDensity) -> Multipoles | None:
    """The compensation charges in space; None where they are no Gaussians."""
    return _multipoles(state, compensation_charges(state))


def valence_multipoles(state: PAWDensity, spin: int | None) -> Multipoles | None:
    """What ñ of one spin, or of both (None), lacks of the valence electrons: the charges without those of the ions."""
    types, Q_aL = state.types(), []
    for Q_sL, atom_type in zip(paw.spin_compensation_charges(state.D_asii, types), types, strict=True):
        Q_sL[:, 0] += atom_type.nvalence / sqrt(4 * pi) / state.nspins
        Q_aL.append(of_spin(Q_sL, spin))
    return _multipoles(state, Q_aL)


def _multipoles(state: PAWDensity, Q_aL: list[np.ndarray]) -> Multipoles | None:
    widths = [atom_type.rcgauss for atom_type in state.types() if atom_type.rcgauss is not None]
    if len(widths) < len(state.atoms):
        return None
    return Multipoles(state.relpos_ac() @ state.grid.cell_cv, Q_aL, np.array(widths))
