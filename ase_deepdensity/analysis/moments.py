"""Multipole moments of all charge: nuclei, cores and valence electrons."""

from __future__ import annotations

from dataclasses import dataclass
from math import pi, sqrt

import numpy as np
from numpy.typing import ArrayLike

from ase_deepdensity.analysis.charges import compensation_charges
from ase_deepdensity.state import PAWDensity

L2_vvm = np.zeros((3, 3, 5))
"""Quadrupole moment of r² Y_2m with ∫ r² Y_2m ρ dr = 1 (m: xy, yz, 3z²−r², zx, x²−y²)."""
for _m, (_v, _w) in {0: (0, 1), 1: (1, 2), 3: (0, 2)}.items():
    L2_vvm[_v, _w, _m] = L2_vvm[_w, _v, _m] = sqrt(3) / 2
L2_vvm[..., 2] = np.diag([-0.5, -0.5, 1.0])
L2_vvm[..., 4] = np.diag([sqrt(3) / 2, -sqrt(3) / 2, 0.0])
L2_vvm *= sqrt(4 * pi / 5)


@dataclass(frozen=True)
class Moments:
    """Of a charge density ρ, electrons negative."""

    centre_v: np.ndarray
    """(3,) what they refer to, Å."""
    charge: float
    """∫ ρ dr, |e|."""
    dipole_v: np.ndarray
    """(3,) ∫ (r − centre) ρ dr, e·Å."""
    quadrupole_vv: np.ndarray
    """(3, 3) ½ ∫ [3 (r − centre)_v (r − centre)_w − |r − centre|² δ_vw] ρ dr, e·Å²; no trace."""


def multipole_moments(state: PAWDensity, centre: ArrayLike | None = None) -> Moments:
    """Charge, dipole and quadrupole moment of the cell.

    Of ñ on the grid and of the compensation charges Q^a_L of each atom (see :func:`.paw.compensation_charges`), whose
    multipoles are exact: as :meth:`.PAWDensity.dipole_moment` one order higher.  Points on a periodic boundary count
    half on either side.  The quadrupole moment (Buckingham's, doi:10.1039/QR9591300183) depends on the centre where
    there is a dipole moment, and all of them on where the cell begins where matter reaches across its boundary
    (:func:`.dipole.origin_caveat`).

    Parameters
    ----------
    centre
        (3,) Å; default: the centre of mass.
    """
    state.check_whole('multipole_moments')
    centre_v = state.atoms.get_center_of_mass() if centre is None else np.asarray(centre, float)
    if centre_v.shape != (3,) or not np.isfinite(centre_v).all():
        raise ValueError(f'the centre must be three finite coordinates in Å, not {centre!r}')
    position_av = state.relpos_ac() @ state.grid.cell_cv
    electrons, first_v, electrons_vv = _grid_moments(state, centre_v)
    charge, dipole_v, second_vv = -electrons, -first_v, -electrons_vv
    quadrupole_vv = np.zeros((3, 3))
    for Q_L, r_v in zip(compensation_charges(state), position_av - centre_v, strict=True):
        q = -sqrt(4 * pi) * float(Q_L[0])
        d_v = -sqrt(4 * pi / 3) * Q_L[[3, 1, 2]] if len(Q_L) > 1 else np.zeros(3)
        charge += q
        dipole_v += q * r_v + d_v
        second_vv += q * np.outer(r_v, r_v) + np.outer(r_v, d_v) + np.outer(d_v, r_v)
        if len(Q_L) > 4:
            quadrupole_vv -= L2_vvm @ Q_L[4:9]
    quadrupole_vv += 1.5 * second_vv - 0.5 * np.trace(second_vv) * np.eye(3)
    return Moments(centre_v, charge, dipole_v, quadrupole_vv)


def _grid_moments(state: PAWDensity, centre_v: np.ndarray) -> tuple[float, np.ndarray, np.ndarray]:
    """∫ ñ dr, ∫ ñ (r − centre)_v dr and ∫ ñ (r − centre)_v (r − centre)_w dr: electrons, electrons · Å and · Å²."""
    grid, nt_R = state.grid, state.nt_sR.sum(axis=0)
    centre_c = centre_v @ np.linalg.inv(grid.cell_cv)
    first_ci, second_ci = [], []
    for c in range(3):
        x_i = np.arange(grid.start_c[c], grid.size_c[c]) / grid.size_c[c] - centre_c[c]
        square_i = x_i**2
        if not grid.zerobc_c[c]:  # the point at the beginning is that at the end
            square_i[0] = (square_i[0] + (x_i[0] + 1) ** 2) / 2
            x_i[0] += 0.5
        first_ci.append(x_i)
        second_ci.append(square_i)
    one_ci = [np.ones(len(x_i)) for x_i in first_ci]

    def integral(*factors: np.ndarray) -> float:
        return float(np.einsum('ijk, i, j, k ->', nt_R, *factors, optimize=True)) * grid.dv

    def chosen(*axes: int) -> list[np.ndarray]:
        return [(one_ci[c], first_ci[c], second_ci[c])[axes.count(c)] for c in range(3)]

    moment_c = np.array([integral(*chosen(c)) for c in range(3)])
    moment_cc = np.array([[integral(*chosen(c, d)) for d in range(3)] for c in range(3)])
    return integral(*one_ci), moment_c @ grid.cell_cv, grid.cell_cv.T @ moment_cc @ grid.cell_cv
