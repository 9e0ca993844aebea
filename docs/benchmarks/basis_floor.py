"""How well a basis can write the density of a snapshot at best: least squares, no network.

    python docs/benchmarks/basis_floor.py SNAPSHOT.h5 CUTOFF NUMBER LMAX [ITERATIONS]

prints the NMAE (%) that is left by NUMBER radial functions up to CUTOFF Å with angular momenta up to LMAX.  The
snapshot should hold few atoms in much vacuum: in a full cell there are hardly more grid points than coefficients.
"""

from __future__ import annotations

import sys

import torch

from ase_deepdensity.basis import SplineBasis
from ase_deepdensity.collocation.density import DensityEvaluator
from ase_deepdensity.dataset import Dataset
from ase_deepdensity.network.heads import CoefficientHead
from ase_deepdensity.network.registry import build_network
from ase_deepdensity.training.batch import cosets
from ase_deepdensity.training.data import Cache, TrainingData
from ase_deepdensity.training.least_squares import fit_coefficients, written
from ase_deepdensity.training.loss import absolute_error, difference
from ase_deepdensity.training.step import density_at


def floor(path: str, basis: SplineBasis, iterations: int) -> float:
    """NMAE, %."""
    dataset, evaluate = Dataset([path]), DensityEvaluator(basis)
    types, species = dataset.atom_types, tuple(dataset.numbers)
    projectors = [types[Z].l_j for Z in species]
    network = build_network('equivariant', {'cutoff': 1.0}, species, basis, projectors)
    data = TrainingData(dataset, network, types, Cache())
    batch = cosets([data[0]], [data.target(0)], network.cutoff, 1)
    head = CoefficientHead(basis, 1, len(species))
    y = fit_coefficients(batch, 0, evaluate, head.expand, head.sizes, iterations)
    with torch.no_grad():
        density_esp = density_at(written(head.expand(y)), batch, evaluate)
    return float(absolute_error(difference(density_esp, batch.target_sp), batch.weight_p))


if __name__ == '__main__':
    path, cutoff, number, lmax, *more = sys.argv[1:]
    print(floor(path, SplineBasis(float(cutoff), int(number), int(lmax)), int(more[0]) if more else 300))
