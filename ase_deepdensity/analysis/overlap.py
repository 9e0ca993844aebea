"""Overlap of two densities in the same cell."""

from __future__ import annotations

import numpy as np

from ase_deepdensity.analysis.shares import fine_density
from ase_deepdensity.state import PAWDensity

TOO_CLOSE = 0.5
"""Å: nuclei of two densities that are closer have cusps in the same place, which no uniform grid integrates."""


def density_overlap(state: PAWDensity, other: PAWDensity, *, gridrefinement: int = 2) -> float:
    """∫ n_A n_B dr of two all-electron densities, electrons²/Å³, such as those of two molecules.

    A measure of the repulsion between closed shells.

    Parameters
    ----------
    state, other
        On the same grid; with other atoms in other places.
    gridrefinement
        Points per interval of that grid.

    Raises
    ------
    ValueError
        Different grids, or nuclei of both closer than :data:`TOO_CLOSE`.
    MissingGPAWError
        Without GPAW.
    """
    _check_grids(state, other)
    _check_nuclei(state, other)
    grid, n_R = fine_density(state, gridrefinement)
    return float(np.vdot(n_R, fine_density(other, gridrefinement)[1])) * grid.dv


def similarity(state: PAWDensity, other: PAWDensity) -> float:
    """Similarity index ∫ ñ_A ñ_B dr / √(∫ ñ_A² dr ∫ ñ_B² dr), 0 to 1 (doi:10.1002/qua.560170612).

    Of the smooth densities, which a grid integrates without error: cusps and cores, which nothing moves, are left out.

    Raises
    ------
    ValueError
        Different grids.
    """
    _check_grids(state, other)
    nt_R, other_R = state.nt_sR.sum(axis=0), other.nt_sR.sum(axis=0)
    return float(np.vdot(nt_R, other_R) / (np.linalg.norm(nt_R) * np.linalg.norm(other_R)))


def _check_grids(state: PAWDensity, other: PAWDensity) -> None:
    if names := state.grid.differences(other.grid):
        raise ValueError(
            'two densities overlap on the same grid only; these differ in '
            + ', '.join(
                f'{name} ({getattr(state.grid, name).tolist()} and {getattr(other.grid, name).tolist()})'
                for name in names
            )
        )


def nearest_nuclei(state: PAWDensity, other: PAWDensity) -> tuple[float, int, int]:
    """Distance (Å) of the two atoms that are nearest, one of each density, images included, and which these are."""
    relpos_abc = state.relpos_ac()[:, np.newaxis] - other.relpos_ac()
    relpos_abc -= np.where(state.grid.pbc_c, relpos_abc.round(), 0.0)
    distance_ab = np.linalg.norm(relpos_abc @ state.grid.cell_cv, axis=-1)
    a, b = np.unravel_index(distance_ab.argmin(), distance_ab.shape)
    return float(distance_ab[a, b]), int(a), int(b)


def _check_nuclei(state: PAWDensity, other: PAWDensity) -> None:
    """Refuse nuclei in the same place."""
    distance, a, b = nearest_nuclei(state, other)
    if distance < TOO_CLOSE:
        raise ValueError(
            f'atom {a} ({state.atoms.symbols[a]}) of one density is {distance:.2f} Å from atom {b} '
            f'({other.atoms.symbols[b]}) of the other, and must be {TOO_CLOSE} Å away: use similarity(…), of ñ'
        )
