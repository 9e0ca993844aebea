"""This version against another one, in alternating runs on one core: prints a table.

python docs/benchmarks/against.py OTHER_CHECKOUT [ROUNDS]

CPU time, the best of several repetitions in each round; 32 molecules of water, `water-pbe-dzp`.
"""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

HERE = Path(__file__).parents[2]
THREADS = dict.fromkeys(('OMP_NUM_THREADS', 'MKL_NUM_THREADS', 'OPENBLAS_NUM_THREADS', 'NUMBA_NUM_THREADS'), '1')
ROWS = {
    'network': 'network, ms',
    'grid': 'density on the grid, ms',
    'ffts': 'the same in FFTs of that grid',
    'whole': 'whole prediction, ms',
    'derivative': 'derivative (`Predictor.vjp`), ms',
    'memory': 'largest memory, MB',
}


def main(other: Path, rounds: int) -> None:
    measured: dict[str, list[dict[str, float]]] = {'before': [], 'now': []}
    for _ in range(rounds):
        measured['before'].append(in_a_process(other))
        measured['now'].append(in_a_process(HERE))
    print('| 32 H₂O, dzp | before | now |\n|---|---|---|')
    for key, label in ROWS.items():
        before, now = (min(run[key] for run in runs) for runs in measured.values())
        print(f'| {label} | {before:.1f} | {now:.1f} |')


def in_a_process(checkout: Path) -> dict[str, float]:
    environment = os.environ | THREADS | {'PYTHONPATH': f'{checkout}', 'PYTHONWARNINGS': 'ignore'}
    command = [sys.executable, __file__, '--measure', f'{checkout}']
    return json.loads(subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout)


def measure(checkout: Path) -> dict[str, float]:
    import numpy as np
    import scipy.fft
    from ase.io import read

    import ase_deepdensity
    from ase_deepdensity.model import DensityModel
    from ase_deepdensity.predict import Predictor

    assert Path(ase_deepdensity.__file__).parents[1] == checkout, 'another installation is in the way'
    atoms = read(HERE / 'tutorials' / 'water32.xyz')
    predictor = Predictor(DensityModel.load('water-pbe-dzp'))
    grid, coefficients = predictor.grid(atoms), predictor.coefficients(atoms)
    v_R = np.random.default_rng(0).normal(size=grid.shape)
    W_asii = [np.ones_like(D_sii) for D_sii in coefficients.D_asii()]
    fft = best(lambda: scipy.fft.rfftn(v_R, workers=1), 50)
    result = {
        'network': best(lambda: predictor.coefficients(atoms), 25),
        'grid': best(lambda: predictor.evaluate(coefficients, grid), 40),
        'whole': best(lambda: predictor.predict(atoms, grid), 25),
        'memory': resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        'derivative': best(lambda: predictor.vjp(atoms, grid, v_R, W_asii), 3),
    }
    return result | {'ffts': result['grid'] / fft}


def best(work: Callable[[], object], number: int) -> float:
    """ms of CPU time."""
    work()
    times = []
    for _ in range(number):
        start = time.process_time()
        work()
        times.append(time.process_time() - start)
    return 1e3 * min(times)


if __name__ == '__main__':
    if sys.argv[1] == '--measure':
        print(json.dumps(measure(Path(sys.argv[2]))))
    else:
        main(Path(sys.argv[1]).resolve(), int(sys.argv[2]) if len(sys.argv) > 2 else 3)
