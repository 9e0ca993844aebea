"""What a model gains by adapting its last layer to the first one, two, three … snapshots of a compound.

    python docs/benchmarks/adapting.py MODEL DATASET --test 2

The last snapshots are for measuring: NMAE of normalised densities, and RMS error of the atomic matrices' elements.
"""

from __future__ import annotations

import argparse
import time
import warnings
from collections.abc import Sequence

import numpy as np

from ase_deepdensity.analysis.compare import nmae
from ase_deepdensity.dataset import Dataset, Snapshot
from ase_deepdensity.model import DensityModel
from ase_deepdensity.predict import Predictor
from ase_deepdensity.training.adapt import adapt


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument('model')
    parser.add_argument('dataset', nargs='+')
    parser.add_argument('--test', type=int, default=2)
    args = parser.parse_args()
    warnings.simplefilter('ignore')
    model, snapshots = DensityModel.load(args.model), list(Dataset(args.dataset))
    known, test = snapshots[: -args.test], snapshots[-args.test :]
    print_line('before', model, test, 0.0)
    for number in range(1, 1 + len(known)):
        began = time.process_time()
        adapted, report = adapt(model, known[:number])
        seconds = time.process_time() - began
        print_line(f'{number} learned, λ {report.strength}, {report.matrix_strength}', adapted, test, seconds)


def print_line(what: str, model: DensityModel, test: Sequence[Snapshot], seconds: float) -> None:
    predictor, errors, squares = Predictor(model, extrapolate=True), [], []
    for snapshot in test:
        density = predictor.predict(snapshot.atoms, snapshot.density.grid)
        errors.append(nmae(density, snapshot.density))
        pairs = zip(density.D_asii, snapshot.density.D_asii, strict=True)
        squares.append(np.concatenate([((a - b) ** 2).ravel() for a, b in pairs]).mean())
    print(
        f'{what}: NMAE {np.mean(errors):.2f} %, RMS of D {np.mean(squares) ** 0.5:.4f}, {seconds:.1f} s of a processor',
        flush=True,
    )


if __name__ == '__main__':
    main()
