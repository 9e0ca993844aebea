"""How well a model reproduces the snapshots of a data set."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from ase import Atoms

from ase_deepdensity.analysis.compare import Comparison, compare, element_spreads, epsilon_D
from ase_deepdensity.dataset import Snapshot
from ase_deepdensity.grid import Grid
from ase_deepdensity.model import DensityModel
from ase_deepdensity.state import PAWDensity

Predict = Callable[[Atoms, Grid], PAWDensity]
"""For example :meth:`ase_deepdensity.predict.Predictor.predict`."""


@dataclass(frozen=True)
class Scores:
    """One predicted snapshot against its reference."""

    name: str
    """Of the snapshot."""
    natoms: int
    """Number of its atoms."""
    comparison: Comparison
    """All errors."""
    electrons: float
    """Valence electrons of the prediction."""
    seconds: float
    """Wall time of the prediction, network and grid."""

    def to_dict(self) -> dict[str, Any]:
        """Flat, with JSON's types; nan becomes None."""
        flat = {key: value for key, value in asdict(self).items() if key != 'comparison'}
        flat |= {key: value for key, value in asdict(self.comparison).items() if key != 'matrix_squares'}
        flat['epsilon_D'] = {symbol: _or_none(value) for symbol, value in self.comparison.epsilon_D.items()}
        return flat


def score(
    predict: Predict,
    snapshot: Snapshot,
    means: Mapping[int, np.ndarray] | None = None,
    name: str = '',
    spreads: Mapping[int, float] | None = None,
) -> Scores:
    """Predict the atoms of a snapshot on its grid and compare.

    ``means``, ``spreads``: see :func:`.density_matrix_error`; those of a whole data set make the snapshots comparable.
    """
    reference = snapshot.density
    start = time.perf_counter()
    state = predict(snapshot.atoms, reference.grid)
    seconds = time.perf_counter() - start
    comparison = compare(state, reference, means, spreads)
    return Scores(name, len(snapshot.atoms), comparison, state.number_of_electrons(), seconds)


def model_means(model: DensityModel) -> dict[int, np.ndarray]:
    """(1, ni, ni) mean density matrix of each element in a model's training data, by atomic number: ε_D = 1.

    It is the rotation-invariant part of the mean over all atoms of the element.
    """
    return {Z: mean_ii.double().cpu().numpy()[np.newaxis] for Z, mean_ii in model.network.mean_zii.items()}


def reference_spreads(snapshots: Iterable[Snapshot], means: Mapping[int, np.ndarray]) -> dict[int, float]:
    """Mean square of what distinguishes the atoms of a data set from ``means``, see :func:`.element_spreads`."""
    return element_spreads((snapshot.density for snapshot in snapshots), means)


def mean_scores(scores: Sequence[Scores]) -> dict[str, Any]:
    """Means over snapshots; ε_D is that of all snapshots together (None: not defined).

    The error of the magnetisation is the mean over those that have one, None if there are none.
    """
    squares: dict[str, tuple[float, float]] = {}
    for row in scores:
        for symbol, (error2, spread2) in row.comparison.matrix_squares.items():
            before = squares.get(symbol, (0.0, 0.0))
            squares[symbol] = before[0] + error2, before[1] + spread2

    magnetic = [error for row in scores if (error := row.comparison.magnetisation_nmae) is not None]

    def mean(values: Iterable[float]) -> float:
        return float(np.mean(list(values)))

    return {
        'snapshots': len(scores),
        'nmae': mean(row.comparison.nmae for row in scores),
        'epsilon_D': {symbol: _or_none(value) for symbol, value in epsilon_D(squares).items()},
        'dipole_error': mean(row.comparison.dipole_error for row in scores),
        'magnetisation_nmae': mean(magnetic) if magnetic else None,
        'electron_error': mean(abs(row.comparison.electron_error) for row in scores),
        'seconds': mean(row.seconds for row in scores),
    }


def _or_none(value: float) -> float | None:
    return value if np.isfinite(value) else None
