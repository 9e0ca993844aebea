"""Densities of a state by GPAW's own routines."""

from __future__ import annotations

import numpy as np

from ase_deepdensity.codes.gpaw.require import require_gpaw
from ase_deepdensity.codes.gpaw.state import densities
from ase_deepdensity.state import PAWDensity


def all_electron_densities(state: PAWDensity, refinement: int, *, skip_core: bool = False) -> np.ndarray:
    """(nspins, n0, n1, n2) with cusps and core electrons, electrons/Å³, on all points of a periodic grid.

    Parameters
    ----------
    refinement
        Points per interval of the state's grid.
    skip_core
        Leave out the core electrons.

    Raises
    ------
    MissingGPAWError
        Without GPAW.
    """
    require_gpaw('the all-electron density')
    n_sR: np.ndarray = densities(state).all_electron_densities(grid_refinement=refinement, skip_core=skip_core).data
    return n_sR


def pseudo_densities(state: PAWDensity, refinement: int) -> np.ndarray:
    """(nspins, n0, n1, n2) with compensation charges, otherwise as :func:`all_electron_densities`."""
    require_gpaw('the pseudo density of datasets whose compensation charges are no Gaussians')
    n_sR: np.ndarray = densities(state).pseudo_densities(grid_refinement=refinement).data
    return n_sR
