"""Pseudo density with the compensation charges: what GPAW's ``get_pseudo_density`` returns."""

from __future__ import annotations

import numpy as np

from ase_deepdensity.analysis.bare import bare_density, check_refinement, check_spin
from ase_deepdensity.analysis.charges import valence_multipoles
from ase_deepdensity.analysis.poisson import refine_by_waves
from ase_deepdensity.grid import Grid
from ase_deepdensity.spin import of_spin
from ase_deepdensity.state import PAWDensity


def pseudo_density(state: PAWDensity, *, spin: int | None = None, gridrefinement: int = 1) -> np.ndarray:
    """Pseudo density with compensation charges on a periodic grid, electrons/Å³.  Its integral: all valence electrons.

    It is GPAW's to 2·10⁻⁵ of its maximum.  ``state.nt_sR`` is the density without the charges.

    Parameters
    ----------
    spin
        0 or 1: one spin density; None: their sum.
    gridrefinement
        Points per grid interval: the shape is ``gridrefinement`` · ``state.grid.size_c``.

    Raises
    ------
    MissingGPAWError
        Without GPAW, for datasets whose compensation charges are no Gaussians.
    """
    check_spin(state, spin)
    check_refinement(state, gridrefinement)
    if not state.has_matrices:
        return bare_density(state, spin=spin, gridrefinement=gridrefinement)
    multipoles = valence_multipoles(state, spin)
    if multipoles is None:
        from ase_deepdensity.codes.gpaw.densities import pseudo_densities

        return of_spin(pseudo_densities(state, gridrefinement), spin)
    nt_R = refine_by_waves(bare_density(state, spin=spin), int(gridrefinement))
    return nt_R + multipoles.on_grid(Grid(state.grid.cell_cv, np.array(nt_R.shape)))
