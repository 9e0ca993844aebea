"""``deepdensity advise``: what more snapshots would bring, and what a model has not seen the like of."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ase_deepdensity.model import DensityModel
    from ase_deepdensity.training.advise import Advice


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        f'{parser.description} The last layer of the model is fitted to growing parts of the data set in closed form '
        'and measured on the rest; a power law tells of more. Snapshots that the model was trained on tell nothing.'
    )
    add = parser.add_argument
    add('model', metavar='MODEL', help='name of a shipped model, or a model file')
    add('dataset', nargs='+', metavar='DATASET', help="folders of 4 or more snapshots at the model's level of theory")
    add('--error', type=float, metavar='%', help='tell how many snapshots would bring this NMAE')
    add('--plot', metavar='FILE', help='picture of the learning curve: PNG, PDF or SVG')
    add('--json', metavar='FILE', help='write all figures to a file, too')


def run(args: argparse.Namespace) -> int:
    from ase_deepdensity.arguments import real
    from ase_deepdensity.cli.outputs import PICTURES, check_output
    from ase_deepdensity.model_files import model_path

    if args.error is not None:
        real('--error', args.error, above=0)
    model_path(args.model)
    if args.plot is not None:
        check_output('--plot', args.plot, PICTURES)
    if args.json is not None:
        check_output('--json', args.json)
    from tqdm import tqdm

    from ase_deepdensity.dataset import Dataset
    from ase_deepdensity.model import DensityModel
    from ase_deepdensity.training.advise import advise

    dataset, model = Dataset(args.dataset), DensityModel.load(args.model)
    with tqdm(unit='step', mininterval=1, leave=False) as bar:

        def progress(done: int, of: int) -> None:
            bar.total = of
            bar.update(done - bar.n)

        advice = advise(model, dataset, progress)
    print('\n'.join(lines(model, advice, args.error)))
    if args.json:
        _write_json(args.json, model, advice)
    if args.plot:
        from ase_deepdensity.plot.learning import plot_learning

        curve = advice.curve
        expected = {n: curve.expected(n) for n in [*curve.sizes, *advice.numbers_ahead]}
        plot_learning(curve.sizes, curve.repetitions, expected, curve.before).savefig(args.plot, dpi=120)
        print(f'wrote {args.plot}')
    return 0


def lines(model: DensityModel, advice: Advice, wanted: float | None) -> Iterator[str]:
    """Two tables, and what follows from them."""
    curve = advice.curve
    yield f'{"snapshots":>12}{"NMAE, %":>10}   of {advice.snapshots} snapshots those that were left out'
    yield f'{"0":>12}{curve.before:10.3f}   {model.name} as it is'
    for n, error in zip(curve.sizes, curve.errors, strict=True):
        yield f'{n:12}{error:10.3f}   its last layer fitted to them'
    if curve.is_flat:
        yield 'more such snapshots would bring the last layer nothing that can be seen: fine-tune, or take others'
    else:
        for n in advice.numbers_ahead:
            error, spread = curve.expected(n)
            yield f'{n:12}{error:10.3f}   expected, ± {spread:.3f} (falls as n^{-curve.power_law[1]:.2f})'
    if wanted is not None:
        number = curve.number_for(wanted)
        count = f'about {number:.0f}' if number < 1e6 else 'more than a million'
        yield f'{wanted:g} % would take {count} snapshots by this law'
    yield f'{"element":>12}{"atoms":>10}{"median":>10}{"largest":>10}{"unfamiliar":>12}   worst'
    for row in advice.environments:
        where = 'snapshot {}, atom {}'.format(*row.worst)
        yield f'{row.symbol:>12}{row.atoms:10}{row.median:10.2f}{row.largest:10.2f}{row.unfamiliar:12}   {where}'
    missing = [row.symbol for row in advice.environments if row.unfamiliar]
    yield (
        f'environments unlike the training data: of {", ".join(missing)}; snapshots with such atoms bring most'
        if missing
        else 'all environments are like those of the training data'
    )


def _write_json(path: str, model: DensityModel, advice: Advice) -> None:
    import json

    from ase_deepdensity.files import replacing

    with replacing(path) as file:
        file.write(json.dumps({'model': model.name, **advice.to_dict()}, indent=1, ensure_ascii=False) + '\n')
    print(f'wrote {path}')
