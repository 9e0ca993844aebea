"""``deepdensity analyse``: what a density tells of its atoms, in figures."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from ase_deepdensity.arguments import one_of, whole
from ase_deepdensity.cli.outputs import PICTURES, check_output
from ase_deepdensity.cli.states import is_density, read_density_file, states

if TYPE_CHECKING:
    from ase_deepdensity.state import PAWDensity

QUANTITIES = {
    'hirshfeld': 'Hirshfeld charges',
    'bader': 'Bader charges',
    'mbis': 'minimal-basis iterative stockholder charges',
    'voronoi': 'Voronoi charges',
    'vdd': 'Voronoi deformation density charges',
    'volumes': 'Hirshfeld volumes over those of isolated atoms (TS, MBD)',
    'multipoles': 'charge, dipole and quadrupole moment',
    'slab': 'electrostatic potential across a slab, vacuum levels, dipole moment',
    'workfunction': 'work functions of both surfaces of a slab, without an SCF cycle',
    'overlap': 'overlap with the density of --other, and similarity to it',
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add('source', metavar='FILE', help='density (FILE.h5, FILE.gpw), or geometries in any format that ASE reads')
    add(
        'words',
        metavar='[MODEL] QUANTITY',
        nargs='+',
        help='for geometries the model that predicts their densities; then one or more of '
        + '; '.join(f'{name}: {what}' for name, what in QUANTITIES.items()),
    )
    add('--other', metavar='FILE', help='density (FILE.h5, FILE.gpw) on the same grid, for overlap')
    add(
        '--refinement',
        type=int,
        metavar='N',
        help='points per interval of the grid, for all-electron densities (default: 2, of bader 4, of mbis 1)',
    )
    add('--extrapolate', action='store_true', help='predict with a warning even where the prediction means nothing')
    add('--plot', metavar='FILE', help='picture of the potential across a slab: PNG, PDF or SVG; of the first density')
    add('--json', metavar='FILE', help='write the figures: a list with one entry for each density')


def run(args: argparse.Namespace) -> int:
    model, names = _model_and_names(args)
    if args.json:
        check_output('--json', args.json)
    if args.plot:
        check_output('--plot', args.plot, PICTURES)
        if 'slab' not in names:
            raise ValueError('--plot shows the potential across a slab: name the quantity slab')
    if args.refinement is not None:
        whole('--refinement', args.refinement, least=1, most=16)
    if ('overlap' in names) != (args.other is not None):
        raise ValueError('overlap, and nothing else, needs another density: analyse A.h5 overlap --other B.h5')
    other = None if args.other is None else read_density_file(args.other)
    rows = list[dict[str, Any]]()
    for state in states(args.source, model, extrapolate=args.extrapolate):
        row = _figures(state, names, other, args.refinement)
        print('\n'.join(_lines(row)), flush=True)
        if args.plot and not rows:
            _plot(args.plot, state, row.get('workfunction'))
        rows.append(row)
    if args.json:
        _write_json(args.json, rows)
    return 0


def _model_and_names(args: argparse.Namespace) -> tuple[str | None, list[str]]:
    words: list[str] = args.words
    model = None if is_density(args.source) else words[0]
    names = words if model is None else words[1:]
    if not names or model in QUANTITIES:
        raise ValueError(
            f'analyse {args.source} {" ".join(words)}: geometries need a model, and at least one quantity after it: '
            f'{", ".join(QUANTITIES)}'
        )
    return model, [one_of('the quantity', name, QUANTITIES) for name in dict.fromkeys(names)]


def _figures(
    state: PAWDensity, names: Sequence[str], other: PAWDensity | None, refinement: int | None
) -> dict[str, Any]:
    from ase_deepdensity.analysis.figures import OF_ATOMS, OF_THE_WHOLE, overlap

    options = {} if refinement is None else {'gridrefinement': refinement}
    row: dict[str, Any] = {'formula': state.atoms.get_chemical_formula(), 'atoms': list(state.atoms.symbols)}
    for name in names:
        if name in OF_ATOMS:
            row[name] = OF_ATOMS[name][0](state, **options).tolist()
        elif other is not None and name == 'overlap':
            row[name] = overlap(state, other, **options)
        elif name == 'workfunction':
            row[name] = _work_functions(state)
        else:
            row[name] = OF_THE_WHOLE[name][0](state)
    return row


def _work_functions(state: PAWDensity) -> dict[str, Any]:
    from ase_deepdensity.scf.work_function import work_functions

    found = work_functions(state)
    return {'below, eV': found.below, 'above, eV': found.above, 'Fermi level, eV': found.fermi_level}


def _lines(row: dict[str, Any]) -> Iterator[str]:
    """A table of the atoms, and what belongs to all of them."""
    yield row['formula']
    of_atoms = {name: value for name, value in row.items() if name in QUANTITIES and isinstance(value, list)}
    if of_atoms:
        yield f'{"atom":>6}   ' + ''.join(f'{name:>12}' for name in of_atoms)
        for a, symbol in enumerate(row['atoms']):
            yield f'{a:6} {symbol:2}' + ''.join(f'{value[a]:12.4f}' for value in of_atoms.values())
        yield f'{"sum":>6}   ' + ''.join(f'{sum(value):12.4f}' for value in of_atoms.values())
    for name, value in row.items():
        if isinstance(value, dict):
            shown = {label: figure for label, figure in value.items() if not _is_long(figure)}
            yield from (f'{name}: {label}  {_shown(figure)}' for label, figure in shown.items())


def _plot(path: str, state: PAWDensity, work_functions: dict[str, Any] | None) -> None:
    """With the Fermi level, if it was asked for."""
    import numpy as np

    from ase_deepdensity.analysis.slab import slab_axis, slab_potential
    from ase_deepdensity.plot.slab import plot_slab

    axis = slab_axis(state)
    heights_a = state.relpos_ac()[:, axis] * np.linalg.norm(state.grid.cell_cv[axis])
    fermi_level = None if work_functions is None else work_functions['Fermi level, eV']
    plot_slab(slab_potential(state), heights_a.tolist(), fermi_level).savefig(path, dpi=120)
    print(f'wrote {path}')


def _is_long(value: Any) -> bool:
    """Is it for files only?"""
    return isinstance(value, list) and len(value) > 3


def _shown(value: Any) -> str:
    if isinstance(value, list):
        return f'({", ".join(map(_shown, value))})'
    return value if isinstance(value, str) else f'{value:.4f}'


def _write_json(path: str, rows: list[dict[str, Any]]) -> None:
    import json

    from ase_deepdensity.files import replacing

    with replacing(path) as file:
        file.write(json.dumps(rows, indent=1, ensure_ascii=False) + '\n')
    print(f'wrote {path}')
