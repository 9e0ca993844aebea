"""The derivative of a prediction against numerical differences.

python docs/benchmarks/derivative.py [MODEL]

Σ v ñ dv + Σ W·D of one molecule of water, v and W at random; differences of fourth order in float64.
"""

from __future__ import annotations

import sys
import warnings

import numpy as np
import torch
from ase import Atoms
from ase.build import molecule

from ase_deepdensity.model import DensityModel
from ase_deepdensity.predict import Predictor

STEP = 0.003
"""Å."""
WEIGHTS = {-2: 1 / 12, -1: -8 / 12, 1: 8 / 12, 2: -1 / 12}


def main(name: str) -> None:
    atoms = molecule('H2O', vacuum=2.5, pbc=True)
    atoms.rattle(0.03, seed=1)
    model = DensityModel.load(name)
    double, single = (Predictor(model, dtype=dtype, extrapolate=True) for dtype in (torch.float64, torch.float32))
    grid = double.grid(atoms, h=0.2)
    rng = np.random.default_rng(0)
    wave_R = np.cos(2 * np.pi * (grid.points() @ np.linalg.inv(grid.cell_cv)).sum(-1))
    v_R = wave_R + 0.3 * rng.normal(size=grid.shape)
    W_asii = [rng.normal(size=D_sii.shape) for D_sii in double.coefficients(atoms).D_asii()]
    W_asii = [W_sii + W_sii.swapaxes(1, 2) for W_sii in W_asii]

    def value(moved: Atoms) -> float:
        coefficients = double.coefficients(moved)
        of_matrices = sum((W * D).sum() for W, D in zip(W_asii, coefficients.D_asii(), strict=True))
        return float((double.evaluate(coefficients, grid) * v_R).sum() * grid.dv + of_matrices)

    expected_av = np.array([[difference(value, atoms, a, c) for c in range(3)] for a in range(len(atoms))])
    for label, predictor in ('float64', double), ('float32', single):
        error = abs(predictor.vjp(atoms, grid, v_R, W_asii) - expected_av).max() / abs(expected_av).max()
        print(f'{label}: {error:.1e} of the largest component')


def difference(value, atoms: Atoms, a: int, c: int) -> float:
    """d value / dR_ac."""
    total = 0.0
    for steps, weight in WEIGHTS.items():
        moved = atoms.copy()
        moved.positions[a, c] += steps * STEP
        total += weight * value(moved) / STEP
    return total


if __name__ == '__main__':
    warnings.simplefilter('ignore')
    main(sys.argv[1] if len(sys.argv) > 1 else 'water-pbe-dzp')
