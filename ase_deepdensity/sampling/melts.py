"""Liquids of very few atoms: a crystal with room to move, in the dynamics of a universal potential."""

from __future__ import annotations

import warnings

import numpy as np
from ase import Atoms

from ase_deepdensity.sampling.distort import supercell
from ase_deepdensity.sampling.geometries import langevin
from ase_deepdensity.sampling.potential import calculator
from ase_deepdensity.sampling.prototypes import scaled

EXPANSION = 1.12
"""Volume of a melt against its crystal's."""


def melt(
    atoms: Atoms, rng: np.random.Generator, *, max_atoms: int = 12, temperature: float = 1500.0, time: float = 0.2
) -> Atoms:
    """After ``time`` picoseconds of Langevin dynamics at ``temperature`` (K), 2 fs a step."""
    expanded = scaled(supercell(atoms, max_atoms), EXPANSION ** (1 / 3))
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')  # pymatgen of the constraint on the centre of mass
        return next(langevin(expanded, calculator(), 2.0, rng, temperature, time, time))
