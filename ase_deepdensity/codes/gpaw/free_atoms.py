"""All-electron densities of the isolated atoms of GPAW's start."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import pi
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike
from scipy.integrate import simpson

from ase_deepdensity.codes.gpaw.datasets import atom_type, free_atom, setups, unpacked
from ase_deepdensity.codes.gpaw.require import require_gpaw
from ase_deepdensity.codes.gpaw.waves import Waves
from ase_deepdensity.level import Level
from ase_deepdensity.paw import pseudo_electrons

if TYPE_CHECKING:
    from gpaw.setup import Setup

END = 1e-8
"""electrons/Å³: where the density has fallen below, an atom ends."""


@dataclass(frozen=True, eq=False)
class FreeAtom:
    """A spherical all-electron density on a fine mesh."""

    r_g: np.ndarray
    """Distances, evenly spaced from 0 on, Å."""
    n_g: np.ndarray
    """Density there, electrons/Å³."""

    @property
    def cutoff(self) -> float:
        """Where the density ends, Å."""
        return float(self.r_g[-1])

    def __call__(self, r: ArrayLike) -> np.ndarray:
        """The density at distances r, Å."""
        n: np.ndarray = np.interp(np.asarray(r, float), self.r_g, self.n_g, right=0.0)
        return n

    def moment(self, power: int) -> float:
        """∫ r^power n dr over all space, electrons · Å^power."""
        return float(simpson(4 * pi * self.r_g ** (2 + power) * self.n_g, x=self.r_g))


def free_atoms(level: Level, numbers: Sequence[int] | np.ndarray) -> list[FreeAtom]:
    """Of each atom the all-electron density of the isolated, spin-paired and neutral atom of GPAW's start.

    Raises
    ------
    MissingGPAWError
        Without GPAW.
    """
    require_gpaw('the all-electron density of isolated atoms')
    made: dict[int, FreeAtom] = {}
    datasets = setups(level, [int(number) for number in numbers])
    for setup in datasets:
        if id(setup) not in made:
            made[id(setup)] = _all_electron_atom(setup)
    return [made[id(setup)] for setup in datasets]


def _all_electron_atom(setup: Setup) -> FreeAtom:
    """ñ of the start, scaled so that the atom is neutral, and what PAW adds to it."""
    f_sI = setup.calculate_initial_occupation_numbers(0.0, False, charge=0.0, nspins=1)
    D_ii = unpacked(setup.initialize_density_matrix(f_sI)[0])
    r_g, n_g = free_atom(setup, f_sI[0])
    n_g *= pseudo_electrons([D_ii[np.newaxis]], [atom_type(setup)]) / FreeAtom(r_g, n_g).moment(0)
    waves = Waves.of(setup)
    near_g = r_g < waves.reach
    r_n = r_g[near_g]
    n_g[near_g] += waves.core_density(r_n) + waves.mean_density(D_ii, r_n)
    n_g = np.maximum(n_g, 0.0)
    last = int(np.flatnonzero(n_g > END)[-1])
    return FreeAtom(r_g[: last + 2], n_g[: last + 2])
