"""The residual near each atom: one atom that is wrong among many that are right hardly shows in that of all."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from ase.units import Bohr

if TYPE_CHECKING:
    from gpaw.new.density import Density

REACH = 1.5 / Bohr
"""bohr: where the surroundings of an atom end."""


def window(r_g: np.ndarray) -> np.ndarray:
    """(1 − r²/reach²)², which weighs the points around an atom."""
    return (1 - (r_g / REACH) ** 2) ** 2


def local_residual(difference_sR: np.ndarray, nt_sR: np.ndarray, density: Density, relpos_ac: np.ndarray) -> float:
    """Largest ∫ w |Δñ| dr / ∫ w ñ dr with the window w around any atom, electrons per electron; the same on all ranks.

    Parameters
    ----------
    difference_sR
        Δñ, (nspins, n0, n1, n2) on this rank's part of the grid of GPAW's density.
    nt_sR
        What it is compared with: ñ there, of the same shape and unit.
    density
        For its grid and the distribution of its atoms.
    relpos_ac
        (natoms, 3) scaled positions of all atoms.
    """
    grid, atomdist = density.nt_sR.desc, density.D_asii.layout.atomdist
    functions = [[(0, REACH, window)]] * len(relpos_ac)
    windows = grid.atom_centered_functions(functions, relpos_ac, atomdist=atomdist, cut=True)
    part_ai, whole_ai = (windows.integrate(grid.from_data(x_R)) for x_R in (abs(difference_sR).sum(0), nt_sR.sum(0)))
    largest = max((float(part_i[0] / whole_ai[a][0]) for a, part_i in part_ai.items()), default=0.0)
    return float(grid.comm.max_scalar(largest))
