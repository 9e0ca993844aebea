"""What no density can be predicted for, and what a model should not be trusted with: found before any work."""

from __future__ import annotations

import warnings

import numpy as np
import vesin
from ase import Atoms
from ase.data import chemical_symbols, covalent_radii

from ase_deepdensity.grid import Grid
from ase_deepdensity.model import DensityModel

MAX_SPACING = 0.4
"""Å: a coarser grid cannot hold a pseudo density (GPAW's usual ones are 0.15 to 0.2 Å)."""
MAX_UNFAMILIAR = 1.3
"""Distance from the training data, in units of their distance from each other, above which to warn.

New snapshots of the liquid that a model was trained on come to 1.2.
"""


class PredictionError(ValueError):
    """Atoms or a grid that no density can be predicted for."""


class UnfamiliarWarning(UserWarning):
    """Atoms whose environments are unlike those that the model was trained on."""


class DoubtfulPassWarning(UserWarning):
    """One pass of GPAW at a prediction whose residual is larger than for atoms that the model knows."""


def check_atoms(atoms: Atoms, model: DensityModel) -> None:
    """Refuse what cannot be predicted, before any work.

    Raises
    ------
    PredictionError
        No atoms, positions or cell that are not finite, a flat cell, unknown elements, magnetic moments,
        overlapping atoms, atoms outside the cell along an axis that is not periodic.
    """
    if len(atoms) == 0:
        raise PredictionError('there are no atoms')
    if not np.isfinite(atoms.positions).all():
        bad = np.flatnonzero(~np.isfinite(atoms.positions).all(1)).tolist()
        raise PredictionError(f'the positions of atoms {bad[:10]} are not finite')
    if not np.isfinite(atoms.cell.array).all() or atoms.cell.rank < 3 or atoms.cell.volume < 1e-3:
        raise PredictionError(
            f'a cell of three independent lattice vectors is needed, not {atoms.cell.array.tolist()}; '
            'put a molecule into a box with atoms.center(vacuum=4)'
        )
    unknown = sorted({chemical_symbols[number] for number in set(atoms.numbers.tolist()) - set(model.species)})
    if unknown:
        raise PredictionError(
            f'the model {model.name} does not know {", ".join(unknown)}; it was trained on {", ".join(model.symbols)}'
        )
    if atoms.get_initial_magnetic_moments().any():
        raise PredictionError(
            f'the model {model.name} is spin-paired, but the atoms have initial magnetic moments; '
            'remove them with atoms.set_initial_magnetic_moments(None)'
        )
    _check_overlap(atoms)
    outside_ac = (atoms.get_scaled_positions(wrap=False) < 0) | (atoms.get_scaled_positions(wrap=False) > 1)
    if (outside_ac & ~atoms.pbc).any():
        bad = np.flatnonzero((outside_ac & ~atoms.pbc).any(1)).tolist()
        raise PredictionError(f'atoms {bad[:10]} are outside the cell along an axis that is not periodic')


def _check_overlap(atoms: Atoms) -> None:
    """No two atoms nearer than half the sum of their covalent radii."""
    radius_a = covalent_radii[atoms.numbers] / 2
    i_e, j_e, d_e = vesin.NeighborList(cutoff=float(2 * radius_a.max()) + 1e-6, full_list=False).compute(
        atoms.positions, atoms.cell.array, atoms.pbc, 'ijd'
    )
    near_e = d_e < radius_a[i_e] + radius_a[j_e]
    if near_e.any():
        e = int(np.flatnonzero(near_e)[0])
        i, j = int(i_e[e]), int(j_e[e])
        raise PredictionError(
            f'atoms {i} ({atoms.symbols[i]}) and {j} ({atoms.symbols[j]}) overlap: they are {d_e[e]:.3f} Å apart'
        )


def check_grid(grid: Grid, atoms: Atoms) -> None:
    """Refuse a grid of another cell or other boundary conditions, and one that is too coarse for a pseudo density.

    A single point along an axis, as chains have it, has no spacing.
    """
    if not np.allclose(grid.cell_cv, atoms.cell.array, rtol=0, atol=1e-8) or (grid.pbc_c != atoms.pbc).any():
        raise PredictionError(
            f'the grid belongs to the cell {grid.cell_cv.tolist()} with pbc {grid.pbc_c.tolist()}, '
            f'the atoms to {atoms.cell.array.tolist()} with pbc {atoms.pbc.tolist()}'
        )
    spacing = max((h for h, n in zip(grid.spacing_c, grid.shape, strict=True) if n > 1), default=0.0)
    if spacing > MAX_SPACING:
        raise PredictionError(
            f'the grid {grid.size_c.tolist()} is too coarse: its spacing is {spacing:.2f} Å, '
            f'at most {MAX_SPACING} Å is allowed'
        )


def warn_unfamiliar(atoms: Atoms, unfamiliar_a: np.ndarray, model: DensityModel) -> bool:
    """Warn of atoms whose distance from the training data is above :data:`MAX_UNFAMILIAR`; whether there are any."""
    strange = np.flatnonzero(unfamiliar_a > MAX_UNFAMILIAR)
    if len(strange):
        worst = int(unfamiliar_a.argmax())
        warnings.warn(
            f'{len(strange)} of {len(atoms)} atoms have environments unlike the training data of {model.name} '
            f'(worst: atom {worst}, {atoms.symbols[worst]}, {unfamiliar_a[worst]:.1f} times as far as these are '
            'from each other); '
            'the density there may be wrong',
            UnfamiliarWarning,
            stacklevel=4,
        )
    return len(strange) > 0
