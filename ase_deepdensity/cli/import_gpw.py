"""``deepdensity import``: a data set from finished calculations of GPAW."""

from __future__ import annotations

import argparse
from glob import glob


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add(
        'files',
        nargs='+',
        metavar='FILE.gpw',
        help='finished calculations at one level of theory; in quotes also patterns, such as "runs/**/*.gpw" for all '
        'below a folder',
    )
    add('out', metavar='OUT', help='folder for the snapshots; the same command continues an interrupted import')
    add('--quiet', action='store_true', help='no progress bar')


def run(args: argparse.Namespace) -> int:
    """Exit code 0: all there; 1: some were refused."""
    from tqdm import tqdm

    from ase_deepdensity.codes.gpaw.require import require_gpaw

    if not args.out or '\0' in args.out:
        raise ValueError(f'OUT must be the name of a folder, not {args.out!r}')
    if args.out.endswith('.gpw'):
        raise ValueError(f'OUT must be a folder for the snapshots, which {args.out} does not look like; give it last')
    require_gpaw('"deepdensity import"')
    from ase_deepdensity.generate.gpw import import_gpw

    log = print if args.quiet else tqdm.write
    result = import_gpw(_matching(args.files), args.out, progress=not args.quiet, log=log)
    level = 'none yet' if result.level is None else result.level.name or 'unnamed'
    print(f'{args.out}: level {level}\n{result.lines()[0]}', flush=True)
    return 1 if result.refused else 0


def _matching(names: list[str]) -> list[str]:
    """Files for patterns, which the shell has left as they are; what matches nothing stays, to be named."""
    return [file for name in names for file in (sorted(glob(name, recursive=True)) or [name])]
