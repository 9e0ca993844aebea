"""What the atoms of a state hold: density matrices measured by the electrons that orbitals can put there."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from scipy.linalg import solve_triangular

if TYPE_CHECKING:
    from gpaw.core.atom_arrays import AtomArrays
    from gpaw.setup import Setup, Setups

RADII = np.linspace(0.0, 10.0, 2001)
"""bohr: where projectors are integrated."""
SLACK = 1.0
"""Added to what an orbital can give.  Datasets have directions in which it can give next to nothing: there the smallest
error would count for an electron."""


class NaturalOccupations:
    """Eigenvalues of density matrices D_ij = Σ_n f_n ⟨p_i|ψ_n⟩⟨ψ_n|p_j⟩ in units of what one electron can give.

    Orbitals are normalised with the overlap operator S = 1 + Σ_ij |p_i⟩ ΔO_ij ⟨p_j|
    (doi:10.1103/PhysRevB.50.17953, eq. 34), so that with f_n ≤ 2

        0 ≤ D ≤ 2 M,    M = ⟨p|S⁻¹|p⟩ = (B⁻¹ + ΔO)⁻¹,    B_ij = ⟨p_i|p_j⟩,

    for an atom whose neighbours' spheres do not reach into its own.  Converged states of H, C, N and O have eigenvalues
    of D in units of M from 0 to 1.2.  Here the unit is M + :data:`SLACK`.
    """

    def __init__(self, setups: Setups):
        factors: dict[int, np.ndarray] = {}
        self._factor_aii: list[np.ndarray] = []
        """Cholesky factor of the unit of each atom."""
        for setup in setups:
            if id(setup) not in factors:
                factors[id(setup)] = np.linalg.cholesky(_capacity(setup) + SLACK * np.eye(setup.ni))
            self._factor_aii.append(factors[id(setup)])

    def extremes(self, D_asii: AtomArrays) -> tuple[float, float]:
        """Lowest (at most 0) and highest (at least 0) eigenvalue of all atoms and spins, electrons, on all ranks."""
        lowest = highest = 0.0
        for a, D_sii in D_asii.items():
            L_ii = self._factor_aii[a]
            for D_ii in D_sii:
                half_ii = solve_triangular(L_ii, D_ii, lower=True)
                eigenvalues = np.linalg.eigvalsh(solve_triangular(L_ii, half_ii.T, lower=True))
                lowest, highest = min(lowest, *eigenvalues), max(highest, *eigenvalues)
        comm = D_asii.layout.atomdist.comm
        return float(comm.min_scalar(float(lowest))), float(comm.max_scalar(float(highest)))


def _capacity(setup: Setup) -> np.ndarray:
    """M of an atom alone, (ni, ni)."""
    p_jr = [RADII**l * pt.map(RADII) for l, pt in zip(setup.l_j, setup.pt_j, strict=True)]
    l_i = np.repeat(setup.l_j, [2 * l + 1 for l in setup.l_j])
    m_i = np.concatenate([np.arange(2 * l + 1) for l in setup.l_j])
    j_i = np.repeat(np.arange(len(setup.l_j)), [2 * l + 1 for l in setup.l_j])
    B_jj = np.array([[np.trapezoid(p_r * q_r * RADII**2, RADII) for q_r in p_jr] for p_r in p_jr])
    same_ii = (l_i[:, np.newaxis] == l_i) & (m_i[:, np.newaxis] == m_i)
    B_ii = np.where(same_ii, B_jj[np.ix_(j_i, j_i)], 0.0)
    return np.linalg.inv(np.linalg.inv(B_ii) + setup.dO_ii)
