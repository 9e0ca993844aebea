"""``deepdensity learn``: active learning from a pool of geometries."""

from __future__ import annotations

import argparse
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

SECONDS = {'s': 1.0, 'min': 60.0, 'h': 3600.0, 'd': 86400.0}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        f'{parser.description} Some of the pool are held out to measure on; of the others those are calculated that '
        'tell the model most of the whole pool, and its last layer learns them in closed form. What '
        'is better on those held out is kept. The same command continues a killed run.'
    )
    add = parser.add_argument
    add('pool', nargs='+', metavar='POOL', help='files of geometries to choose from, all frames')
    add('out', metavar='OUT', help='folder for model, data sets and progress')
    add('--level', required=True, help="level of theory, the model's own: pw400, dzp, …, or a JSON file")
    add('--init', required=True, metavar='MODEL', help='the model to begin with, a name or a file')
    add('--target', required=True, metavar='PERCENT', help='NMAE of ñ at which it stops, mean of those held out: 0.3%%')
    add('--budget', required=True, metavar='TIME', help='wall time after which nothing more is begun: 30min, 2h')
    add('--held-out', type=int, default=4, metavar='N', help='geometries to measure on (%(default)s)')
    add(
        '--batch',
        type=int,
        default=2,
        metavar='N',
        help='snapshots from one look at the pool to the next (%(default)s)',
    )
    add('--seed', type=int, default=0, help='of what is held out (%(default)s)')
    add('--workers', type=int, default=1, metavar='N', help='processes to share the calculations (%(default)s)')
    add('--no-start', action='store_true', help="do not start GPAW's cycles from the model's predictions")
    add('--quiet', action='store_true', help='no progress bars')


def run(args: argparse.Namespace) -> int:
    """Exit code 0: the target is reached; 1: it is not."""
    from ase_deepdensity.frames import read_frames
    from ase_deepdensity.level import Level
    from ase_deepdensity.model import DensityModel
    from ase_deepdensity.training.active import ActiveLearning

    target, budget = percent(args.target), seconds(args.budget)
    level, init = Level.load(args.level), DensityModel.load(args.init)
    if not args.out or '\0' in args.out:
        raise ValueError(f'OUT must be the name of a folder, not {args.out!r}')
    learning = ActiveLearning(
        read_frames(args.pool), args.out, level, init,
        target=target, budget=budget, held_out=args.held_out, batch=args.batch, seed=args.seed,
        calculate=(lambda best: None) if args.no_start or level.code != 'gpaw' else _starting(args.init),
        workers=args.workers, progress=not args.quiet,
    )  # fmt: skip
    outcome = learning.run()
    print(f'progress: {Path(args.out) / "progress.png"}')
    if outcome.model is None:
        print(f'no snapshot has made {args.init} better')
    else:
        print(f'model: {outcome.model}')
    return 0 if outcome.rows[-1].nmae <= target else 1


def _starting(init: str) -> Callable[[Path | None], Callable[..., Any]]:
    """What calculates from the predictions of the best model so far."""
    from ase_deepdensity.cli.generate import Seeded, load

    def calculate(best: Path | None) -> Seeded:
        load.cache_clear()  # another model may have the name of an earlier one
        return Seeded(init if best is None else str(best))

    return calculate


def percent(text: str) -> float:
    """A number, with or without the sign."""
    try:
        return float(text.removesuffix('%'))
    except ValueError:
        raise ValueError(f'--target must be a percentage such as 0.3%, not {text!r}') from None


def seconds(text: str) -> float:
    """A time with its unit."""
    match = re.fullmatch(r'\s*([0-9.]+)\s*(s|min|h|d)\s*', text)
    try:
        return float(match[1]) * SECONDS[match[2]] if match else float('x')
    except ValueError:
        raise ValueError(f'--budget must be a time such as 90s, 30min, 2h or 1d, not {text!r}') from None
