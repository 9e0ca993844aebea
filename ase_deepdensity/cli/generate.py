"""``deepdensity generate``: reference densities of geometries."""

from __future__ import annotations

import argparse


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add(
        'geometries',
        nargs='+',
        metavar='GEOMETRIES',
        help='files in any format that ASE reads, all frames ("traj.xyz@::10" takes every tenth)',
    )
    add('out', metavar='OUT', help='folder for the snapshots; the same command continues a killed run')
    add('--level', required=True, help='level of theory: pw400, dzp, ks1d (chains), or a JSON file of parameters')
    add('--retry-failed', action='store_true', help='calculate again what an earlier run recorded as failed')
    add(
        '--ranks-per-snapshot',
        type=int,
        metavar='N',
        help='under mpiexec: ranks that share one calculation (default: all that GPAW can use)',
    )
    add('--txt', metavar='FILE', help="GPAW's log of the calculation at hand ('-': standard output)")
    add('--quiet', action='store_true', help='no progress bar')


def run(args: argparse.Namespace) -> int:
    """Exit code 0: all there; 1: some failed."""
    from ase_deepdensity.reference.mpi import enable_mpi, mpi_rank

    enable_mpi()
    from tqdm import tqdm

    from ase_deepdensity.level import Level
    from ase_deepdensity.reference.frames import read_frames
    from ase_deepdensity.reference.generate import generate

    level = Level.load(args.level)
    frames = read_frames(args.geometries)
    master = not mpi_rank()
    summary = generate(
        frames,
        args.out,
        level,
        retry_failed=args.retry_failed,
        txt=args.txt,
        ranks_per_snapshot=args.ranks_per_snapshot,
        progress=not args.quiet,
        log=tqdm.write if not args.quiet else print,
    )
    if master:
        print(f'{args.out}: level {level.name}')
        print('\n'.join(summary.lines()), flush=True)
    return 1 if summary.failed else 0
