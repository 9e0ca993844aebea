"""ñ itself, on all points of a periodic grid: all of the density where atoms have no density matrices."""

from __future__ import annotations

import numpy as np

from ase_deepdensity.dataset.volumetric import with_boundaries
from ase_deepdensity.geometry import check_grid_memory
from ase_deepdensity.spin import of_spin
from ase_deepdensity.state import PAWDensity


def bare_density(state: PAWDensity, *, spin: int | None = None, gridrefinement: int = 1) -> np.ndarray:
    """ñ of one spin or of both (None), zero boundaries included: (n0, n1, n2) = ``state.grid.size_c``, electrons/Å³.

    Raises
    ------
    ValueError
        Another spin, or a ``gridrefinement`` that is not 1.
    """
    check_spin(state, spin)
    check_refinement(state, gridrefinement)
    if gridrefinement != 1:
        raise ValueError(f'this density has no grid finer than its own: gridrefinement must be 1, not {gridrefinement}')
    return with_boundaries(state.grid, of_spin(state.nt_sR, spin))


def check_spin(state: PAWDensity, spin: int | None) -> None:
    """Raise a ValueError unless the state has this spin component."""
    if spin is not None and not 0 <= spin < state.nspins:
        raise ValueError(f'spin must be None or 0 to {state.nspins - 1}, not {spin}')


def check_refinement(state: PAWDensity, gridrefinement: int) -> None:
    """Raise a ValueError unless this is a number of points per grid interval that the memory can hold."""
    if isinstance(gridrefinement, bool) or not isinstance(gridrefinement, int | np.integer) or gridrefinement < 1:
        raise ValueError(f'gridrefinement must be a whole number from 1 on, not {gridrefinement!r}')
    check_grid_memory(state.grid, refinement=int(gridrefinement))
