"""``deepdensity adapt``: a model that has learned a few snapshots."""

from __future__ import annotations

import argparse


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        f'{parser.description} It gets other weights of its last layer, in closed form. Each snapshot is left out '
        'in turn to see how far to go; where they gain nothing by it, nothing is changed and no file is written.'
    )
    add = parser.add_argument
    add('model', metavar='MODEL', help='a name or a file')
    add('dataset', nargs='+', metavar='DATASET', help="folders of 1 to 20 snapshots at the model's level of theory")
    add('--out', required=True, metavar='FILE', help='model file to write')


def run(args: argparse.Namespace) -> int:
    from pathlib import Path

    from ase_deepdensity.cli.outputs import check_output
    from ase_deepdensity.dataset import Dataset
    from ase_deepdensity.model import SUFFIX, DensityModel, model_path
    from ase_deepdensity.training.adapt import adapt

    out = Path(args.out.removesuffix(SUFFIX) + SUFFIX)
    if not out.name.removesuffix(SUFFIX):
        raise ValueError(f'--out must be the name of a model file, not {args.out!r}')
    check_output('--out', str(out))
    if out.exists() and out.samefile(model_path(args.model)):
        raise ValueError(f'--out {out} is the model itself; write to another file')
    model = DensityModel.load(args.model)
    adapted, report = adapt(model, Dataset(args.dataset))
    if report.strength is None and report.matrix_strength is None:
        print(f'{model.name}: no change of its last layer serves the snapshots that were left out; nothing is written')
        return 1
    adapted.card['name'] = out.name.removesuffix(SUFFIX)
    adapted.save(out)
    left_out = '' if report.left_out is None else f', {report.left_out:.3f} % of snapshots left out'
    print(f'{out}: NMAE {report.before:.3f} → {report.after:.3f} % of these snapshots{left_out} (not normalised)')
    return 0
