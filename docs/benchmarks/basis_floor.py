"""How well a basis can write the density of a snapshot at best: least squares, no network.

    python docs/benchmarks/basis_floor.py SNAPSHOT.h5 CUTOFF NUMBER LMAX [ITERATIONS]

prints the NMAE (%) that is left by NUMBER radial functions up to CUTOFF Å with angular momenta up to LMAX.  The
snapshot should hold few atoms in much vacuum: in a full cell there are hardly more grid points than coefficients.
"""

from __future__ import annotations

import sys

import torch

from ase_deepdensity.basis import SplineBasis
from ase_deepdensity.dataset import read_snapshot
from ase_deepdensity.evaluate.superposition import RadialTable
from ase_deepdensity.network.heads import CoefficientHead
from ase_deepdensity.network.registry import build_network
from ase_deepdensity.reference.codes import code
from ase_deepdensity.training.least_squares import fit_coefficients, written
from ase_deepdensity.training.data import GridSampler, Sample


def floor(path: str, basis: SplineBasis, iterations: int) -> float:
    """NMAE, %."""
    snapshot = read_snapshot(path)
    species = tuple(sorted({int(number) for number in snapshot.atoms.numbers}))
    tables = {
        Z: RadialTable.fit(*table) for Z, table in code(snapshot.level).atomic_tables(snapshot.level, species).items()
    }
    projectors = [setup.l_j for setup in snapshot.level.setups(species)]
    network = build_network('equivariant', {'cutoff': 1.0}, species, basis, projectors)
    sample = Sample.from_snapshot(snapshot, path, network, tables, torch.device('cpu'))
    head = CoefficientHead(basis, 1, len(species))
    sampler = GridSampler(basis)
    y = fit_coefficients(sample, sampler, head.expand, head.sizes, iterations)
    with torch.no_grad():
        density_R, target_R, _ = sampler(sample, written(head.expand(y)), 1)
    return 100 * float((density_R - target_R).abs().sum()) / sample.electrons


if __name__ == '__main__':
    path, cutoff, number, lmax, *more = sys.argv[1:]
    print(floor(path, SplineBasis(float(cutoff), int(number), int(lmax)), int(more[0]) if more else 300))
