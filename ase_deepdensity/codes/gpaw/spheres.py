"""What PAW adds to ñ at the atoms, on points around each nucleus that resolve cusps and cores."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from scipy.integrate import lebedev_rule

from ase_deepdensity.codes.gpaw.datasets import setups
from ase_deepdensity.codes.gpaw.require import require_gpaw
from ase_deepdensity.codes.gpaw.waves import Waves
from ase_deepdensity.state import PAWDensity

RADII = 40
"""Gauss–Legendre points in t, r = r_c t³: dense where cores are."""
DEGREE = 11
"""Of the harmonics that the directions (Lebedev's, 50) integrate."""


class Sphere(NamedTuple):
    """The change of density near one atom."""

    vector_pv: np.ndarray
    """Points from the nucleus, Å."""
    n_p: np.ndarray
    """n − ñ there, electrons/Å³."""
    weight_p: np.ndarray
    """Volumes of the points, Å³."""


def spheres(state: PAWDensity) -> list[Sphere]:
    """n − ñ of each atom, all spins together: ∫ n f dr is the sum over the grid of ñ f and over these points.

    Raises
    ------
    MissingGPAWError
        Without GPAW.
    ValueError
        Datasets with a core hole.
    """
    require_gpaw('the all-electron density')
    direction_dv, weight_d = lebedev_rule(DEGREE)
    t_g, weight_g = np.polynomial.legendre.leggauss(RADII)
    t_g, weight_g = (t_g + 1) / 2, weight_g / 2
    result = []
    waves: dict[int, Waves] = {}
    for setup, D_sii in zip(setups(state.level, state.atoms.numbers), state.D_asii, strict=True):
        if setup.data.has_corehole:
            raise ValueError(f'the dataset of {setup.symbol} has a core hole, which this cannot be made for')
        of_atom = waves.setdefault(id(setup), Waves.of(setup))
        r_g = of_atom.reach * t_g**3
        volume_g = weight_g * 3 * of_atom.reach * t_g**2 * r_g**2
        vector_pv = (r_g[:, np.newaxis, np.newaxis] * direction_dv.T).reshape(-1, 3)
        n_p = of_atom.density(D_sii, vector_pv).sum(axis=0) + np.repeat(of_atom.core_density(r_g), len(weight_d))
        result.append(Sphere(vector_pv, n_p, np.outer(volume_g, weight_d).ravel()))
    return result
