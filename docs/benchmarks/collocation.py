"""What densities cost, point by point, on one core: on grids and at points drawn at random, with derivatives.

    python docs/benchmarks/collocation.py

Prints CPU time in µs per point, the best of several runs: of the coefficients' density alone, and with the gradient
with respect to the coefficients, which a step of a training needs.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import torch
from ase import Atoms
from ase.build import bulk
from ase.io import read

from ase_deepdensity.basis import SplineBasis
from ase_deepdensity.collocation.at_points import at_points
from ase_deepdensity.collocation.on_grids import GridCollocation
from ase_deepdensity.collocation.points import Points
from ase_deepdensity.grid import Grid

BASIS = SplineBasis(3.0, 23, 4)
WATER = Path(__file__).parents[2] / 'tutorials' / 'water32.xyz'
SYSTEMS = {'32 H₂O, 24³ points': (WATER, 24), 'MgO, primitive cell, 9³ points': (bulk('MgO', 'rocksalt', 4.2), 9)}
"""Atoms, and a grid as training has it: every second point of the calculation's."""
REPEATS = 9


def best(function: Callable[[], torch.Tensor], npoints: int) -> float:
    """CPU time, µs per point."""
    times = []
    for _ in range(REPEATS + 1):
        start = time.process_time()
        function()
        times.append(time.process_time() - start)
    return min(times[1:]) / npoints * 1e6


def gradients(density: Callable[[], torch.Tensor], c_lxanm: list[torch.Tensor]) -> torch.Tensor:
    """Of the sum of a density."""
    return torch.autograd.grad(density().sum(), c_lxanm)[0]


def measure(atoms: Atoms, size: int) -> list[tuple[str, float, float]]:
    """On the whole grid, and at 2000 points (or all) of it: with one density, and with two of the same atoms."""
    grid = Grid.from_atoms(atoms, (size,) * 3)
    position_av = torch.from_numpy(atoms.positions)
    points, _ = Points.draw([grid], 2000, np.random.default_rng(0))
    collocation, rows = GridCollocation(BASIS, grid), []
    for name, ndensities, npoints in ('grid', 1, size**3), ('points', 1, 0), ('points, two densities', 2, 0):
        c_lxanm = [torch.randn(ndensities, len(atoms), 23, 2 * l + 1, requires_grad=True) for l in range(5)]
        at = partial(at_points, BASIS, c_lxanm, position_av, [slice(0, len(atoms))], points)
        density = partial(collocation, position_av, c_lxanm) if name == 'grid' else at
        number = npoints or len(points.system_p)
        rows.append((name, best(density, number), best(partial(gradients, density, c_lxanm), number)))
    return rows


def main() -> None:
    torch.set_num_threads(1)
    print('| system | where | density | and its gradient |\n|---|---|---|---|')
    for name, (atoms, size) in SYSTEMS.items():
        for where, forward, both in measure(atoms if isinstance(atoms, Atoms) else read(atoms), size):
            print(f'| {name} | {where} | {forward:.2f} | {both:.2f} |')


if __name__ == '__main__':
    main()
