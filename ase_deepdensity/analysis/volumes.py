"""Volumes of atoms in a molecule or solid: what dispersion corrections (Tkatchenko and Scheffler, MBD) begin with."""

from __future__ import annotations

import numpy as np

from ase_deepdensity.analysis.shares import fine_density, stockholder_shares
from ase_deepdensity.codes.gpaw.free_atoms import free_atoms
from ase_deepdensity.state import PAWDensity


def volume_ratios(state: PAWDensity, *, gridrefinement: int = 2) -> np.ndarray:
    """Of each atom (natoms,) its Hirshfeld volume over that of the isolated atom, dimensionless.

        V_a / V⁰_a = ∫ |r − R_a|³ w_a n dr / ∫ r³ n⁰_a dr          (doi:10.1103/PhysRevLett.102.073005, eq. 7)

    with the weights and isolated atoms of :func:`.hirshfeld_charges`.  In a periodic cell each image of an atom has its
    own distance and weight.  ``ase.calculators.vdwcorrection.vdWTkatchenko09prl`` takes them as its ``hirshfeld``.

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
    shares = stockholder_shares(grid, state.relpos_ac() @ grid.cell_cv, profiles)
    volume_a = [(share.distance_p**3 * share.weight_p) @ n_R.ravel()[share.index_p] * grid.dv for share in shares]
    return np.array(volume_a) / [profile.moment(3) for profile in profiles]
