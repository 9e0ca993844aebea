"""``deepdensity sample``: geometries to calculate reference densities of."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

from ase_deepdensity.cli import from_files

if TYPE_CHECKING:
    from ase import Atoms

MAX_NUMBER = 10**6
"""Geometries in one file; they are held in memory until all are there."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    kinds = parser.add_subparsers(dest='kind', metavar='KIND', required=True)
    water = _dynamics(kinds, 'water', 'flexible TIP3P-FB water in a periodic cube (needs OpenMM)', (300.0, 10.0, 1.0))
    water.add_argument(
        '--molecules', type=int, default=32, metavar='N', help='in the liquid or to cut from (default: %(default)s)'
    )
    water.add_argument('--density', type=float, metavar='G/CM3', help='of the liquid (default: 0.997)')
    water.add_argument('--cluster', type=int, metavar='N', help='cut N molecules out of the liquid, into vacuum')
    water.add_argument(
        '--vacuum', type=float, metavar='Å', help='between a cluster and the faces of its cell (default: 3.0)'
    )
    water.add_argument('--no-pbc', action='store_true', help='a cluster without periodic boundaries')

    metal = _dynamics(kinds, 'metal', "an fcc metal in ASE's EMT potential", (600.0, 2.0, 1.0))
    metal.add_argument(
        '--symbol', default='Al', metavar='ELEMENT', help='Al, Cu, Ag, Au, Ni, Pd or Pt (default: %(default)s)'
    )
    cell = metal.add_mutually_exclusive_group()
    cell.add_argument(
        '--repeat', type=int, nargs=3, default=(2, 2, 2), metavar='N', help='cubic cells of 4 atoms (default: 2 2 2)'
    )
    cell.add_argument(
        '--sites', type=int, metavar='N', help='every geometry in another cell of N sites, of any compact shape'
    )
    metal.add_argument('--vacancies', type=int, default=0, metavar='N', help='atoms to take out (default: %(default)s)')

    molecule = _dynamics(kinds, 'molecule', 'a molecule in vacuum, GFN2-xTB (needs tblite)', (300.0, 0.5, 0.2))
    molecule.add_argument(
        '--name', default='CH3CH2OH', metavar='MOLECULE', help='as ase.build.molecule knows it (default: %(default)s)'
    )
    molecule.add_argument(
        '--vacuum', type=float, default=4.0, metavar='Å', help='to each face of the cell (default: %(default)s)'
    )

    chain = _kind(kinds, 'chain', 'atoms on a line, displaced at random, for the level ks1d', '')
    chain.add_argument(
        '--kind',
        dest='chain',
        choices=('insulator', 'metal', 'mixed'),
        required=True,
        help='He, Be, or half of each in random order',
    )
    chain.add_argument('--atoms', type=int, default=16, metavar='N', help='in the periodic cell (default: %(default)s)')
    chain.add_argument(
        '--jitter',
        type=float,
        default=0.5,
        metavar='Å',
        help='standard deviation of displacements (default: %(default)s)',
    )

    perturb = _kind(
        kinds, 'perturb', 'geometries of files: rattled, strained, repeated, with vacancies', '', files=True
    )
    from_files.add_perturb(perturb)
    text, defaults = "any atoms, with any calculator of ASE's", (300.0, 1.0, 0.1)
    from_files.add_dynamics(_dynamics(kinds, 'dynamics', text, defaults, files=True))

    for family, text in FAMILIES.items():
        general = _kind(kinds, family, text, '')
        general.set_defaults(number=None)
        general.add_argument(
            '--stage', metavar='NAME', help='of the plan, its other stages left out (a wrong name lists all)'
        )


FAMILIES = {
    'plan': 'all of the following, in an order from which a model learns most (needs pymatgen and chgnet)',
    'crystals': 'compounds of all elements: as they are, strained, rattled, with vacancies',
    'surfaces': 'slabs, layers, molecules and atoms on metals',
    'molecules': 'molecules of all elements, hydrogen-bonded pairs, salts',
    'melts': "liquids of few atoms in a universal potential's dynamics",
    'held-out': 'what models are judged by and never trained on',
    'spin': 'magnetic crystals and radicals, with moments',
}
"""Parts of a plan for all elements."""


def _kind(
    kinds: argparse._SubParsersAction[argparse.ArgumentParser],
    name: str,
    text: str,
    method: str,
    *,
    files: bool = False,
) -> argparse.ArgumentParser:
    description = f'{method}{text}.'
    parser = kinds.add_parser(name, help=text, description=description[0].upper() + description[1:])
    add = parser.add_argument
    if files:
        add('files', nargs='+', metavar='FILE', help='geometries to begin with, in any format of ASE; each in turn')
    add('out', metavar='OUT', help='file to write, any format of ASE for several frames: OUT.xyz, OUT.traj')
    add('-n', '--number', type=int, default=10, metavar='N', help='geometries to write (default: %(default)s)')
    add(
        '--seed',
        type=int,
        default=0,
        metavar='N',
        help='the same seed gives the same geometries (default: %(default)s)',
    )
    return parser


def _dynamics(
    kinds: argparse._SubParsersAction[argparse.ArgumentParser],
    name: str,
    text: str,
    defaults: tuple[float, float, float],
    *,
    files: bool = False,
) -> argparse.ArgumentParser:
    parser = _kind(kinds, name, text, 'molecular dynamics of ', files=files)
    add = parser.add_argument
    temperature, equilibration, interval = defaults
    add('--temperature', type=float, default=temperature, metavar='K', help='of the thermostat (default: %(default)s)')
    add(
        '--equilibration',
        type=float,
        default=equilibration,
        metavar='PS',
        help='before the first (default: %(default)s)',
    )
    add('--interval', type=float, default=interval, metavar='PS', help='between geometries (default: %(default)s)')
    return parser


def run(args: argparse.Namespace) -> int:
    from ase.io import write
    from tqdm import tqdm

    from ase_deepdensity.cli.outputs import check_frames_format, check_output
    from ase_deepdensity.files import replacing_path

    if args.number is not None and not 1 <= args.number <= MAX_NUMBER:
        raise ValueError(f'--number must be at least 1, not {args.number}, and at most {MAX_NUMBER}')
    out = check_output('OUT', args.out)
    check_frames_format(args.out, args.number)
    try:
        with _resumable(args.kind, out):
            frames = list(tqdm(islice(_frames(args), args.number), total=args.number, unit='geometry', mininterval=1))
    except ModuleNotFoundError as error:
        raise ImportError(
            f'sampling {args.kind} needs {error.name}, which is not installed: '
            f"pip install 'ase_deepdensity[{'sampling-general' if args.kind in FAMILIES else 'sampling'}]'"
        ) from error
    with replacing_path(out) as temporary:
        write(temporary, frames)
    _energies_file(out).unlink(missing_ok=True)
    if args.kind in FAMILIES:
        print(f'{out}: {len(frames)} geometries\n{_summary(frames)}')
    else:
        formulas = sorted({atoms.get_chemical_formula() for atoms in frames})
        shown = ', '.join(formulas[:5]) + (', …' if len(formulas) > 5 else '')
        print(f'{out}: {len(frames)} geometries of {_span([len(atoms) for atoms in frames])} atoms ({shown})')
    return 0


def _span(numbers: list[int]) -> str:
    return f'{min(numbers)}' if min(numbers) == max(numbers) else f'{min(numbers)} to {max(numbers)}'


def _energies_file(out: Path) -> Path:
    """Where an interrupted plan finds the energies that it had calculated."""
    return out.with_name(f'.{out.name}.energies')


@contextmanager
def _resumable(kind: str, out: Path) -> Iterator[None]:
    """Plans take hours, nearly all of it for energies: these are kept beside OUT until it is there."""
    if kind not in FAMILIES:
        yield
        return
    from ase_deepdensity.sampling.potential import remembered_in

    with remembered_in(_energies_file(out)):
        yield


def _summary(frames: list[Atoms]) -> str:
    """What geometries of a plan cover, and what they will cost."""
    from ase_deepdensity.sampling.balance import coverage
    from ase_deepdensity.sampling.chemistry import ELEMENTS
    from ase_deepdensity.sampling.plan import estimated_hours

    table = coverage([(sorted(set(atoms.symbols)), atoms.info['kind']) for atoms in frames], ELEMENTS)
    return f'{table}\nestimated: {estimated_hours(frames):.1f} core-hours'


def _frames(args: argparse.Namespace) -> Iterator[Atoms]:
    if args.kind in FAMILIES:
        from ase_deepdensity.sampling.plan import structures

        return structures(None if args.kind == 'plan' else args.kind, args.stage, args.seed)
    from ase_deepdensity.arguments import real
    from ase_deepdensity.sampling import geometries

    if args.kind == 'chain':
        return geometries.chain(args.chain, args.atoms, seed=args.seed, jitter=args.jitter)
    if args.kind == 'perturb':
        return from_files.perturb(args)
    common = {
        'seed': args.seed,
        'temperature': args.temperature,
        'equilibration': args.equilibration,
        'interval': args.interval,
    }
    if args.kind == 'dynamics':
        return from_files.dynamics(args, common)
    if args.kind == 'metal':
        return geometries.metal(
            args.symbol, repeat=tuple(args.repeat), sites=args.sites, vacancies=args.vacancies, **common
        )
    if args.kind == 'molecule':
        return geometries.organic(args.name, vacuum=args.vacuum, **common)
    if args.cluster is not None and not 1 <= args.cluster <= args.molecules:
        raise ValueError(f'--cluster must be 1 to {args.molecules} (--molecules), not {args.cluster}')
    density = geometries.WATER_DENSITY if args.density is None else args.density
    liquid = geometries.water(args.molecules, density=density, **common)
    if args.cluster is None:
        if args.vacuum is not None or args.no_pbc:
            raise ValueError('--vacuum and --no-pbc are for clusters: give --cluster too')
        return liquid
    vacuum = real('--vacuum', geometries.CLUSTER_VACUUM if args.vacuum is None else args.vacuum, above=0, unit='Å')
    return (
        geometries.cluster(atoms, args.cluster, seed=args.seed + i, vacuum=vacuum, pbc=not args.no_pbc)
        for i, atoms in enumerate(liquid)
    )
