"""Speed, memory and size of a model, on one core: prints the table of docs/benchmarks.md.

    python docs/benchmarks/measure.py [MODEL]

Each figure is the best of several runs in a process of its own, with one thread for torch, numba and FFTs: processor
time, but of the command line wall time.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

WATER = Path(__file__).parents[2] / 'tutorials' / 'water32.xyz'
THREADS = 'OMP_NUM_THREADS', 'MKL_NUM_THREADS', 'OPENBLAS_NUM_THREADS', 'NUMBA_NUM_THREADS'
ENVIRONMENT = os.environ | dict.fromkeys(THREADS, '1') | {'PYTHONWARNINGS': 'ignore::UserWarning'}
REPEATS = 7


def main() -> None:
    model = sys.argv[1] if len(sys.argv) > 1 else 'water-pbe-dzp'
    speed, memory = (_in_a_process(part, model) for part in ('speed', 'memory'))
    rows = [
        ('whole prediction, 32 molecules, 48³', f'{speed["whole 32"]:.3f} s', '≤ 0.5 s (0.2 s)'),
        ('of that the network', f'{speed["network 32"]:.3f} s', ''),
        ('of that the grid', f'{speed["grid 32"]:.3f} s', ''),
        ('one rfftn of 48³, float64', f'{1000 * speed["fft"]:.2f} ms', ''),
        ('grid, in FFTs', f'{speed["grid 32"] / speed["fft"]:.0f}', '≤ 200 (50)'),
        ('whole prediction, 64 molecules, 96×48×48', f'{speed["whole 64"]:.3f} s', ''),
        ('64 molecules against 32', f'{speed["whole 64"] / speed["whole 32"]:.2f}', '≤ 2.2 (2.0)'),
        ('memory of 512 molecules on 120³, above the import', f'{memory["peak"]:.2f} GiB', '≤ 1 GiB (0.3)'),
        ('model file', f'{speed["bytes"] / 1e6:.2f} MB', '≤ 5 MB (2)'),
        ('command line, start to picture', f'{_command_line(model):.1f} s', '≤ 10 s (5 s)'),
    ]
    print(f'| {model} | measured | must (strive for) |\n|---|---|---|')
    for row in rows:
        print(f'| {" | ".join(row)} |')


def _in_a_process(part: str, model: str) -> dict[str, float]:
    command = [sys.executable, __file__, model, part]
    output = subprocess.run(command, env=ENVIRONMENT, check=True, stdout=subprocess.PIPE, text=True).stdout
    figures: dict[str, float] = json.loads(output.splitlines()[-1])
    return figures


def _command_line(model: str) -> float:
    with tempfile.TemporaryDirectory() as folder:
        picture = f'{folder}/water.png'
        command = [sys.executable, '-m', 'ase_deepdensity.cli.main', 'predict', str(WATER), model, '--plot', picture]
        return best(
            partial(subprocess.run, command, env=ENVIRONMENT, check=True, stdout=subprocess.DEVNULL),
            3,
            time.perf_counter,
        )


def best(function: Callable[[], Any], repeats: int = REPEATS, clock: Callable[[], float] = time.process_time) -> float:
    """Shortest time, s."""
    times = []
    for _ in range(repeats):
        start = clock()
        function()
        times.append(clock() - start)
    return min(times)


def speed(model_name: str) -> dict[str, float]:
    import numpy as np
    import scipy.fft
    import torch
    from ase.io import read

    from ase_deepdensity import DensityModel, Grid
    from ase_deepdensity.model import model_path
    from ase_deepdensity.predict import Predictor

    torch.set_num_threads(1)
    predictor = Predictor(DensityModel.load(model_name))
    figures: dict[str, float] = {'bytes': model_path(model_name).stat().st_size}
    atoms = read(WATER)
    for name, cell, size in ('32', atoms, (48, 48, 48)), ('64', atoms.repeat((2, 1, 1)), (96, 48, 48)):
        grid = Grid.from_atoms(cell, size)
        predictor.predict(cell, grid)
        known = predictor.coefficients(cell)
        figures[f'whole {name}'] = best(partial(predictor.predict, cell, grid))
        figures[f'network {name}'] = best(partial(predictor.coefficients, cell))
        figures[f'grid {name}'] = best(partial(predictor.evaluate, known, grid))
    n_R = np.random.default_rng(0).random((48, 48, 48))
    figures['fft'] = best(lambda: scipy.fft.rfftn(n_R, workers=1), 50)
    return figures


def memory(model_name: str) -> dict[str, float]:
    """Peak memory above that of the imports and of the loaded model, GiB."""
    import resource

    import torch

    from ase_deepdensity import DensityModel, Grid
    from ase_deepdensity.predict import Predictor

    torch.set_num_threads(1)
    predictor = Predictor(DensityModel.load(model_name))
    atoms = _lattice(8)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    predictor.predict(atoms, Grid.from_atoms(atoms, (120, 120, 120)))
    return {'peak': (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 2**20}


def _lattice(n: int, spacing: float = 3.107) -> Any:
    """n³ randomly turned molecules on a cubic lattice, at the density of water."""
    import numpy as np
    from ase import Atoms
    from ase.build import molecule

    rng = np.random.default_rng(0)
    atoms = Atoms(cell=[n * spacing] * 3, pbc=True)
    for site_c in np.ndindex(n, n, n):
        water = molecule('H2O')
        water.rotate(rng.uniform(0, 360), rng.normal(size=3))
        water.translate(spacing * (np.array(site_c) + 0.5))
        atoms += water
    return atoms


if __name__ == '__main__':
    if len(sys.argv) == 3:
        print(json.dumps({'speed': speed, 'memory': memory}[sys.argv[2]](sys.argv[1])))
    else:
        main()
