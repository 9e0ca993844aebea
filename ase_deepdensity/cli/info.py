"""``deepdensity info``: the card of a model."""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path

    from ase_deepdensity.model import DensityModel


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        'model', nargs='?', metavar='MODEL', help='name or file of a model (default: list the shipped ones)'
    )
    parser.add_argument('--json', action='store_true', help='print the same as JSON')


def run(args: argparse.Namespace) -> int:
    from ase_deepdensity.model_files import model_path, shipped_models

    if args.model is not None:
        description = _described(model_path(args.model))
        print(json.dumps(description, indent=1, ensure_ascii=False) if args.json else '\n'.join(_lines(description)))
    elif args.json:
        descriptions = {name: _described(model_path(name)) for name in shipped_models()}
        print(json.dumps(descriptions, indent=1, ensure_ascii=False))
    else:
        print('\n'.join(_list({name: model_path(name) for name in shipped_models()})))
    return 0


def _described(path: Path) -> dict[str, Any]:
    from ase_deepdensity.model import DensityModel  # imports torch: not before the name is known to be a model's

    return describe(DensityModel.load(path), path)


def describe(model: DensityModel, path: Path) -> dict[str, Any]:
    """What there is to know about a model, for people; JSON's types."""
    basis = model.architecture.basis
    return {
        'name': model.name,
        'elements': list(model.symbols),
        'level': model.level.to_dict(),
        'network': model.architecture.network,
        'hyper-parameters': dict(model.architecture.hypers),
        'parameters': model.number_of_parameters(),
        'radial functions': {
            'number': basis.number,
            'spacing, Å': round(basis.spacing, 4),
            'cutoff, Å': basis.cutoff,
            'lmax': basis.lmax,
        },
        'file': str(path),
        'bytes': path.stat().st_size,
        'card': {key: value for key, value in model.card.items() if key != 'name'},
    }


def _list(paths: dict[str, Path]) -> Iterator[str]:
    """A line for each model, from its header alone, which is quick."""
    from ase.data import chemical_symbols

    from ase_deepdensity.model_content import read_header

    if not paths:
        yield 'no models are shipped with this package'
    for name, path in paths.items():
        header = read_header(path)
        symbols = ' '.join(chemical_symbols[number] for number in header['architecture']['species'])
        yield f'{name:24} {symbols:12} level {header["level"]["name"]:10} {_megabytes(path.stat().st_size)}'
    if paths:
        yield '"deepdensity info MODEL" shows the card of one'


def _lines(d: dict[str, Any]) -> Iterator[str]:
    yield d['name']
    yield f'  elements          {" ".join(d["elements"])}'
    yield f'  file              {d["file"]}, {_megabytes(d["bytes"])}'
    yield f'  network           {d["network"]}, {d["parameters"]} parameters'
    yield f'                    {_inline(d["hyper-parameters"])}'
    yield f'  radial functions  {_inline(d["radial functions"])}'
    yield f'  level             {d["level"]["name"]}: {_inline(d["level"]["parameters"])}'
    yield from (f'                    {line}' for line in _versions(d['level']['versions']))
    yield from _tree(d['card'], '  ')


def _versions(versions: dict[str, Any]) -> Iterator[str]:
    plain = {key: value for key, value in versions.items() if key != 'datasets'}
    if plain:
        yield _inline(plain)
    yield from (f'dataset {symbol}: {md5}' for symbol, md5 in versions.get('datasets', {}).items())


def _tree(value: dict[str, Any], indent: str) -> Iterator[str]:
    for key, item in value.items():
        if isinstance(item, dict) and len(_inline(item)) > 80:
            yield f'{indent}{key}'
            yield from _tree(item, indent + '  ')
        else:
            yield f'{indent}{key:{max(18 - len(indent) + 2, len(key) + 1)}}{_inline(item)}'


def _inline(value: Any) -> str:
    if isinstance(value, dict):
        return ', '.join(f'{key} {_inline(item)}' for key, item in value.items())
    if isinstance(value, list):
        return ' '.join(_inline(item) for item in value)
    return str(value)


def _megabytes(size: int) -> str:
    return f'{size / 1e6:.2f} MB'
