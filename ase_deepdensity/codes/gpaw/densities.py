"""Densities of a state for which GPAW's datasets are needed."""

from __future__ import annotations

from math import pi, sqrt

import numpy as np

from ase_deepdensity.codes.gpaw.datasets import setups
from ase_deepdensity.codes.gpaw.require import require_gpaw
from ase_deepdensity.codes.gpaw.state import densities
from ase_deepdensity.codes.gpaw.waves import Waves
from ase_deepdensity.grid import Grid
from ase_deepdensity.state import PAWDensity


def add_cusps(state: PAWDensity, n_sR: np.ndarray, *, skip_core: bool = False, add_missing: bool = True) -> np.ndarray:
    """ñ and what PAW puts back at the atoms, (nspins, n0, n1, n2), electrons/Å³: the all-electron density.

        n = ñ + Σ_a [Σ_ij D^a_ij (φ_i φ_j − φ̃_i φ̃_j) + n_c^a − ñ_c^a]

    It is that of GPAW's ``Densities.all_electron_densities``, which looks at every point of the grid for every atom.

    Parameters
    ----------
    n_sR
        ñ on all points of a periodic grid in the cell, electrons/Å³.
    skip_core
        Leave out the core electrons.
    add_missing
        Unless these are left out, add the electrons that a grid misses at a cusp to the nearest point, so that their
        number is right.

    Raises
    ------
    MissingGPAWError
        Without GPAW.
    """
    require_gpaw('the all-electron density')
    datasets = setups(state.level, state.atoms.numbers)
    if any(setup.data.has_corehole for setup in datasets):
        refinement = n_sR.shape[1] // int(state.grid.size_c[0])
        all_sR: np.ndarray = (
            densities(state).all_electron_densities(grid_refinement=refinement, skip_core=skip_core).data
        )
        return all_sR
    waves = {id(setup): Waves.of(setup, skip_core=skip_core) for setup in datasets}
    grid = Grid(state.grid.cell_cv, np.array(n_sR.shape[1:]))
    n_sr = n_sR.reshape(state.nspins, -1).copy()
    for setup, relpos_c, D_sii in zip(datasets, state.relpos_ac(), state.D_asii, strict=True):
        of_atom = waves[id(setup)]
        index_p, vector_pv = grid.around(relpos_c @ grid.cell_cv, of_atom.reach)
        added_sp = of_atom.density(D_sii, vector_pv)
        added_sp += of_atom.core_density(np.linalg.norm(vector_pv, axis=1)) / state.nspins
        for n_r, added_p in zip(n_sr, added_sp, strict=True):
            np.add.at(n_r, index_p, added_p)
        if add_missing and not skip_core:
            electrons_s = sqrt(4 * pi) * np.einsum('sij, ij -> s', D_sii, setup.Delta_iiL[:, :, 0])
            electrons_s += of_atom.core_electrons / state.nspins - added_sp.sum(axis=1) * grid.dv
            nearest_c = np.around(grid.size_c * relpos_c).astype(int) % grid.size_c
            n_sr[:, np.ravel_multi_index(nearest_c, grid.shape)] += electrons_s / grid.dv
    return n_sr.reshape(n_sR.shape)


def pseudo_densities(state: PAWDensity, refinement: int) -> np.ndarray:
    """(nspins, n0, n1, n2) with compensation charges, electrons/Å³, on all points of a periodic grid: GPAW's routine.

    ``refinement``: points per interval of the state's grid.
    """
    require_gpaw('the pseudo density of datasets whose compensation charges are no Gaussians')
    n_sR: np.ndarray = densities(state).pseudo_densities(grid_refinement=refinement).data
    return n_sR
