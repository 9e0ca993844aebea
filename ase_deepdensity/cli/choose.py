"""``deepdensity choose``: of many geometries those that a model would learn most from."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ase import Atoms

    from ase_deepdensity.model import DensityModel


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        f'{parser.description} First those of which a second of their calculation adds most: atoms in environments '
        'that neither the known data nor those chosen before resemble. Elements that the model does not know come '
        'before all.'
    )
    add = parser.add_argument
    add('pool', nargs='+', metavar='POOL', help='files of geometries to choose from')
    add('out', metavar='OUT', help='file to write, in the order of choice, any format of ASE for several frames')
    add('--model', required=True, metavar='MODEL', help='whose view of environments counts: a shipped name or a file')
    add('--known', nargs='+', default=[], metavar='DATASET', help='folders of snapshots that are there already')
    add('-n', '--number', type=int, metavar='N', help='geometries to choose (default: all, in order)')
    add('--hours', type=float, metavar='H', help='stop at an estimated cost of so many core-hours')


def run(args: argparse.Namespace) -> int:
    from importlib.util import find_spec

    from ase.io import write

    from ase_deepdensity.arguments import real, whole
    from ase_deepdensity.cli.outputs import check_frames_format, check_output
    from ase_deepdensity.files import replacing_path
    from ase_deepdensity.frames import read_frames
    from ase_deepdensity.model import DensityModel
    from ase_deepdensity.sampling.cost import estimated_seconds

    number = None if args.number is None else whole('--number', args.number, least=1)
    hours = float('inf') if args.hours is None else real('--hours', args.hours, above=0)
    out = check_output('OUT', args.out)
    check_frames_format(args.out, number)
    if find_spec('spglib') is None:  # symmetry tells what a calculation costs
        raise ImportError(
            "choose needs spglib, which is not installed: pip install 'ase_deepdensity[sampling-general]'"
        )
    model = DensityModel.load(args.model)
    pool, known = read_frames(args.pool), _calculated(args.known)
    seconds = [estimated_seconds(atoms, model.level) for atoms in pool]
    chosen: list[Atoms] = []
    spent = 0.0
    for n in _order(pool, known, seconds, model):
        if len(chosen) == number or spent + seconds[n] > 3600 * hours:
            break
        chosen.append(pool[n])
        spent += seconds[n]
    if not chosen:
        raise ValueError(f'--hours {hours}: the first geometry alone is estimated at {seconds[n] / 3600:.3f} hours')
    with replacing_path(out) as temporary:
        write(temporary, chosen)
    print(f'{out}: {len(chosen)} of {len(pool)} geometries, estimated: {spent / 3600:.1f} core-hours')
    return 0


def _calculated(folders: Sequence[str]) -> list[Atoms]:
    """The atoms of snapshots."""
    from ase_deepdensity.dataset import Dataset

    datasets = [Dataset(folder) for folder in folders]
    return [dataset.outline(t).atoms for dataset in datasets for t in range(len(dataset))]


def _order(
    pool: Sequence[Atoms], known: Sequence[Atoms], seconds: Sequence[float], model: DensityModel
) -> Iterator[int]:
    """Indices of the pool: elements that the model does not know, cheap ones first; then what adds most per second."""
    from tqdm import tqdm

    from ase_deepdensity.sampling.choose import choose, environments

    knows = [set(atoms.numbers.tolist()) <= set(model.species) for atoms in pool]
    new = sorted((n for n, known_n in enumerate(knows) if not known_n), key=lambda n: seconds[n])
    old = [n for n, known_n in enumerate(knows) if known_n]
    usable = [atoms for atoms in known if set(atoms.numbers.tolist()) <= set(model.species)]
    with tqdm(total=len(old) + len(usable), unit='geometry', mininterval=1) as bar:
        of_known = environments(usable, model, bar.update)
        of_pool = environments([pool[n] for n in old], model, bar.update)
    yield from new
    if old:
        yield from (old[n] for n in choose(of_pool, of_known, [seconds[n] for n in old]))
