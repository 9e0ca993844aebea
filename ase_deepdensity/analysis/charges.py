"""Compensation charges: the multipoles that stand in for nuclei and cores."""

from __future__ import annotations

from math import isqrt

import numpy as np
from ase.units import Bohr

from ase_deepdensity.state import PAWDensity


def compensation_charges(state: PAWDensity) -> list[np.ndarray]:
    """Coefficients of the compensation charges of each atom.

        Q^a_L = Σ_sij D^a_sij Δ^a_ijL + δ_L0 Δ0^a          (doi:10.1103/PhysRevB.71.035109, eq. 20)

    Returns
    -------
    list
        For each atom (nL,), electrons · Å^l, L = 0, 1, 2 … in GPAW's order: 1; y, z, x; xy, yz, 3z²−r², zx, x²−y².
        √(4π) Q^a_0 is the charge of the atom's smooth nucleus, in electrons: negative where electrons are missing
        to neutralise.
    """
    Q_aL = []
    for D_sii, setup in zip(state.D_asii, state.level.setups(state.atoms.numbers), strict=True):
        Q_L = np.einsum('sij, ijL -> L', D_sii, setup.Delta_iiL)
        Q_L[0] += setup.Delta0
        Q_aL.append(Q_L * [Bohr ** isqrt(L) for L in range(len(Q_L))])
    return Q_aL
