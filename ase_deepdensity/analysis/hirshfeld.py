"""Hirshfeld charges: each point of space is shared among the atoms as their isolated densities stand to each other."""

from __future__ import annotations

import numpy as np

from ase_deepdensity.analysis.shares import NOTHING, fine_density, nearest_sums, stockholder_shares, sum_of_profiles
from ase_deepdensity.codes.gpaw.free_atoms import free_atoms
from ase_deepdensity.state import PAWDensity


def hirshfeld_charges(state: PAWDensity, *, gridrefinement: int = 2) -> np.ndarray:
    """Of each atom (natoms,) its Hirshfeld charge, |e|; positive where electrons are missing.

        q_a = Z_a − ∫ w_a n dr,     w_a = n⁰_a / Σ_b n⁰_b          (doi:10.1007/BF00549096)

    with the all-electron density n and those of the isolated atoms n⁰ of GPAW's start, as GPAW's
    ``HirshfeldPartitioning`` has them.  In the LCAO mode these are made of its confined basis functions.  What lies
    beyond all of them belongs to the nearest atom, so that the charges add up to that of the system.

    Parameters
    ----------
    gridrefinement
        Points per interval of the state's grid.

    Raises
    ------
    MissingGPAWError
        Without GPAW.
    """
    grid, n_R = fine_density(state, gridrefinement)
    profiles = free_atoms(state.level, state.atoms.numbers)
    position_av = state.relpos_ac() @ grid.cell_cv
    sum_R = sum_of_profiles(grid, position_av, profiles)
    electrons_a = nearest_sums(grid, state.atoms, np.where(sum_R > NOTHING, 0.0, n_R))
    n_r = n_R.ravel()
    for a, share in enumerate(stockholder_shares(grid, position_av, profiles, sum_R)):
        electrons_a[a] += share.weight_p @ n_r[share.index_p] * grid.dv
    charge_a: np.ndarray = state.atoms.numbers - electrons_a
    return charge_a
