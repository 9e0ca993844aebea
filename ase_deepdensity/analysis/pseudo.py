"""Pseudo density with the compensation charges: what GPAW's ``get_pseudo_density`` returns."""

from __future__ import annotations

import numpy as np

from ase_deepdensity.analysis.bare import bare_density, check_refinement, check_spin
from ase_deepdensity.codes.gpaw.state import densities
from ase_deepdensity.state import PAWDensity


def pseudo_density(state: PAWDensity, *, spin: int | None = None, gridrefinement: int = 1) -> np.ndarray:
    """Pseudo density with compensation charges on a periodic grid, electrons/Å³.  Its integral: all valence electrons.

    ``state.nt_sR`` is the density without them.

    Parameters
    ----------
    spin
        0 or 1: one spin density; None: their sum.
    gridrefinement
        Points per grid interval: the shape is ``gridrefinement`` · ``state.grid.size_c``.
    """
    check_spin(state, spin)
    check_refinement(state, gridrefinement)
    if not state.has_matrices:
        return bare_density(state, spin=spin, gridrefinement=gridrefinement)
    n_sR = densities(state).pseudo_densities(grid_refinement=gridrefinement).data
    return n_sR.sum(axis=0) if spin is None else n_sR[spin]
