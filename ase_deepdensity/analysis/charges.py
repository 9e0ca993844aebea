"""Compensation charges: the multipoles that stand in for nuclei and cores."""

from __future__ import annotations

from math import isqrt, pi, sqrt

import numpy as np
from ase.units import Bohr

from ase_deepdensity.analysis.compensation import Multipoles
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
        Q_aL.append(_in_angstrom(Q_L))
    return Q_aL


def compensation_multipoles(state: PAWDensity) -> Multipoles | None:
    """The compensation charges in space; None where they are no Gaussians."""
    return _multipoles(state, compensation_charges(state))


def valence_multipoles(state: PAWDensity, spin: int | None) -> Multipoles | None:
    """What ñ of one spin, or of both (None), lacks of the valence electrons: the charges without those of the ions."""
    Q_aL = []
    for D_sii, setup in zip(state.D_asii, state.level.setups(state.atoms.numbers), strict=True):
        Q_sL = np.einsum('sij, ijL -> sL', D_sii, setup.Delta_iiL)
        Q_sL[:, 0] += (setup.Delta0 + setup.Nv / sqrt(4 * pi)) / state.nspins
        Q_aL.append(_in_angstrom(Q_sL.sum(axis=0) if spin is None else Q_sL[spin]))
    return _multipoles(state, Q_aL)


def _multipoles(state: PAWDensity, Q_aL: list[np.ndarray]) -> Multipoles | None:
    shapes = [setup.data.shape_function for setup in state.level.setups(state.atoms.numbers)]
    if any(shape['type'] != 'gauss' for shape in shapes):
        return None
    width_a = np.array([shape['rc'] * Bohr for shape in shapes])
    return Multipoles(state.relpos_ac() @ state.grid.cell_cv, Q_aL, width_a)


def _in_angstrom(Q_L: np.ndarray) -> np.ndarray:
    """From electrons · bohr^l."""
    return Q_L * np.array([Bohr ** isqrt(L) for L in range(len(Q_L))])
