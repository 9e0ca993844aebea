"""Compensation charges: the multipoles that stand in for nuclei and cores."""

from __future__ import annotations

import numpy as np

from ase_deepdensity import paw
from ase_deepdensity.state import PAWDensity


def compensation_charges(state: PAWDensity) -> list[np.ndarray]:
    """Coefficients of the compensation charges of each atom, electrons · Å^l: :func:`.paw.compensation_charges`."""
    return paw.compensation_charges(state.D_asii, state.types())
