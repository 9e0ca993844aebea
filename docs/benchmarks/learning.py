"""Error against the number of training snapshots, for one network or several.

    python docs/benchmarks/learning.py FOLDER TRAINING TEST LABEL=SETTINGS.json ... [--snapshots 5 20 50]

trains a network for each LABEL (that of this name, unless the settings name one; settings as "deepdensity train
--config" takes them, the same for all numbers) on the first snapshots of the folder TRAINING and some more to choose
the best weights by, evaluates on TEST, prints the table and draws FOLDER/curves.png. What is in FOLDER is not made
again; a training that was interrupted goes on.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator

from ase_deepdensity.cli.main import main

VALIDATION = 2


def run(*arguments: str | Path) -> None:
    if main([str(argument) for argument in arguments]):
        raise SystemExit(f'deepdensity {" ".join(map(str, arguments))} failed')


def trained(path: Path, training: Path, number: int, settings: Mapping[str, Any]) -> Path:
    """The model of the first so many snapshots, in the file ``path``."""
    if not path.exists() or path.with_suffix('.checkpoint').exists():
        files = sorted(training.glob('*.h5'))[: number + VALIDATION]
        if len(files) < number + VALIDATION:
            raise SystemExit(f'{training} has {len(files)} snapshots; {number} and {VALIDATION} more are needed')
        config = path.with_suffix('.config.json')
        config.write_text(json.dumps({**settings, 'validation': VALIDATION}))
        run('train', *files, '--out', path, '--config', config, '--quiet')
        path.with_suffix('.checkpoint').unlink(missing_ok=True)
    return path


def nmae(path: Path, test: Path) -> float:
    """Mean over the snapshots of a folder, %."""
    scores = path.with_name(f'{path.stem}-on-{test.name}.json')
    if not scores.exists():
        run('evaluate', path, test, '--json', scores)
    return float(json.loads(scores.read_text())['mean']['nmae'])


def draw(axes: Axes, numbers: Sequence[int], curves: Mapping[str, Sequence[float]]) -> None:
    """One curve for each network."""
    for network, errors in curves.items():
        axes.loglog(numbers, errors, 'o-', label=network)
    axes.set_xticks(numbers, map(str, numbers))
    axes.minorticks_off()
    axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 3, 5)))
    axes.yaxis.set_major_formatter('{x:g}')
    axes.grid(alpha=0.3)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    for name in 'folder', 'training', 'test':
        parser.add_argument(name, type=Path)
    parser.add_argument('networks', nargs='+', metavar='LABEL=SETTINGS.json')
    parser.add_argument('--snapshots', type=int, nargs='+', default=[5, 20, 50])
    return parser.parse_args()


if __name__ == '__main__':
    args = _arguments()
    args.folder.mkdir(exist_ok=True)
    curves: dict[str, list[float]] = {}
    for label, file in (item.split('=', 1) for item in args.networks):
        settings = {'network': label} | json.loads(Path(file).read_text())
        paths = [
            trained(args.folder / f'{label}-{number}.safetensors', args.training, number, settings)
            for number in args.snapshots
        ]
        curves[label] = [nmae(path, args.test) for path in paths]
    print('| network | ' + ' | '.join(f'{number} snapshots' for number in args.snapshots) + ' |')
    print('|---' * (1 + len(args.snapshots)) + '|')
    for label, errors in curves.items():
        print(f'| {label} | ' + ' | '.join(f'{error:.3f}' for error in errors) + ' |')
    figure = Figure(figsize=(4, 3.2), layout='constrained')
    axes = figure.subplots()
    draw(axes, args.snapshots, curves)
    axes.set(xlabel='snapshots', ylabel='NMAE, %')
    axes.legend()
    figure.savefig(args.folder / 'curves.png', dpi=110)
