"""How long a new process takes for a first density and its picture, against a new process that imports torch only.

    python docs/benchmarks/cold_start.py [--repeats 5]

The two in turn; the least processor time and the least wall time of each.  On a busy machine the ratio of the
processor times says more.
"""

from __future__ import annotations

import argparse
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

WATER = Path(__file__).parents[2] / 'tutorials' / 'water32.xyz'
PREDICT = '-m', 'ase_deepdensity.cli.main', 'predict', str(WATER), 'water-pbe-dzp', '--plot', 'water.png'
COMMANDS = {'import torch': ('-c', 'import torch'), 'predict --plot': PREDICT}


def times(arguments: tuple[str, ...], folder: str) -> tuple[float, float]:
    """Processor and wall time of a new process, seconds."""
    before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    subprocess.run([sys.executable, *arguments], cwd=folder, check=True, capture_output=True)
    wall, after = time.perf_counter() - start, resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, wall


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--repeats', type=int, default=5)
    args = parser.parse_args()
    least = {name: (float('inf'), float('inf')) for name in COMMANDS}
    with tempfile.TemporaryDirectory() as folder:
        for _ in range(args.repeats):
            for name, arguments in COMMANDS.items():
                cpu, wall = times(arguments, folder)
                least[name] = min(cpu, least[name][0]), min(wall, least[name][1])
    for name, (cpu, wall) in least.items():
        print(f'{name:15} {cpu:6.2f} s processor {wall:6.2f} s wall')
    torch, predict = (least[name][0] for name in COMMANDS)
    print(f'ratio           {predict / torch:6.2f}')


if __name__ == '__main__':
    main()
