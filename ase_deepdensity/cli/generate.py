"""``deepdensity generate``: reference densities of geometries."""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from functools import cache, partial
from typing import TYPE_CHECKING, Any

from ase_deepdensity.arguments import whole
from ase_deepdensity.cli.outputs import check_output

if TYPE_CHECKING:
    from ase import Atoms

    from ase_deepdensity.level import Level
    from ase_deepdensity.model import DensityModel
    from ase_deepdensity.snapshot import Snapshot


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add(
        'geometries',
        nargs='+',
        metavar='GEOMETRIES',
        help='files in any format that ASE reads, all frames ("traj.xyz@::10" takes every tenth)',
    )
    add('out', metavar='OUT', help='folder for the snapshots; the same command continues a killed run')
    add(
        '--level',
        required=True,
        help='level of theory: pw400, dzp, general-pw400, ks1d (chains), or a JSON file of parameters',
    )
    add(
        '--start', metavar='MODEL', help="start GPAW's cycles from this model's predictions (a model of the same level)"
    )
    add('--workers', type=int, default=1, metavar='N', help='processes to share the work, one core each (%(default)s)')
    add(
        '--scheduler',
        metavar='ADDRESS|FILE',
        help='have the workers of a dask.distributed cluster calculate (tcp://HOST:PORT, or its --scheduler-file)',
    )
    add('--time-limit', type=float, metavar='SECONDS', help='of CPU time: a calculation that takes more has failed')
    add('--retry-failed', action='store_true', help='calculate again what an earlier run recorded as failed')
    add(
        '--ranks-per-snapshot',
        type=int,
        metavar='N',
        help='under mpiexec: ranks that share one calculation (default: all that GPAW can use)',
    )
    add('--txt', metavar='FILE', help="GPAW's log of the calculation at hand ('-': standard output)")
    add('--quiet', action='store_true', help='no progress bar')


@dataclass(frozen=True)
class Seeded:
    """Calculates snapshots from the predictions of a model, in whatever process it is sent to."""

    name: str

    def __call__(self, atoms: Atoms, level: Level, **options: Any) -> Snapshot:
        from ase_deepdensity.codes.gpaw.reference import calculate
        from ase_deepdensity.scf.calculator import SeededGPAW

        return calculate(atoms, level, calculator=partial(SeededGPAW, load(self.name)), **options)


@cache
def load(name: str) -> DensityModel:
    from ase_deepdensity.model import DensityModel

    return DensityModel.load(name)


def _seeded(name: str, level: Level) -> Seeded:
    """What starts from a model, if that is of the level."""
    from ase_deepdensity.level import LevelError

    if differences := load(name).differences(level):
        raise LevelError(f'--start {name}: the model is of another level of theory: {"; ".join(differences)}')
    if level.code != 'gpaw':
        raise LevelError(f'--start {name}: only GPAW starts from a prediction, not {level.code}')
    return Seeded(name)


def run(args: argparse.Namespace) -> int:
    """Exit code 0: all there; 1: some failed."""
    from ase_deepdensity.codes.gpaw.mpi import enable_mpi
    from ase_deepdensity.launchers import mpi_rank

    enable_mpi()
    from tqdm import tqdm

    from ase_deepdensity.codes.gpaw.require import require_gpaw
    from ase_deepdensity.frames import read_frames
    from ase_deepdensity.generate.folder import generate
    from ase_deepdensity.level import Level
    from ase_deepdensity.model_files import model_path

    if not args.out or '\0' in args.out:
        raise ValueError(f'OUT must be the name of a folder, not {args.out!r}')
    if args.start is not None:
        model_path(args.start)
    if args.txt not in (None, '-'):
        check_output('--txt', args.txt)
    if args.ranks_per_snapshot is not None:
        whole('--ranks-per-snapshot', args.ranks_per_snapshot, least=1)
    level = Level.load(args.level)
    if level.code == 'gpaw':
        require_gpaw('"deepdensity generate" at this level of theory')
    frames = read_frames(args.geometries)
    master = not mpi_rank()
    summary = generate(
        frames,
        args.out,
        level,
        retry_failed=args.retry_failed,
        time_limit=args.time_limit,
        workers=args.workers,
        scheduler=args.scheduler,
        txt=args.txt,
        ranks_per_snapshot=args.ranks_per_snapshot,
        progress=not args.quiet,
        log=tqdm.write if not args.quiet else print,
        calculate=_seeded(args.start, level) if args.start is not None else None,
    )
    if master:
        print(f'{args.out}: level {level.name}')
        print('\n'.join(summary.lines()), flush=True)
    return 1 if summary.failed else 0
