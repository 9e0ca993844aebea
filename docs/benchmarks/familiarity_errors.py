"""What a prediction's own signs of trouble say of its error: familiarity, normalisation factor, negative density.

    python docs/benchmarks/familiarity_errors.py MODEL DATASET ...

One line for each snapshot, by error; then the rank correlation, and how many of each range of errors are warned about
and refused.
"""

from __future__ import annotations

import sys
import warnings
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch
from scipy.stats import spearmanr

from ase_deepdensity.analysis.compare import nmae
from ase_deepdensity.checks import MAX_UNFAMILIAR, PredictionError, Tally
from ase_deepdensity.dataset import Dataset, Snapshot
from ase_deepdensity.model import DensityModel
from ase_deepdensity.predict import Predictor

ERRORS = 0, 0.5, 1, 2, 5, np.inf  # %


@dataclass
class Row:
    """One snapshot."""

    formula: str
    error: float
    """NMAE of ñ, %."""
    unfamiliar: float
    factor: float
    negative: float
    refused: bool


def main(name: str, *folders: str) -> None:
    torch.set_num_threads(1)
    model, dataset = DensityModel.load(name), Dataset(list(folders))
    predictor = Predictor(model, level=dataset.level, extrapolate=True)
    rows = sorted((row_of(predictor, snapshot) for snapshot in dataset), key=lambda row: row.error)
    for row in rows:
        print(
            f'{row.formula:20} NMAE {row.error:7.3f} %  familiarity {row.unfamiliar:8.2f}  factor {row.factor:7.4f}  '
            f'negative {row.negative:7.1e}  {"refused" if row.refused else ""}'
        )
    correlation = spearmanr([row.error for row in rows], [row.unfamiliar for row in rows])[0]
    print(f'rank correlation of error and familiarity: {correlation:.2f}')
    for low, high in pairwise(ERRORS):
        some = [row for row in rows if low <= row.error < high]
        warned = sum(row.unfamiliar > MAX_UNFAMILIAR or row.refused for row in some)
        print(
            f'{low} to {high} %: {len(some)} snapshots, {warned} warned about, {sum(r.refused for r in some)} refused'
        )


def row_of(predictor: Predictor, snapshot: Snapshot) -> Row:
    """The error of one prediction, and its signs."""
    reference = snapshot.density
    with warnings.catch_warnings(action='ignore'):
        known = predictor.coefficients(snapshot.atoms)
        tally = Tally.of(predictor.evaluate(known, reference.grid), reference.grid)
        electrons = predictor.electrons(known)
        error = nmae(predictor.density(known, reference.grid), reference)
    try:
        predictor.predict(snapshot.atoms, reference.grid, extrapolate=False)
        refused = False
    except PredictionError:
        refused = True
    factor, negative = electrons / tally.integral, tally.negative / electrons
    formula = snapshot.atoms.get_chemical_formula()
    return Row(formula, error, float(known.unfamiliar_a.max()), factor, negative, refused)


if __name__ == '__main__':
    main(*sys.argv[1:])
