"""What two cores, two ranks and two processes gain, and what many small molecules cost: figures of docs/scaling.md.

    python docs/benchmarks/parallel.py threads|ranks|torchrun|torchrun-water|molecules|gpu

Wall times (of molecules CPU times), the best of some runs: on a machine that has nothing else to do.

threads     a prediction in slabs, 6144 atoms of water, with one thread and with two; ``slabs N``: with N only
ranks       ``deepdensity predict --out n.zarr`` of 6144 atoms in a column, by one process and by ``mpiexec -n 2``;
            starting is taken off
torchrun    steps of a training on chains in one dimension with 8 snapshots in each, by one process and by two;
            ``torchrun-water``: on 32 molecules of water with 4 in each, whose references take some minutes at first
molecules   1000 molecules of 9 atoms in one call of ``Predictor.predict``, one thread
gpu         a prediction of 96 atoms on a GPU, of what parts it is; the memory of 98304 atoms in slabs, which are not
            kept; steps of a training on chains there and on two cores
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path

from measure import THREADS, WATER

COMMAND = [sys.executable, '-m', 'ase_deepdensity.cli.main']
MPIEXEC = 'mpiexec', '--allow-run-as-root', '--oversubscribe', '-n'
"""Of Open MPI."""
CHAINS = {
    'network': 'invariant', 'hypers': {'cutoff': 12}, 'basis_cutoff': 14, 'basis_functions': 27, 'lmax': 1, 'stride': 1,
    'smoothing': 1e-5, 'matrix_weight': 0, 'learning_rate': 0.003, 'validation': 4, 'batch': 8, 'validate_every': 1000,
}  # fmt: skip

LIQUID = {
    'network': 'equivariant', 'basis_cutoff': 3.0, 'basis_functions': 23, 'lmax': 4, 'stride': 2, 'matrix_weight': 5.0,
    'smoothing': 0.002, 'learning_rate': 0.0015, 'validation': 1, 'batch': 4, 'validate_every': 1000,
}  # fmt: skip
"""As `water-pbe-dzp` was trained, but for the batch."""

EXPANDED = CHAINS | {'network': 'equivariant', 'hypers': {'cutoff': 12.0, 'channels': 16}, 'stride': 2}
"""The same with a network that expands the density in the basis."""


def main() -> None:
    kind = sys.argv[1]
    if kind == 'molecules':
        print(f'{molecules():.2f} ms for a molecule')
        return
    if kind == 'gpu':
        gpu()
        return
    of_kind = {
        'threads': threads, 'ranks': ranks, 'torchrun': torchrun, 'torchrun-water': lambda: torchrun(water=True)
    }  # fmt: skip
    one, two = of_kind[kind]()
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


def torchrun(water: bool = False) -> tuple[float, float]:
    short, long = 20, 120
    with tempfile.TemporaryDirectory() as folder:
        if water:
            _water(folder, LIQUID, short, long)
        else:
            _chains(folder, CHAINS, short, long)

        def of(number: int) -> float:
            module = ['-m', 'ase_deepdensity.cli.main', 'train', 'data']
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


def gpu(repeats: int = 20) -> None:
    """Print the figures."""
    import torch
    from ase.io import read

    from ase_deepdensity import DensityModel, Grid
    from ase_deepdensity.collocation.on_device import FreeAtoms
    from ase_deepdensity.predict import Predictor

    def milliseconds(work: Callable[[], object]) -> float:
        taken = []
        for _ in range(repeats + 3):
            torch.cuda.synchronize()
            start = time.perf_counter()
            work()
            torch.cuda.synchronize()
            taken.append(1000 * (time.perf_counter() - start))
        return min(taken[3:])

    predictor, atoms = Predictor(DensityModel.load('water-pbe-dzp'), device='cuda'), read(WATER)
    grid, free_atoms = Grid.from_atoms(atoms, (48, 48, 48)), FreeAtoms(atoms.numbers, predictor.model.superposition)
    coefficients, position_av = predictor.coefficients(atoms), torch.from_numpy(atoms.positions).cuda()
    with torch.no_grad():
        parts = {
            'network': milliseconds(lambda: predictor.coefficients(atoms)),
            'collocation': milliseconds(
                lambda: predictor.evaluator.total(coefficients.output, grid, position_av, free_atoms)
            ),
            'all of the prediction': milliseconds(lambda: predictor.predict(atoms, grid)),
        }
    print(f'{torch.cuda.get_device_name()}: ' + ', '.join(f'{name} {taken:.1f} ms' for name, taken in parts.items()))
    many = atoms.repeat((8, 8, 16))
    torch.cuda.reset_peak_memory_stats()
    start = time.perf_counter()
    for _ in predictor.stream(many, Grid.from_atoms(many, (384, 384, 768))):
        pass
    seconds_taken, peak = time.perf_counter() - start, torch.cuda.max_memory_allocated() / 2**30
    print(f'{len(many)} atoms: {seconds_taken:.1f} s, {peak:.2f} GiB on the GPU')
    print(f'training: {steps_per_second("cuda"):.1f} steps a second, {steps_per_second("cpu"):.1f} on two cores')


def steps_per_second(device: str) -> float:
    short, long = 20, 220
    with tempfile.TemporaryDirectory() as folder:
        _chains(folder, EXPANDED, short, long)
        taken = []
        for steps in short, long:
            train = ['train', 'data', '--out', f'{steps}', '--config', f'{steps}.json', '--device', device]
            taken.append(seconds([*COMMAND, *train], nthreads=2, folder=folder))
    return (long - short) / (taken[1] - taken[0])


def _chains(folder: str, config: dict[str, object], *steps_x: int) -> None:
    """The data of a training, and its configuration for each number of steps."""
    sample = ['sample', 'chain', 'frames.xyz', '--kind', 'metal', '--atoms', '32', '-n', '24', '--seed', '1']
    seconds([*COMMAND, *sample], folder=folder)
    _references(folder, 'ks1d', config, steps_x)


def _water(folder: str, config: dict[str, object], *steps_x: int) -> None:
    """The same of five boxes of 32 molecules, displaced at random."""
    from ase.io import read, write

    frames = [read(WATER) for _ in range(5)]
    for seed, atoms in enumerate(frames):
        atoms.rattle(0.03, seed=seed)
    write(Path(folder, 'frames.xyz'), frames)
    _references(folder, 'dzp', config, steps_x)


def _references(folder: str, level: str, config: dict[str, object], steps_x: Sequence[int]) -> None:
    seconds([*COMMAND, 'generate', 'frames.xyz', 'data', '--level', level, '--quiet'], folder=folder)
    for steps in steps_x:
        Path(folder, f'{steps}.json').write_text(json.dumps(config | {'steps': steps}))


if __name__ == '__main__':
    if sys.argv[1] == 'slabs':
        print(json.dumps(slabs(int(sys.argv[2]))))
    else:
        main()
