"""The densities that a state can be shown as, by name."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from ase_deepdensity.analysis.all_electron import all_electron_density
from ase_deepdensity.analysis.bare import bare_density
from ase_deepdensity.analysis.pseudo import pseudo_density
from ase_deepdensity.state import PAWDensity

QUANTITIES: dict[str, tuple[Callable[[PAWDensity], np.ndarray], str]] = {
    'pseudo': (pseudo_density, "valence electrons: ñ with compensation charges, GPAW's get_pseudo_density()"),
    'all-electron': (all_electron_density, 'all electrons, cusps and cores included'),
    'smooth': (bare_density, "ñ alone, GPAW's dft.density.nt_sR"),
}
"""name: (function of a state, what it is); all on the same periodic grid, electrons/Å³."""
