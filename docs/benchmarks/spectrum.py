"""Where in reciprocal space the error of a model is.

    python docs/benchmarks/spectrum.py OUT.png MODEL TEST [WIDTH]

predicts the snapshots of the folder TEST and draws and prints the share of Σ_G |Δñ(G)|² in shells of |G| of the given
width (default: 0.5 Å⁻¹).
"""

from __future__ import annotations

import sys

import numpy as np
from matplotlib.figure import Figure

from ase_deepdensity import Dataset, DensityModel, PAWDensity
from ase_deepdensity.predict import Predictor


def shell_power(predicted: PAWDensity, reference: PAWDensity, width: float) -> np.ndarray:
    """Σ |Δñ(G)|² of each shell of |G|, (e/Å³)²."""
    difference_R = predicted.nt_sR[0] - reference.nt_sR[0]
    index_cR = np.meshgrid(*(np.fft.fftfreq(n, 1 / n) for n in difference_R.shape), indexing='ij')
    reciprocal_cv = 2 * np.pi * np.linalg.inv(reference.grid.cell_cv).T
    G_R = np.linalg.norm(np.einsum('cxyz, cv -> xyzv', index_cR, reciprocal_cv), axis=3)
    power_R = abs(np.fft.fftn(difference_R) / difference_R.size) ** 2
    return np.bincount((G_R / width).astype(int).ravel(), weights=power_R.ravel())


if __name__ == '__main__':
    out, name, test = sys.argv[1:4]
    width = float(sys.argv[4]) if len(sys.argv) > 4 else 0.5
    dataset = Dataset([test])
    predictor = Predictor(DensityModel.load(name), level=dataset.level)
    powers = [
        shell_power(predictor.predict(snapshot.atoms, snapshot.density.grid), snapshot.density, width)
        for snapshot in dataset
    ]
    share_s = np.zeros(max(map(len, powers)))
    for power_s in powers:
        share_s[: len(power_s)] += 100 * power_s / power_s.sum() / len(powers)
    seen_s = np.flatnonzero(share_s > 0.05)
    for s in seen_s:
        print(f'{s * width:.1f} to {(s + 1) * width:.1f} Å⁻¹: {share_s[s]:.1f} %')
    figure = Figure(figsize=(5, 3), layout='constrained')
    axes = figure.subplots()
    axes.bar((seen_s + 0.5) * width, share_s[seen_s], 0.9 * width)
    axes.set(xlabel='|G|, Å⁻¹', ylabel='share of the squared error, %')
    figure.savefig(out, dpi=110)
