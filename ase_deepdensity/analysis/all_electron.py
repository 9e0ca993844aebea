"""All-electron density: cusps and core electrons put back, as GPAW does it."""

from __future__ import annotations

import numpy as np

from ase_deepdensity.analysis.bare import bare_density, check_refinement, check_spin
from ase_deepdensity.analysis.poisson import refine_by_waves
from ase_deepdensity.codes.gpaw.densities import add_cusps
from ase_deepdensity.dataset.volumetric import with_boundaries
from ase_deepdensity.spin import of_spin
from ase_deepdensity.state import PAWDensity


def all_electron_density(
    state: PAWDensity, *, spin: int | None = None, gridrefinement: int = 1, skip_core: bool = False
) -> np.ndarray:
    """All-electron density on a periodic grid (zero boundaries included), electrons/Å³.

    Parameters
    ----------
    spin
        0 or 1: one spin density; None: their sum.
    gridrefinement
        Points per grid interval: the shape is ``gridrefinement`` · ``state.grid.size_c``.
    skip_core
        Leave out the core electrons.

    Raises
    ------
    MissingGPAWError
        Without GPAW.
    """
    check_spin(state, spin)
    check_refinement(state, gridrefinement)
    if not state.has_matrices:
        return bare_density(state, spin=spin, gridrefinement=gridrefinement)
    nt_sR = [refine_by_waves(with_boundaries(state.grid, nt_R), int(gridrefinement)) for nt_R in state.nt_sR]
    n_sR = add_cusps(state, np.stack(nt_sR), skip_core=skip_core)
    return of_spin(n_sR, spin)
