"""What more data would bring: how the error of a model falls with snapshots, and which atoms are new to it.

The learning curve is that of the last layer in closed form (:mod:`.adapt`): it is fitted to growing parts of the data
and measured on the rest, several times with other parts.  The network below it stays as it is.  A fine-tuning changes
that, too, and gains more: the curve is what the data are worth at least.  To it a power law is fitted,

    E(n) = c n^(−b)                (J. Hestness et al., arXiv:1712.00409)

by least squares of the logarithms.  Its uncertainty is the spread of laws of each repetition alone, and what the law
changes without the smallest size: curves bend.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from ase import Atoms
from ase.data import chemical_symbols

from ase_deepdensity.checks import MAX_UNFAMILIAR
from ase_deepdensity.collocation.density import DensityEvaluator
from ase_deepdensity.model import DensityModel
from ase_deepdensity.predict import Predictor
from ase_deepdensity.snapshot import Snapshot
from ase_deepdensity.training.adapt import STRENGTHS, AdaptError, DensityFit, Lesson, check, lesson_of

LEAST, MOST = 4, 24
"""Snapshots that a learning curve needs, and that are looked at, evenly taken from more."""
REPETITIONS = 3
"""Times that other snapshots are left out."""
STRIDE = 2
"""Each lesson sees every second grid point along each axis: the curve is needed to some percent only."""
DIRECTIONS = 20
"""In the space of changes, for each fit."""
AHEAD = 2, 4, 8
"""As many times the snapshots at hand are looked ahead to."""
FLAT = 0.02
"""An exponent below this is none: more snapshots would bring nothing that can be seen."""


@dataclass(frozen=True)
class LearningCurve:
    """Errors on snapshots that were left out, NMAE in % of densities that are not normalised."""

    before: float
    """Of the model as it is."""
    sizes: list[int]
    """Snapshots that the last layer was fitted to."""
    errors: list[float]
    """Mean over repetitions."""
    repetitions: list[list[float]]
    """The same of each repetition."""

    @property
    def power_law(self) -> tuple[float, float]:
        """c (%) and b."""
        return _power_law(self.sizes, self.errors)

    @property
    def is_flat(self) -> bool:
        """Would more snapshots bring nothing that can be seen?"""
        return self.power_law[1] < FLAT

    def expected(self, number: int) -> tuple[float, float]:
        """Error (%) to expect of so many snapshots, and its uncertainty: among repetitions and of the law itself."""
        spread = float(np.std([_at(number, self.sizes, errors) for errors in self.repetitions]))
        error = _at(number, self.sizes, self.errors)
        bend = error - _at(number, self.sizes[1:], self.errors[1:]) if len(self.sizes) > 2 else 0.0
        return error, float(np.hypot(spread, bend))

    def number_for(self, error: float) -> float:
        """Snapshots at which an error (%) is expected; infinite if never."""
        c, b = self.power_law
        return float('inf') if self.is_flat else float((c / error) ** (1 / b))


@dataclass(frozen=True)
class Environments:
    """How far the atoms of an element are from what the model was trained on; 1: as most of that from the rest."""

    symbol: str
    atoms: int
    median: float
    largest: float
    unfamiliar: int
    """Atoms above the distance that predictions warn of."""
    worst: tuple[int, int]
    """The snapshot and the atom of the largest distance."""


@dataclass(frozen=True)
class Advice:
    """Of a model and a data set."""

    curve: LearningCurve
    environments: list[Environments]
    snapshots: int
    """In the data set."""

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        c, b = self.curve.power_law
        ahead = [
            {'snapshots': n, 'NMAE, %': self.curve.expected(n)[0], 'uncertainty, %': self.curve.expected(n)[1]}
            for n in self.numbers_ahead
        ]
        return {
            'curve': asdict(self.curve),
            'power law': {'c, %': c, 'exponent': -b},
            'expected': ahead,
            'environments': [asdict(row) for row in self.environments],
        }

    @property
    def numbers_ahead(self) -> list[int]:
        """Numbers of snapshots to look ahead to."""
        return [times * max(self.curve.sizes) for times in AHEAD]


def advise(
    model: DensityModel, snapshots: Sequence[Snapshot], progress: Callable[[int, int], object] = lambda done, of: None
) -> Advice:
    """What a model would learn from a data set and from more of it, and what is new to it there.

    Snapshots that the model was trained on tell nothing of others: take new ones.

    Parameters
    ----------
    progress
        Is told how many of how many steps are done.

    Raises
    ------
    AdaptError
        Fewer than :data:`LEAST` snapshots; those that the model cannot be adapted to, see :func:`.adapt`.
    """
    if len(snapshots) < LEAST:
        raise AdaptError(f'a learning curve needs {LEAST} snapshots or more, not {len(snapshots)}')
    chosen = np.unique(np.linspace(0, len(snapshots) - 1, min(MOST, len(snapshots))).round().astype(int))
    some = [snapshots[int(t)] for t in chosen]
    check(model, some)
    sizes = sizes_of(len(some))
    steps = len(some) + REPETITIONS * len(sizes)
    lessons = list[Lesson]()
    for t, snapshot in zip(chosen, some, strict=True):
        lessons.append(lesson_of(model, snapshot.density, f'snapshot {t}', STRIDE))
        progress(len(lessons), steps)
    curve = learning_curve(model, lessons, sizes, lambda n: progress(len(some) + n, steps))
    return Advice(curve, environments(model, [snapshot.atoms for snapshot in some], chosen.tolist()), len(snapshots))


def sizes_of(number: int) -> list[int]:
    """Of the parts of so many snapshots that are fitted to: 1, 2, 4 … and all that are not left out."""
    most = number - left_out_of(number)
    return sorted({2**power for power in range(most.bit_length()) if 2**power <= most} | {most})


def left_out_of(number: int) -> int:
    """How many of so many snapshots are left out to measure on."""
    return max(1, number // REPETITIONS)


@torch.no_grad()
def learning_curve(
    model: DensityModel,
    lessons: Sequence[Lesson],
    sizes: Sequence[int],
    progress: Callable[[int], object] = lambda n: None,
    seed: int = 0,
) -> LearningCurve:
    """Errors on a third of the lessons after a fit to parts of the others, in random order; each third in turn.

    The strength of the ridge is for each size the one that serves all that is left out best; the last of them is so
    strong that nothing changes, as :func:`.adapt` leaves a model that would not gain.
    """
    fit = DensityFit(model.network.last_layer(), DensityEvaluator(model.architecture.basis), lessons)
    order = np.random.default_rng(seed).permutation(len(lessons))
    count = left_out_of(len(lessons))
    error_rns = np.zeros((REPETITIONS, len(sizes), len(STRENGTHS) + 1))
    for r in range(REPETITIONS):
        left_out, rest = order[r * count : (r + 1) * count], np.roll(order, -r * count)[count:]
        for n, size in enumerate(sizes):
            krylov = fit.krylov([lessons[t] for t in rest[:size]], DIRECTIONS)
            y_si = torch.nn.functional.pad(krylov.coefficients(STRENGTHS).float(), (0, 0, 0, 1))
            for t in left_out:
                change_sp = y_si @ fit.density(lessons[t], krylov.v_ix)
                error_s = (lessons[t].error_p - change_sp).abs().sum(1) * lessons[t].weight
                error_rns[r, n] += error_s.numpy() / count
            progress(r * len(sizes) + n + 1)
    best_n = error_rns.mean(0).argmin(1)
    error_rn = error_rns[:, np.arange(len(sizes)), best_n]
    measured = [lessons[t] for t in order[: REPETITIONS * count]]
    return LearningCurve(fit.error(measured, None), list(sizes), error_rn.mean(0).tolist(), error_rn.tolist())


def environments(model: DensityModel, frames: Sequence[Atoms], names: Sequence[int]) -> list[Environments]:
    """For each element how far its atoms are from the training data; ``names``: the numbers of the frames."""
    predictor = Predictor(model, extrapolate=True)
    of_element: dict[int, list[tuple[float, int, int]]] = {}
    for t, atoms in zip(names, frames, strict=True):
        for a, distance in enumerate(predictor.unfamiliar(atoms)):
            of_element.setdefault(int(atoms.numbers[a]), []).append((float(distance), t, a))
    rows = []
    for Z, found in sorted(of_element.items()):
        distances = [distance for distance, _, _ in found]
        _, t, a = max(found)
        unfamiliar = sum(distance > MAX_UNFAMILIAR for distance in distances)
        rows.append(
            Environments(
                chemical_symbols[Z], len(found), float(np.median(distances)), max(distances), unfamiliar, (t, a)
            )
        )
    return rows


def _at(number: int, sizes: Sequence[int], errors: Sequence[float]) -> float:
    c, b = _power_law(sizes, errors)
    return c * float(number) ** -b


def _power_law(sizes: Sequence[int], errors: Sequence[float]) -> tuple[float, float]:
    """c and b ≥ 0 of c n^(−b)."""
    slope, intercept = np.polyfit(np.log(sizes), np.log(errors), 1)
    if slope >= 0:
        return float(np.exp(np.mean(np.log(errors)))), 0.0
    return float(np.exp(intercept)), -float(slope)
