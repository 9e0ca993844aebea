"""What no density can be predicted for, and what a model should not be trusted with: found before any work."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
from ase import Atoms
from ase.data import chemical_symbols
from ase.geometry import get_distances

from ase_deepdensity.geometry import GeometryError, atoms_outside, check_geometry, check_grid_memory, total_charge
from ase_deepdensity.grid import Grid
from ase_deepdensity.memory import TooLargeError
from ase_deepdensity.model import DensityModel

MAX_SPACING = 0.4
"""Å: a coarser grid cannot hold a pseudo density (GPAW's usual ones are 0.15 to 0.2 Å)."""
CHARGE = 1e-3
"""|e|: charges that differ by less are the same."""
MAX_UNFAMILIAR = 2.4
"""Distance from the training data, in units of what most of them stay below, above which to warn."""
MAX_STRANGE = 300.0
"""The same, above which a prediction means nothing unless what is usual for the element takes its place."""
FACTORS = 0.9, 1.1
"""What ñ may be multiplied with, at least and at most, to have the right number of electrons."""
MAX_NEGATIVE = 1e-3
"""Electrons that may be missing where ñ is below zero, in units of all electrons of ñ.

These limits are from measurements, see "What a prediction is worth" in docs/benchmarks.md.
"""

AGAIN_DISTANCE, AGAIN_FACTOR = 1.0, 1.2
"""Å and ratio: the same atoms are warned about again once one has moved, or the worst has become worse, by more."""


class PredictionError(ValueError):
    """Atoms or a grid that no density can be predicted for."""


class UnfamiliarWarning(UserWarning):
    """Atoms whose environments are unlike those that the model was trained on."""


class DoubtfulPassWarning(UserWarning):
    """One pass of GPAW at a prediction whose residual is larger than for atoms that the model knows."""


@contextmanager
def warning_instead(extrapolate: bool) -> Iterator[None]:
    """Where extrapolation is wanted, a prediction that means nothing is a warning, not an error."""
    try:
        yield
    except PredictionError as error:
        if not extrapolate:
            raise
        warnings.warn(str(error).removesuffix(ALL_THE_SAME), UnfamiliarWarning, stacklevel=4)


@contextmanager
def as_prediction_error() -> Iterator[None]:
    """What is wrong with any geometry or too large for any work is so for a prediction."""
    try:
        yield
    except (GeometryError, TooLargeError) as error:
        raise PredictionError(str(error)) from None


def check_atoms(atoms: Atoms, model: DensityModel) -> None:
    """Refuse what cannot be predicted, before any work.

    Raises
    ------
    PredictionError
        What :func:`.check_geometry` refuses, unknown elements, atoms outside the cell along an axis that is not
        periodic; another charge than the model's and magnetic moments, unless its network is told about them.
    """
    with as_prediction_error():
        check_geometry(atoms)
        charge = total_charge(atoms)
    unknown = sorted({chemical_symbols[number] for number in set(atoms.numbers.tolist()) - set(model.species)})
    if unknown:
        raise PredictionError(
            f'the model {model.name} does not know {", ".join(unknown)}; it was trained on {", ".join(model.symbols)}'
        )
    if atoms.get_initial_magnetic_moments().any() and not model.network.sees_magnetic_moments:
        raise PredictionError(
            f'the model {model.name} is spin-paired, but the atoms have initial magnetic moments; '
            'remove them with atoms.set_initial_magnetic_moments(None)'
        )
    if abs(charge - model.charge) > CHARGE and not model.network.sees_charge:
        raise PredictionError(
            f'the model {model.name} predicts at a total charge of {model.charge:g} |e|, but the atoms have '
            f"{charge:g}; see atoms.info['charge'] and atoms.get_initial_charges()"
        )
    if bad := atoms_outside(atoms):
        raise PredictionError(f'atoms {bad[:10]} are outside the cell along an axis that is not periodic')


def check_grid(grid: Grid, atoms: Atoms) -> None:
    """Refuse a grid of another cell or other boundary conditions, and one that is too coarse for a pseudo density.

    Along two axes there may be a single point, as chains have it.
    """
    if not np.allclose(grid.cell_cv, atoms.cell.array, rtol=0, atol=1e-8) or (grid.pbc_c != atoms.pbc).any():
        raise PredictionError(
            f'the grid belongs to the cell {grid.cell_cv.tolist()} with pbc {grid.pbc_c.tolist()}, '
            f'the atoms to {atoms.cell.array.tolist()} with pbc {atoms.pbc.tolist()}'
        )
    spacing = max((h for h, n in zip(grid.spacing_c, grid.shape, strict=True) if n != 1), default=grid.spacing_c.max())
    if spacing > MAX_SPACING:
        raise PredictionError(
            f'the grid {grid.size_c.tolist()} is too coarse: its spacing is {spacing:.2f} Å, '
            f'at most {MAX_SPACING} Å is allowed'
        )


def check_size(grid: Grid, max_points: int | None = None) -> None:
    """Refuse a grid that the memory cannot hold, of which ``max_points`` are needed at a time (default: all)."""
    with as_prediction_error():
        check_grid_memory(grid, max_points=max_points)


@dataclass(frozen=True)
class Tally:
    """What a density on a grid, as a network says it, comes to; those of the blocks of a grid add up."""

    integral: float
    """∫ ñ, electrons."""
    negative: float
    """−∫ min(ñ, 0), electrons."""
    lowest: float
    """The smallest ñ, electrons/Å³."""
    place_v: np.ndarray
    """(3,) where that is, Å."""

    @classmethod
    def of(cls, nt_R: np.ndarray, grid: Grid) -> Tally:
        """Of ñ (n0, n1, n2) on a grid or a block of one, electrons/Å³."""
        index_c = np.unravel_index(int(nt_R.argmin()), nt_R.shape) if nt_R.size else (0, 0, 0)
        lowest = float(nt_R[index_c]) if nt_R.size else np.inf
        negative = float(-np.minimum(nt_R, 0).sum()) if lowest < 0 else 0.0
        place_v = (grid.start_c + index_c) @ grid.step_cv
        return cls(float(nt_R.sum()) * grid.dv, negative * grid.dv, lowest, place_v)

    def is_too_negative(self, electrons: float) -> bool:
        """Is more of ñ below zero than :data:`MAX_NEGATIVE` of so many electrons?"""
        return self.negative > MAX_NEGATIVE * abs(electrons)

    def __add__(self, other: Tally) -> Tally:
        lower = min(self, other, key=lambda tally: tally.lowest)
        return Tally(self.integral + other.integral, self.negative + other.negative, lower.lowest, lower.place_v)


def check_finite(atoms: Atoms, finite_a: np.ndarray, model: DensityModel) -> None:
    """Refuse a network's output that is not finite; ``finite_a`` (natoms,) says of which atoms it is."""
    if not finite_a.all():
        raise PredictionError(
            f'{model.name} overflows: what it says of {_some_atoms(atoms, np.flatnonzero(~finite_a))} is not finite; '
            'their environments are too far from its training data'
        )


def check_density(atoms: Atoms, tally: Tally, electrons: float, unfamiliar_a: np.ndarray, model: DensityModel) -> None:
    """Refuse a pseudo density that means nothing.

    Parameters
    ----------
    tally
        Of ñ as the network says it, on the whole grid.
    electrons
        What ∫ñ must be, see :meth:`.Predictor.electrons`.
    unfamiliar_a
        (natoms,) distances from the training data, to name the atoms to look at.

    Raises
    ------
    PredictionError
        ñ would have to be multiplied with a factor outside of :data:`FACTORS`, or too much of it is below zero.
    """
    reasons = []
    strangest = _some_atoms(atoms, np.argsort(-unfamiliar_a))
    factor = electrons / tally.integral if tally.integral else np.inf
    if not FACTORS[0] <= factor <= FACTORS[1]:
        reasons.append(
            f'ñ holds {tally.integral:.4g} electrons where the matrices want {electrons:.4g}, a factor of '
            f'{factor:.3g} ({FACTORS[0]} to {FACTORS[1]} is allowed); the strangest are {strangest}'
        )
    if tally.is_too_negative(electrons):
        nearest = _nearest(atoms, tally.place_v)
        reasons.append(
            f'{tally.negative / abs(electrons):.2g} of its electrons are below zero (at most {MAX_NEGATIVE:g}), '
            f'down to {tally.lowest:.3g} electrons/Å³ near {_some_atoms(atoms, [nearest])}'
        )
    if reasons:
        raise PredictionError(f'{NOTHING.format(model=model.name)}: {"; ".join(reasons)}{ALL_THE_SAME}')


def check_environments(atoms: Atoms, unfamiliar_a: np.ndarray, model: DensityModel) -> None:
    """Refuse atoms whose distance from the training data is above :data:`MAX_STRANGE`."""
    strange = np.flatnonzero(~(unfamiliar_a <= MAX_STRANGE))
    if len(strange):
        worst = int(unfamiliar_a.argmax())
        raise PredictionError(
            f'{NOTHING.format(model=model.name)}: {_some_atoms(atoms, strange)} have environments that are up to '
            f'{unfamiliar_a[worst]:.3g} times as far from the training data as most of these are from the rest '
            f'(at most {MAX_STRANGE:g}){ALL_THE_SAME}'
        )


NOTHING, ALL_THE_SAME = (
    'what {model} predicts of these atoms means nothing',
    '. With extrapolate=True (--extrapolate) it is passed on all the same',
)


def _some_atoms(atoms: Atoms, which: Iterable[int], most: int = 5) -> str:
    """'atom 3 (O)', 'atoms 3 (O), 4 (H)'; the first few of many."""
    names = [f'{a} ({atoms.symbols[a]})' for a in which]
    return ('atom ' if len(names) == 1 else 'atoms ') + ', '.join(names[:most]) + (', …' if len(names) > most else '')


def _nearest(atoms: Atoms, place_v: np.ndarray) -> int:
    """The atom that is nearest to a place (Å), images counted."""
    distance_a = get_distances(place_v, atoms.positions, cell=atoms.cell, pbc=atoms.pbc)[1][0]
    return int(distance_a.argmin())


def warn_unfamiliar(atoms: Atoms, unfamiliar_a: np.ndarray, model: DensityModel, replaced: bool) -> bool:
    """Warn of atoms whose distance (natoms,) from the training data is above :data:`MAX_UNFAMILIAR`; are there any?

    ``replaced``: what the model says of the worst of them gives way to what is usual for its element.
    """
    strange = np.flatnonzero(unfamiliar_a > MAX_UNFAMILIAR)
    if len(strange):
        worst = int(unfamiliar_a.argmax())
        taken = 'what is usual for its element takes the place of what the model says, and ' if replaced else ''
        warnings.warn(
            f'{len(strange)} of {len(atoms)} atoms have environments unlike the training data of {model.name} '
            f'(worst: atom {worst}, {atoms.symbols[worst]}, {unfamiliar_a[worst]:.1f} times as far from '
            f'it as most of it is from the rest); {taken}the density there may be wrong',
            UnfamiliarWarning,
            stacklevel=4,
        )
    return len(strange) > 0


def warrants_another_warning(atoms: Atoms, worst: float, warned_of: Atoms, worst_before: float) -> bool:
    """Whether this is more than the next step of a trajectory that has been warned about."""
    if not np.array_equal(atoms.numbers, warned_of.numbers) or worst > AGAIN_FACTOR * worst_before:
        return True
    return bool(np.linalg.norm(atoms.positions - warned_of.positions, axis=1).max() > AGAIN_DISTANCE)
