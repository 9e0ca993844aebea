"""The superposition of isolated atoms that a calculation starts from, as a state of its own."""

from __future__ import annotations

import numpy as np

from ase_deepdensity.analysis.shares import sum_of_profiles
from ase_deepdensity.state import PAWDensity


def superposition_of_atoms(state: PAWDensity) -> PAWDensity:
    """Neutral, spin-paired isolated atoms where those of a state are, on its grid: GPAW's start (normalised).

    What is taken off a density to show how bonds have changed it.
    """
    types = state.types()
    position_av = state.relpos_ac() @ state.grid.cell_cv
    nt_R = sum_of_profiles(state.grid, position_av, [atom_type.nt for atom_type in types])
    nt_sR = np.stack([nt_R / state.nspins] * state.nspins)
    D_asii = [np.stack([atom_type.D_ii / state.nspins] * state.nspins) for atom_type in types]
    return state.new(nt_sR=nt_sR, D_asii=D_asii, charge=0.0, atom_types=types).normalized()
