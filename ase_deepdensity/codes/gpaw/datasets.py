"""The superposition of atoms that GPAW starts from, as one radial table per element."""

from __future__ import annotations

from collections.abc import Iterable
from math import pi, sqrt

import numpy as np
from ase.units import Bohr

from ase_deepdensity.level import Level

SPACING = 0.002
"""Of the radial mesh, Å."""


def atomic_tables(level: Level, numbers: Iterable[int]) -> dict[int, tuple[np.ndarray, np.ndarray]]:
    """The spherical pseudo density of each isolated atom in GPAW's start, spin-paired and neutral.

        ñ(r) = ñ_c(r) + Σ_j f_j |φ̃_j(r)|² / 4π

    with GPAW's initial occupations f_j and, for φ̃_j, what GPAW starts with at this level: the basis functions of the
    LCAO mode or the pseudo partial waves.  Summed over the atoms, it is ``builder.density_from_superposition(...)``,
    which is not normalised.  Images count across every boundary that is not a zero boundary
    (:attr:`Grid.zerobc_c`): plane waves are periodic along a direction with pbc False, too.

    Returns
    -------
    dict
        By atomic number: r_g (Å, evenly spaced from 0 to where the density ends) and n_g (electrons/Å³).
    """
    return {z: _table(level, z) for z in sorted({int(number) for number in numbers})}


def _table(level: Level, z: int) -> tuple[np.ndarray, np.ndarray]:
    setup = level.setups([z])[0]
    occupation_I = setup.calculate_initial_occupation_numbers(0.0, False, charge=0.0, nspins=1)[0]
    splines = setup.basis_functions_J
    cutoffs = [spline.get_cutoff() for spline in splines] + ([setup.nct.get_cutoff()] if setup.nct is not None else [])
    r_g = np.linspace(0.0, max(cutoffs), int(np.ceil(max(cutoffs) * Bohr / SPACING)) + 1)  # bohr
    n_g = np.zeros_like(r_g) if setup.nct is None else setup.nct.map(r_g) / sqrt(4 * pi)
    first = 0
    for spline in splines:
        l = spline.get_angular_momentum_number()
        f = occupation_I[first : first + 2 * l + 1].sum()
        n_g = n_g + f * (spline.map(r_g) * r_g**l) ** 2 / (4 * pi)  # GPAW's splines hold φ̃/r^l
        first += 2 * l + 1
    return r_g * Bohr, n_g * Bohr**-3
