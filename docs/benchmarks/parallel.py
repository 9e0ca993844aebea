"""What two cores, two ranks and two processes gain, and what many small molecules cost: figures of docs/scaling.md.

    python docs/benchmarks/parallel.py threads|ranks|torchrun|molecules

Wall times (of molecules CPU times), the best of some runs: on a machine that has nothing else to do.

threads     a prediction in slabs, 6144 atoms of water, with one thread and with two
ranks       ``deepdensity predict --out n.zarr`` of 6144 atoms in a column, by one process and by ``mpiexec -n 2``;
            starting is taken off
torchrun    steps of a training on chains in one dimension with 8 snapshots in each, by one process and by two
molecules   1000 molecules of 9 atoms in one call of ``Predictor.predict``, one thread
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Sequence
from pathlib import Path

from measure import THREADS, WATER

COMMAND = [sys.executable, '-m', 'ase_deepdensity.cli.main']
MPIEXEC = 'mpiexec', '--allow-run-as-root', '--oversubscribe', '-n'
"""Of Open MPI."""
CHAINS = {
    'network': 'invariant', 'hypers': {'cutoff': 12}, 'basis_cutoff': 14, 'basis_functions': 27, 'lmax': 1, 'stride': 1,
    'smoothing': 1e-5, 'matrix_weight': 0, 'learning_rate': 0.003, 'validation': 4, 'batch': 8, 'validate_every': 1000,
}  # fmt: skip


def main() -> None:
    kind = sys.argv[1]
    if kind == 'molecules':
        print(f'{molecules():.2f} ms for a molecule')
        return
    one, two = {'threads': threads, 'ranks': ranks, 'torchrun': torchrun}[kind]()
    print(f'{kind}: {one:.2f} s alone, {two:.2f} s with two: {one / two:.2f} times as fast')


def seconds(command: Sequence[str], nthreads: int = 1, folder: str | None = None) -> float:
    """Wall time of a command."""
    environment = os.environ | dict.fromkeys(THREADS, str(nthreads)) | {'PYTHONWARNINGS': 'ignore::UserWarning'}
    start = time.perf_counter()
    subprocess.run(
        command, env=environment, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd=folder
    )
    return time.perf_counter() - start


def threads() -> tuple[float, float]:
    def of(nthreads: int) -> float:
        environment = os.environ | dict.fromkeys(THREADS, str(nthreads))
        command = [sys.executable, __file__, 'slabs', str(nthreads)]
        output = subprocess.run(command, env=environment, check=True, stdout=subprocess.PIPE, text=True).stdout
        return float(json.loads(output.splitlines()[-1]))

    return of(1), of(2)


def slabs(nthreads: int, repeats: int = 3) -> float:
    """Seconds of a prediction, the best of a few."""
    import torch
    from ase.io import read

    from ase_deepdensity import DensityModel, Grid
    from ase_deepdensity.predict import Predictor

    torch.set_num_threads(nthreads)
    predictor, atoms = Predictor(DensityModel.load('water-pbe-dzp')), read(WATER).repeat(4)
    grid, taken = Grid.from_atoms(atoms, (192, 192, 192)), []
    for _ in range(repeats):
        start = time.perf_counter()
        for _ in predictor.stream(atoms, grid):
            pass
        taken.append(time.perf_counter() - start)
    return min(taken)


def ranks() -> tuple[float, float]:
    from ase.io import read, write

    with tempfile.TemporaryDirectory() as folder:
        write(f'{folder}/small.xyz', read(WATER))
        write(f'{folder}/large.xyz', read(WATER).repeat((32, 2, 1)))

        def of(number: int) -> float:
            launcher = [*MPIEXEC, str(number)] if number > 1 else []
            taken = []
            for name in 'small.xyz', 'large.xyz':
                command = [*launcher, *COMMAND, 'predict', name, 'water-pbe-dzp', '--out', 'n.zarr']
                taken.append(min(seconds(command, folder=folder) for _ in range(2)))
            return taken[1] - taken[0]

        return of(1), of(2)


def torchrun() -> tuple[float, float]:
    short, long = 20, 120
    with tempfile.TemporaryDirectory() as folder:
        sample = ['sample', 'chain', 'metal.xyz', '--kind', 'metal', '--atoms', '32', '-n', '24', '--seed', '1']
        seconds([*COMMAND, *sample], folder=folder)
        seconds([*COMMAND, 'generate', 'metal.xyz', 'metal', '--level', 'ks1d', '--quiet'], folder=folder)
        for steps in short, long:
            Path(folder, f'{steps}.json').write_text(json.dumps(CHAINS | {'steps': steps}))

        def of(number: int) -> float:
            module = ['-m', 'ase_deepdensity.cli.main', 'train', 'metal']
            launcher = [sys.executable]
            if number > 1:
                launcher += ['-m', 'torch.distributed.run', '--nproc-per-node', str(number)]
            taken = [
                seconds([*launcher, *module, '--out', f'{number}-{steps}', '--config', f'{steps}.json'], folder=folder)
                for steps in (short, long)
            ]
            return taken[1] - taken[0]

        return of(1), of(2)


def molecules(number: int = 1000) -> float:
    """Milliseconds of CPU time for one of many molecules, each in a cell of its own."""
    import numpy as np
    import torch
    from ase.build import molecule

    from ase_deepdensity import DensityModel
    from ase_deepdensity.predict import Predictor

    torch.set_num_threads(1)
    warnings.simplefilter('ignore')
    predictor, rng, frames = Predictor(DensityModel.load('organics-pbe-pw400')), np.random.default_rng(0), []
    for _ in range(number):
        atoms = molecule('CH3CH2OH')
        atoms.rattle(0.03, rng=rng)
        atoms.center(vacuum=3.0)
        atoms.pbc = True
        frames.append(atoms)
    predictor.predict(frames[:4])
    start = time.process_time()
    for first in range(0, number, 100):  # what is predicted is held: 2 MB each
        predictor.predict(frames[first : first + 100])
    return 1000 * (time.process_time() - start) / number


if __name__ == '__main__':
    if sys.argv[1] == 'slabs':
        print(json.dumps(slabs(int(sys.argv[2]))))
    else:
        main()
