"""What is shown of a state: one of its densities, or what this differs by from another."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ase_deepdensity.analysis.quantities import QUANTITIES
from ase_deepdensity.arguments import formula, one_of, shown
from ase_deepdensity.collocation.superposition import superpose
from ase_deepdensity.dataset.volumetric import with_boundaries
from ase_deepdensity.state import PAWDensity

Other = str | PAWDensity | Sequence[PAWDensity] | None
"""What a density is compared with: 'atoms', another state, or the states of fragments."""


def shown_density(state: PAWDensity, quantity: str = 'smooth', difference_to: Other = None) -> np.ndarray:
    """The density to be shown, (n0, n1, n2) = ``state.grid.size_c``, electrons/Å³.

    Parameters
    ----------
    quantity
        'smooth': ñ; 'pseudo': with compensation charges; 'all-electron' (GPAW puts it together); 'spin': ñ of the first
        spin minus ñ of the second.
    difference_to
        What is subtracted.  'atoms': ñ of the isolated, spin-paired, neutral atoms, superposed; a state of the same
        grid; several of them: their sum, as of the fragments of a system, each predicted in the cell of the whole.

    Raises
    ------
    ValueError
        Another word, a density without spin, grids that differ, fragments that are not the whole.
    """
    n_R = _of(state, quantity)
    if difference_to is None:
        return n_R
    if isinstance(difference_to, str):
        if difference_to != 'atoms':
            raise ValueError(f"difference_to must be 'atoms', a state or a list of states, not {difference_to!r}")
        if quantity != 'smooth':
            raise ValueError(f'the difference from atoms is one of smooth densities, not of quantity={quantity!r}')
        return n_R - _of_atoms(state)
    others = [difference_to] if isinstance(difference_to, PAWDensity) else list(difference_to)
    for other in others:
        _check_grid(state, other)
    found = sorted(number for other in others for number in other.atoms.numbers.tolist())
    if len(others) > 1 and found != sorted(state.atoms.numbers.tolist()):
        fragments = ' + '.join(formula(other.atoms) for other in others)
        raise ValueError(f'the fragments {fragments} are not all of {formula(state.atoms)}')
    return n_R - sum(_of(other, quantity) for other in others)


def has_sign(quantity: str, difference_to: Other) -> bool:
    """Is the density to be shown positive here and negative there?"""
    return quantity == 'spin' or difference_to is not None


def _of(state: PAWDensity, quantity: str) -> np.ndarray:
    if quantity == 'spin':
        if state.nspins != 2:
            raise ValueError("quantity='spin' needs a spin-polarised density; this one is spin-paired")
        return with_boundaries(state.grid, state.nt_sR[0] - state.nt_sR[1])
    return QUANTITIES[one_of('quantity', quantity, [*QUANTITIES, 'spin'])][0](state)


def _of_atoms(state: PAWDensity) -> np.ndarray:
    state.check_whole('the difference from atoms')
    tables = {atom_type.number: atom_type.nt for atom_type in state.types()}
    return with_boundaries(state.grid, superpose(state.grid, state.atoms.positions, state.atoms.numbers, tables))


def _check_grid(state: PAWDensity, other: object) -> None:
    if not isinstance(other, PAWDensity):
        raise ValueError(f'a density can be compared with other states only, not with {shown(other)}')
    if names := state.grid.differences(other.grid):
        raise ValueError(
            'two densities can be compared on the same grid only (same cell, gpts=…); these differ in '
            + ', '.join(f'{n}: {getattr(state.grid, n).tolist()}/{getattr(other.grid, n).tolist()}' for n in names)
        )
