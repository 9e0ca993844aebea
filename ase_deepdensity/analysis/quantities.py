"""The densities that a state can be shown as, by name."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from ase_deepdensity.analysis.all_electron import all_electron_density
from ase_deepdensity.analysis.pseudo import pseudo_density
from ase_deepdensity.dataset.volumetric import with_boundaries
from ase_deepdensity.state import PAWDensity


def smooth_density(state: PAWDensity) -> np.ndarray:
    """ñ of all spins on all points of a periodic grid, electrons/Å³; without compensation charges."""
    return with_boundaries(state.grid, state.nt_sR.sum(axis=0))


QUANTITIES: dict[str, tuple[Callable[[PAWDensity], np.ndarray], str]] = {
    'pseudo': (pseudo_density, "valence electrons: ñ with compensation charges, GPAW's get_pseudo_density()"),
    'all-electron': (all_electron_density, 'all electrons, cusps and cores included'),
    'smooth': (smooth_density, "ñ alone, GPAW's dft.density.nt_sR"),
}
"""name: (function of a state, what it is); all on the same periodic grid, electrons/Å³."""
