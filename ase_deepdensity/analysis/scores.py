"""How well a model reproduces the snapshots of a data set."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from ase import Atoms

from ase_deepdensity.analysis.compare import Comparison, compare, element_means
from ase_deepdensity.dataset import Snapshot
from ase_deepdensity.grid import Grid
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
        flat |= asdict(self.comparison)
        flat['epsilon_D'] = {symbol: _or_none(value) for symbol, value in self.comparison.epsilon_D.items()}
        return flat


def score(
    predict: Predict, snapshot: Snapshot, means: Mapping[int, np.ndarray] | None = None, name: str = ''
) -> Scores:
    """Predict the atoms of a snapshot on its grid and compare.

    ``means``: (nspins, ni, ni) by atomic number, see :func:`.density_matrix_error`.
    """
    reference = snapshot.density
    start = time.perf_counter()
    state = predict(snapshot.atoms, reference.grid)
    seconds = time.perf_counter() - start
    comparison = compare(state, reference, means)
    return Scores(name, len(snapshot.atoms), comparison, state.number_of_electrons(), seconds)


def reference_means(snapshots: Iterable[Snapshot]) -> dict[int, np.ndarray]:
    """(nspins, ni, ni) mean density matrix of each element over a data set: the model with ε_D = 1."""
    return element_means(snapshot.density for snapshot in snapshots)  # type: ignore[arg-type]


def mean_scores(scores: Sequence[Scores]) -> dict[str, Any]:
    """Means over snapshots; those of ε_D leave out snapshots where it is not defined (None: all of them)."""
    symbols = list(dict.fromkeys(symbol for row in scores for symbol in row.comparison.epsilon_D))
    symbols.sort(key='total'.__eq__)

    def mean(values: Iterable[float]) -> float | None:
        array = np.array(list(values))
        finite = array[np.isfinite(array)]
        return float(finite.mean()) if len(finite) else None

    return {
        'snapshots': len(scores),
        'nmae': mean(row.comparison.nmae for row in scores),
        'epsilon_D': {
            symbol: mean(row.comparison.epsilon_D.get(symbol, np.nan) for row in scores) for symbol in symbols
        },
        'dipole_error': mean(row.comparison.dipole_error for row in scores),
        'electron_error': mean(abs(row.comparison.electron_error) for row in scores),
        'seconds': mean(row.seconds for row in scores),
    }


def _or_none(value: float) -> float | None:
    return value if np.isfinite(value) else None
