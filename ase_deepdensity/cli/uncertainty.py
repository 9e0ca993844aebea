"""``deepdensity uncertainty``: error bars for a trained model."""

from __future__ import annotations

import argparse


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        f'{parser.description} They say how wrong its predictions are likely to be, from the data that it was '
        'trained on and from snapshots that took no part in the training. "predict" then tells the expected error.'
    )
    add = parser.add_argument
    add('model', metavar='MODEL', help='a name or a file')
    add(
        'dataset',
        nargs='*',
        metavar='DATASET',
        help='folders of snapshots that it was trained on; without any, the error bars that it has stay as they are, '
        'but for how large those of D and of the dipole are, which is measured on --held-out',
    )
    add(
        '--held-out',
        nargs='+',
        metavar='DATASET',
        help='folders of snapshots that took no part in the training (default: those of DATASET that it was validated '
        'on, if these are all and only the data of its training)',
    )
    add('--out', metavar='FILE', help='model file to write (default: the same file; shipped models need it)')


def run(args: argparse.Namespace) -> int:
    import math
    from pathlib import Path

    from ase_deepdensity.cli.outputs import check_output
    from ase_deepdensity.dataset import Dataset
    from ase_deepdensity.model import SHIPPED, SUFFIX, DensityModel, model_path
    from ase_deepdensity.training.error_bars import held_out_part, with_error_bars, with_factors

    path = model_path(args.model)
    out = path if args.out is None else Path(args.out.removesuffix(SUFFIX) + SUFFIX)
    if not out.name.removesuffix(SUFFIX):
        raise ValueError(f'--out must be the name of a model file, not {args.out!r}')
    if out.resolve().parent == SHIPPED.resolve():
        raise ValueError(f'{out.name} is shipped with this program and stays as it is: give --out FILE')
    if args.out is not None:
        check_output('--out', str(out))
    model = DensityModel.load(path)
    if not args.dataset:
        if args.held_out is None:
            raise ValueError('give DATASET, the data of the training, or --held-out, or both')
        held_out = Dataset(args.held_out)
        model = with_factors(model, held_out, progress=True)
        source = f'those of D and the dipole as large as on {len(held_out)} held-out snapshots'
    else:
        training = Dataset(args.dataset)
        if args.held_out is None:
            training, held_out = held_out_part(model, training)
        else:
            held_out = Dataset(args.held_out)
        model = with_error_bars(model, training, held_out, progress=True)
        source = f'from {len(training)} snapshots of its training and {len(held_out)} held out'
    if args.out is not None:
        model.card['name'] = out.name.removesuffix(SUFFIX)
    model.save(out)
    assert model.error_bars is not None
    print(
        f'{out}: error bars, {source}; '
        f'the NMAE of two of three held-out systems is within a factor of {math.exp(model.error_bars.spread):.2f}.\n'
        'Of held-out formulas, each tenth with error bars that were made without it:'
    )
    for name, figure in model.card['error bars'].items():
        print(f'{name:36}{figure:g}')
    return 0
