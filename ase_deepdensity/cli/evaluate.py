"""``deepdensity evaluate``: the errors of a model on a data set."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ase_deepdensity.analysis.scores import Scores
    from ase_deepdensity.dataset import Dataset, Snapshot
    from ase_deepdensity.level import Level
    from ase_deepdensity.model import DensityModel
    from ase_deepdensity.predict import Predictor


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add('model', metavar='MODEL', help='name of a shipped model, or a model file')
    add('dataset', nargs='+', metavar='DATASET', help='folders of snapshots at one level of theory')
    add('--json', metavar='FILE', help='write all figures to a file, too')
    add(
        '--on-mismatch',
        choices=('error', 'warn'),
        default='error',
        help='what to do if model and data set are at different levels of theory (default: %(default)s)',
    )
    add(
        '--plot',
        metavar='FILE',
        help='picture of the snapshot with the largest error (predicted, reference, difference): PNG, PDF or SVG',
    )
    add('--record', metavar='LABEL', help="write the mean errors into the model's card, under this label")
    add('--device', help='cpu (default) or cuda')
    add('--float64', action='store_true', help='double precision')


def run(args: argparse.Namespace) -> int:
    from ase_deepdensity.cli.outputs import PICTURES, check_output
    from ase_deepdensity.model_files import model_path

    model_path(args.model)
    if args.json is not None:
        check_output('--json', args.json)
    if args.plot is not None:
        check_output('--plot', args.plot, PICTURES)
    import warnings

    import numpy as np
    import torch
    from ase.data import chemical_symbols

    from ase_deepdensity.analysis.scores import mean_scores, model_means, reference_spreads, score
    from ase_deepdensity.cli.warn import plain_warnings
    from ase_deepdensity.dataset import Dataset
    from ase_deepdensity.model import DensityModel
    from ase_deepdensity.predict import Predictor

    model, dataset = DensityModel.load(args.model), Dataset(args.dataset)
    differences = check_level(model, dataset.level, warn=args.on_mismatch == 'warn')
    dtype = torch.float64 if args.float64 else torch.float32
    predictor, warm_up = (
        Predictor(model, level=dataset.level, device=args.device, dtype=dtype, extrapolate=True) for _ in range(2)
    )
    if unknown := [chemical_symbols[Z] for Z in dataset.numbers if Z not in model.species]:
        raise ValueError(f'the data set has {", ".join(unknown)}; {model.name} knows {", ".join(model.symbols)} only')
    means = model_means(model)
    spreads = reference_spreads(dataset, means)
    polarised = any(dataset.outline(i).nspins == 2 for i in range(len(dataset)))
    with warnings.catch_warnings(action='ignore'):  # loads and compiles; the other still has its warnings to give
        warm_up.predict(dataset[0].atoms, dataset[0].density.grid)

    print(f'{model.name} on {dataset.files[0].parent}, level {dataset.level.name}')
    rows = []
    for file, snapshot in zip(dataset.files, dataset, strict=True):
        with plain_warnings():
            rows.append(score(predictor.predict, snapshot, means, file.stem, spreads))
        if len(rows) == 1:
            print('\n'.join(_head(rows[0], polarised)))
        print(_line(rows[-1], polarised), flush=True)
    summary = mean_scores(rows)
    print(_mean_line(summary, polarised))
    if args.json:
        _write_json(args.json, model, dataset, differences, rows, summary)
    if args.plot:
        _plot(args.plot, predictor, dataset[int(np.argmax([row.comparison.nmae for row in rows]))])
    if args.record:
        _record(args.record, args.model, summary)
    return 0


def check_level(model: DensityModel, level: Level, *, warn: bool) -> list[str]:
    """Differences between the levels of a model and of a data set: an error, or a warning when asked for."""
    import sys

    differences = model.differences(level)
    if differences:
        text = f'the data set is at another level of theory than {model.name}: {"; ".join(differences)}'
        if not warn:
            raise ValueError(f'{text} ("--on-mismatch warn" evaluates all the same)')
        print(f'warning: {text}', file=sys.stderr)
    return differences


WIDTH = 24


def _head(row: Scores, polarised: bool) -> Iterator[str]:
    of_m, percent = (f'{"NMAE of m":>11}', f'{"%":>11}') if polarised else ('', '')
    symbols = ''.join(f'{f"ε_D {symbol}":>11}' for symbol in row.comparison.epsilon_D)
    yield f'{"snapshot":{WIDTH}}{"atoms":>6}{"NMAE":>10}{of_m}{symbols}{"dipole":>11}{"electrons":>13}{"time":>9}'
    yield f'{"":{WIDTH}}{"":6}{"%":>10}{percent}{"":{11 * len(row.comparison.epsilon_D)}}{"e·Å":>11}{"":13}{"s":>9}'


def _line(row: Scores, polarised: bool) -> str:
    c = row.comparison
    return (
        f'{row.name:{WIDTH}}{row.natoms:6}{c.nmae:10.4f}'
        f'{_columns({"m": c.magnetisation_nmae} if polarised else {})}{_columns(c.epsilon_D)}'
        f'{c.dipole_error:11.4f}{row.electrons:13.5f}{row.seconds:9.3f}'
    )


def _mean_line(summary: dict[str, Any], polarised: bool) -> str:
    label = f'mean of {summary["snapshots"]}'
    return (
        f'{label:{WIDTH}}{"":6}{summary["nmae"]:10.4f}'
        f'{_columns({"m": summary["magnetisation_nmae"]} if polarised else {})}{_columns(summary["epsilon_D"])}'
        f'{summary["dipole_error"]:11.4f}{"":13}{summary["seconds"]:9.3f}'
    )


def _columns(values: Mapping[str, float | None]) -> str:
    return ''.join(f'{"–":>11}' if value is None or value != value else f'{value:11.4f}' for value in values.values())


def _record(label: str, name_or_path: str, summary: dict[str, Any]) -> None:
    """Write mean errors into the card of a model."""
    from ase_deepdensity.model import DensityModel, model_path

    model = DensityModel.load(name_or_path)
    measured = {
        'snapshots': summary['snapshots'],
        'NMAE of ñ, %': round(summary['nmae'], 4),
        'ε_D': {symbol: round(value, 4) for symbol, value in summary['epsilon_D'].items() if value is not None},
        'dipole, e·Å': round(summary['dipole_error'], 4),
    }
    if summary['magnetisation_nmae'] is not None:
        measured['NMAE of m, %'] = round(summary['magnetisation_nmae'], 4)
    model.card['measured'] = model.card.get('measured', {}) | {label: measured}
    model.save(model_path(name_or_path))
    print(f'recorded in the card of {model.name}')


def _plot(path: str, predictor: Predictor, snapshot: Snapshot) -> None:
    """The plane through the atom nearest to the middle of the cell."""
    import warnings

    from ase_deepdensity.checks import UnfamiliarWarning
    from ase_deepdensity.plot.pictures import plot_difference

    heights_a = snapshot.atoms.get_scaled_positions()[:, 2]
    position = heights_a[abs(heights_a - 0.5).argmin()]
    with warnings.catch_warnings(action='ignore', category=UnfamiliarWarning):  # it has been given with the errors
        predicted = predictor.predict(snapshot.atoms, snapshot.density.grid)
    predicted = predicted.with_spins(snapshot.density.nspins)
    plot_difference(predicted, snapshot.density, position=position).savefig(path, dpi=120)
    print(f'wrote {path}')


def _write_json(
    path: str,
    model: DensityModel,
    dataset: Dataset,
    differences: list[str],
    rows: list[Scores],
    summary: dict[str, Any],
) -> None:
    import json

    from ase_deepdensity.files import replacing

    content = {
        'model': model.name,
        'level': dataset.level.to_dict(),
        'level differences': differences,
        'mean': summary,
        'snapshots': [row.to_dict() for row in rows],
    }
    with replacing(path) as file:
        file.write(json.dumps(content, indent=1, ensure_ascii=False) + '\n')
    print(f'wrote {path}')
