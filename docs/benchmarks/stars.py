"""How much of a model's error is linear in structure factors: what k-points do to a metal in first order.

    python docs/benchmarks/stars.py MODEL TEST ...

For each snapshot of the folders TEST the errors Δñ(G) up to 5 Å⁻¹ are fitted by c S(G), S(G) = Σ_J exp(−iG·R_J),
with one real c for each star, the wave vectors whose absolute components along x, y, z are the same in some order.
Printed: the share of Σ_G |Δñ|² that this explains, and what is to be expected of as many numbers if there is no
such term.
"""

from __future__ import annotations

import sys

import numpy as np

from ase_deepdensity import DensityModel
from ase_deepdensity.dataset import Dataset
from ase_deepdensity.predict import Predictor
from ase_deepdensity.state import PAWDensity

LONGEST = 5.0


def explained(predicted: PAWDensity, reference: PAWDensity) -> tuple[float, float]:
    """Share of the squared error that is linear, and the share by chance."""
    difference_R = predicted.nt_sR[0] - reference.nt_sR[0]
    error_x = np.fft.fftn(difference_R).ravel()
    N_xc = np.stack(
        np.meshgrid(*(np.fft.fftfreq(n, 1 / n) for n in difference_R.shape), indexing='ij'), axis=-1
    ).reshape(-1, 3)
    G_xv = N_xc @ (2 * np.pi * np.linalg.inv(reference.grid.cell_cv).T)
    some = (np.linalg.norm(G_xv, axis=1) < LONGEST) & N_xc.any(1)
    G_xv, error_x = G_xv[some], error_x[some]
    S_x = np.exp(-1j * G_xv @ reference.atoms.positions.T).sum(1)
    star_x = np.unique(np.sort(abs(G_xv), axis=1).round(3), axis=0, return_inverse=True)[1].ravel()
    overlap_s, norm_s, power_s = (
        np.bincount(star_x, weights) for weights in ((S_x.conj() * error_x).real, abs(S_x) ** 2, abs(error_x) ** 2)
    )
    chance_s = power_s * np.minimum(1, 2 / np.bincount(star_x))  # ±G hold the same, so that half of them count
    return float((overlap_s**2 / norm_s).sum() / power_s.sum()), float(chance_s.sum() / power_s.sum())


if __name__ == '__main__':
    name, *tests = sys.argv[1:]
    model = DensityModel.load(name)
    for test in tests:
        dataset = Dataset(test)
        predictor = Predictor(model, level=dataset.level)
        for snapshot in dataset:
            linear, chance = explained(predictor.predict(snapshot.atoms, snapshot.density.grid), snapshot.density)
            print(f'{test}, {len(snapshot.atoms)} atoms: {100 * linear:.0f} % linear, by chance {100 * chance:.0f} %')
