"""The residual near each atom: one atom that is wrong among many that are right hardly shows in that of all."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from ase.units import Bohr

if TYPE_CHECKING:
    from gpaw.core import UGArray
    from gpaw.core.atom_arrays import AtomDistribution

REACH = 1.5 / Bohr
"""bohr: where the surroundings of an atom end."""


def window(r_g: np.ndarray) -> np.ndarray:
    """(1 − r²/reach²)², which weighs the points around an atom."""
    return (1 - (r_g / REACH) ** 2) ** 2


def local_residual(
    difference_R: UGArray, nt_R: UGArray, relpos_ac: np.ndarray, atomdist: AtomDistribution
) -> float:
    """Largest ∫ w |Δñ| dr / ∫ w ñ dr with the window w around any atom, electrons per electron; the same on all ranks.

    Parameters
    ----------
    difference_R
        Δñ = ñ_out − ñ_in on this rank's part of GPAW's grid.
    nt_R
        ñ_out.
    relpos_ac
        (natoms, 3) scaled positions of all atoms.
    atomdist
        Which rank has which atoms.
    """
    grid = nt_R.desc
    windows = grid.atom_centered_functions([[(0, REACH, window)]] * len(relpos_ac), relpos_ac, atomdist=atomdist, cut=True)
    moved_ai, all_ai = (windows.integrate(x_R) for x_R in (nt_R.new(data=abs(difference_R.data)), nt_R))
    largest = max((float(moved_i[0] / all_ai[a][0]) for a, moved_i in moved_ai.items()), default=0.0)
    return float(grid.comm.max_scalar(largest))
