"""How good are a model's error bars?  Expected against true errors of snapshots.

    python docs/benchmarks/error_bars.py MODEL DATASET ...

One line for each snapshot, by error; then the shares within 1 and 2 σ, rank correlations over systems and over atoms
(beside those of the distance alone), how many are within a factor of two, and the time that it takes.
"""

from __future__ import annotations

import sys
import time
import warnings
from dataclasses import dataclass

import numpy as np
from scipy.stats import spearmanr

from ase_deepdensity.analysis.compare import nmae
from ase_deepdensity.analysis.shares import nearest_sums
from ase_deepdensity.dataset import Dataset, Snapshot
from ase_deepdensity.model import DensityModel
from ase_deepdensity.predict import Predictor


@dataclass
class Row:
    """One snapshot."""

    formula: str
    true: float
    """NMAE of ñ, %."""
    expected: float
    """The same."""
    deviations: float
    """ln (true / expected) in units of σ."""
    true_a: np.ndarray
    """(natoms,) error of ñ nearest to each atom, electrons."""
    expected_a: np.ndarray
    """(natoms,)"""
    unfamiliar_a: np.ndarray
    """(natoms,)"""
    seconds: tuple[float, float]
    """Of the prediction, and of the error bar."""


def row(predictor: Predictor, snapshot: Snapshot) -> Row:
    """Measure one snapshot."""
    atoms, reference = snapshot.atoms, snapshot.density
    start = time.process_time()
    coefficients = predictor.coefficients(atoms)
    density = predictor.density(coefficients, reference.grid)
    middle = time.process_time()
    expected = predictor.expected_error(coefficients)
    seconds = middle - start, time.process_time() - middle
    true = nmae(density, reference)
    true_a = nearest_sums(reference.grid, atoms, np.abs(density.nt_sR.sum(0) - reference.nt_sR.sum(0)))
    return Row(
        str(atoms.symbols), true, expected.nmae, float(np.log(true / expected.nmae)) / expected.spread,
        true_a, expected.error_a, coefficients.unfamiliar_a, seconds,
    )  # fmt: skip


def main(model: str, *folders: str) -> None:
    """All snapshots of some folders, with what the model says of them."""
    warnings.simplefilter('ignore')
    predictor = Predictor(DensityModel.load(model), extrapolate=True)
    rows = sorted((row(predictor, snapshot) for snapshot in Dataset(folders)), key=lambda row: row.true)
    print('NMAE, %: true, expected, deviation in σ')
    for r in rows:
        print(f'{r.true:10.3f}{r.expected:10.3f}{r.deviations:8.2f}  {r.formula}')
    true, expected, z = (np.array([getattr(r, name) for r in rows]) for name in ('true', 'expected', 'deviations'))
    distance = [r.unfamiliar_a.mean() for r in rows]
    true_a, expected_a, distance_a = (
        np.concatenate([getattr(r, name) for r in rows]) for name in ('true_a', 'expected_a', 'unfamiliar_a')
    )
    print(f'{len(rows)} snapshots: {np.mean(abs(z) < 1):.0%} within 1 σ, {np.mean(abs(z) < 2):.0%} within 2 σ')
    print(f'median of true / expected: {np.median(true / expected):.2f}')
    print(f'within a factor of two: {np.mean(abs(np.log(true / expected)) < np.log(2)):.0%}')
    print(f'rank correlation over systems: {_rank(expected, true)}, of mean distances {_rank(distance, true)}')
    print(f'rank correlation over atoms: {_rank(expected_a, true_a)}, of distances {_rank(distance_a, true_a)}')
    prediction, bar = np.sum([r.seconds for r in rows], axis=0)
    print(f'CPU time of the error bars: {bar / prediction:.0%} of that of the predictions')


def _rank(x: np.ndarray, y: np.ndarray) -> str:
    return f'{spearmanr(x, y)[0]:.2f}'


if __name__ == '__main__':
    main(*sys.argv[1:])
