"""Time and memory of predictions slab by slab against the number of atoms, on one core: the table of docs/scaling.md.

    python docs/benchmarks/scaling.py [REPEATS …] [--plot FILE]

Water of tutorials/water32.xyz, repeated: ``2,2,2`` is 768 atoms, ``8,8,16`` is 98304, ``22,22,22`` a million.  Each
size runs in a process of its own, between two predictions of 768 atoms with whose mean it is compared, as other work
on the machine disturbs both.  CPU times; memory above that before the first prediction.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import time
from math import prod
from pathlib import Path

import numpy as np
from measure import ENVIRONMENT, WATER

USUAL = '1,1,1', '2,2,2', '4,4,4', '8,8,16'
UNIT = 2, 2, 2
LARGEST_FFT = 200**3
"""Points of the largest grid that is transformed, which takes the memory of all of it."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('repeats', nargs='*', default=USUAL)
    parser.add_argument('--plot', metavar='FILE', type=Path, help='curves of time and memory')
    args = parser.parse_args()
    rows: list[dict[str, float]] = []
    print('| atoms | network, ms per atom | grid, ms per atom | grid, in FFTs | against 768 atoms | memory, GiB |')
    print('|---|---|---|---|---|---|')
    for repeats in args.repeats:
        command = [sys.executable, __file__, '--one', repeats]
        output = subprocess.run(command, env=ENVIRONMENT, check=True, stdout=subprocess.PIPE, text=True).stdout
        figures = json.loads(output.splitlines()[-1])
        ffts = f'{figures["ffts"]:.0f}' if figures['ffts'] else ''
        print(
            f'| {figures["atoms"]} | {figures["network"]:.2f} | {figures["grid"]:.2f} | {ffts} | '
            f'{figures["ratio"]:.2f} | {figures["memory"]:.2f} |',
            flush=True,
        )
        rows.append(figures)
    if args.plot:
        plot(rows, args.plot)


def plot(rows: list[dict[str, float]], path: Path) -> None:
    """Time per atom and memory against the number of atoms."""
    import matplotlib.pyplot as plt

    atoms, network, grid, memory = (
        np.array([row[key] for row in rows]) for key in ('atoms', 'network', 'grid', 'memory')
    )
    figure, (left, right) = plt.subplots(1, 2, figsize=(8, 3.2), layout='constrained')
    left.semilogx(atoms, network + grid, 'o-', label='all')
    left.semilogx(atoms, network, 's--', label='network')
    left.semilogx(atoms, grid, '^:', label='grid')
    left.set(xlabel='atoms', ylabel='CPU time, ms per atom', ylim=(0, None))
    left.legend()
    right.loglog(atoms, memory, 'o-', label='as it is')
    right.loglog(atoms, memory[-1] * atoms / atoms[-1], 'k:', linewidth=0.8, label='if it went with the atoms')
    right.set(xlabel='atoms', ylabel='memory, GiB')
    right.legend()
    figure.savefig(path, dpi=120)


def one(repeats: tuple[int, ...]) -> dict[str, float]:
    import torch
    from ase.io import read

    from ase_deepdensity import DensityModel, Grid
    from ase_deepdensity.predict import Predictor

    torch.set_num_threads(1)
    predictor, water = Predictor(DensityModel.load('water-pbe-dzp')), read(WATER)
    predictor.predict(water, Grid.from_atoms(water, (48, 48, 48)))

    def times(repeats: tuple[int, ...]) -> tuple[float, float]:
        """Of network and grid, ms per atom."""
        from ase_deepdensity.slabs import SlabDensity

        atoms = water.repeat(repeats)
        grid = Grid.from_atoms(atoms, [48 * n for n in repeats])
        start = time.process_time()
        coefficients = predictor.coefficients(atoms)
        middle = time.process_time()
        for _ in SlabDensity(predictor, coefficients, grid):
            pass
        end = time.process_time()
        return 1000 * (middle - start) / len(atoms), 1000 * (end - middle) / len(atoms)

    times(UNIT)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    first, (network, grid), last = times(UNIT), times(repeats), times(UNIT)
    natoms = prod(repeats) * len(water)
    return {
        'atoms': natoms,
        'network': network,
        'grid': grid,
        'ratio': 2 * (network + grid) / (sum(first) + sum(last)),
        'ffts': 1e-3 * grid * natoms / _fft([48 * n for n in repeats]) if 48**3 * prod(repeats) < LARGEST_FFT else 0.0,
        'memory': (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 2**20,
    }


def _fft(shape: list[int]) -> float:
    """CPU seconds of one real FFT in double precision, the best of five."""
    import scipy.fft

    n_R, taken = np.random.default_rng(0).random(shape), []
    for _ in range(5):
        start = time.process_time()
        scipy.fft.rfftn(n_R, workers=1)
        taken.append(time.process_time() - start)
    return min(taken)


if __name__ == '__main__':
    if sys.argv[1:2] == ['--one']:
        print(json.dumps(one(tuple(int(n) for n in sys.argv[2].split(',')))))
    else:
        main()
