"""Voronoi charges: each point of space belongs to the nearest atom."""

from __future__ import annotations

import numpy as np

from ase_deepdensity.analysis.free_atoms import superposition_of_atoms
from ase_deepdensity.analysis.shares import fine_density, nearest_sums
from ase_deepdensity.state import PAWDensity


def voronoi_charges(state: PAWDensity, *, deformation: bool = False, gridrefinement: int = 2) -> np.ndarray:
    """Of each atom (natoms,) its charge, |e|: Z_a minus the all-electron density nearer to it than to other atoms.

    Parameters
    ----------
    deformation
        Voronoi deformation density charges (doi:10.1002/jcc.10351) instead: −∫ (n − Σ_b n⁰_b) dr over the same cells,
        with the isolated atoms n⁰ of GPAW's start.  They tell how electrons have moved, not how large the atoms are.
    gridrefinement
        Points per interval of the state's grid.

    Raises
    ------
    MissingGPAWError
        Without GPAW.
    """
    grid, n_R = fine_density(state, gridrefinement)
    charge_a: np.ndarray = state.atoms.numbers - nearest_sums(grid, state.atoms, n_R)
    if deformation:
        charge_a -= voronoi_charges(superposition_of_atoms(state), gridrefinement=gridrefinement)
    return charge_a
