"""The pictures that ``deepdensity predict`` makes: a plane of a density, and its surface as a page."""

from __future__ import annotations

import argparse
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from ase_deepdensity.arguments import formula, real
from ase_deepdensity.cli.outputs import PICTURES, check_output

if TYPE_CHECKING:
    import numpy as np
    from ase import Atoms

    from ase_deepdensity.state import PAWDensity

PAGES = '.html', '.htm', *PICTURES
OF_THE_PLANE = 'plane', 'through', 'range'


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """--plot, what it shows, and --view."""
    add = parser.add_argument_group('pictures').add_argument
    add('--plot', metavar='FILE', help='picture of a plane (chains: a line): PNG, PDF or SVG')
    add(
        '--plane',
        choices=('ab', 'ac', 'bc'),
        help='the lattice vectors in the plane of --plot (default: ab), which cuts the third one in the middle',
    )
    add(
        '--through',
        type=int,
        nargs='+',
        metavar='ATOM',
        help='an atom, counted from 0, that the plane of --plot goes through; or three, which need no --plane',
    )
    add(
        '--range',
        type=float,
        nargs=2,
        metavar=('LOW', 'HIGH'),
        help='densities at the ends of the colour scale of --plot, electrons/Å³',
    )
    add(
        '--view', metavar='FILE', help='surface that one can turn, as a page: FILE.html (or a still one: PNG, PDF, SVG)'
    )
    add('--isovalue', type=float, metavar='N', help='of the surface, electrons/Å³ (default: around 80 %% of them)')
    add(
        '--difference',
        action='store_true',
        help='pictures show the smooth density minus that of the free atoms: red where electrons have come',
    )


def check_pictures(args: argparse.Namespace, frames: Iterable[Atoms]) -> list[Path]:
    """The files to be written; refuses what cannot be drawn, before any work."""
    outputs = _check_names(args)
    for name in OF_THE_PLANE:
        if getattr(args, name) is not None and args.plot is None:
            raise ValueError(f'--{name} is for --plot FILE, which is not given')
    if args.isovalue is not None and args.view is None:
        raise ValueError('--isovalue is for --view FILE, which is not given')
    if args.difference and not outputs:
        raise ValueError('--difference is for --plot FILE and --view FILE, which are not given')
    if args.isovalue is not None:
        real('--isovalue', args.isovalue, above=0, unit='electrons/Å³')
    if args.range is not None:
        _check_range(args)
    if args.through is not None:
        _check_through(args, frames)
    return outputs


def _check_range(args: argparse.Namespace) -> None:
    low, high = args.range
    signed = args.difference or args.quantity == 'spin'
    if not low < high < float('inf') or (low <= 0 and not signed) or low == -float('inf'):
        least = 'the lower one first' if signed else 'above 0 (colours are logarithmic), the lower one first'
        raise ValueError(f'--range must be two numbers, {least}, not {low:g} {high:g}')


def _check_through(args: argparse.Namespace, frames: Iterable[Atoms]) -> None:
    if len(args.through) not in (1, 3):
        raise ValueError(f'--through takes one atom or three, not {len(args.through)}')
    if len(args.through) == 3 and args.plane is not None:
        raise ValueError('--through with three atoms is a plane already; leave out --plane')
    for atoms in frames:
        if outside := [a for a in args.through if not 0 <= a < len(atoms)]:
            raise ValueError(f'--through {outside[0]}: {formula(atoms)} has the atoms 0 to {len(atoms) - 1}')


def _check_names(args: argparse.Namespace) -> list[Path]:
    outputs = []
    if args.plot is not None:
        if Path(args.plot).suffix == '.html':
            raise ValueError(f'--plot {args.plot}: a page shows a surface that turns: --view {args.plot}')
        outputs.append(check_output('--plot', args.plot, PICTURES))
    if args.view is not None:
        outputs.append(check_output('--view', args.view, PAGES))
    return outputs


def write_plot(path: Path, args: argparse.Namespace, density: PAWDensity, n_R: np.ndarray) -> None:
    """The picture of --plot.  ``n_R``: the density of --quantity, (n0, n1, n2) = ``density.grid.size_c``."""
    from ase_deepdensity.dataset.volumetric import without_boundaries
    from ase_deepdensity.plot.pictures import plot_slice, plot_state

    through = args.through[0] if args.through and len(args.through) == 1 else args.through
    of_the_plane = {'plane': args.plane or 'ab', 'through': through, 'limits': args.range}
    if args.difference:
        figure = plot_state(density, 'smooth', 'atoms', **of_the_plane)
    elif args.quantity == 'spin':
        figure = plot_state(density, 'spin', None, **of_the_plane)
    else:
        inner_R = without_boundaries(density.grid, n_R)
        figure = plot_slice(inner_R, grid=density.grid, atoms=density.atoms, **of_the_plane)
    figure.savefig(path, dpi=150)


def write_plot_with_sigma(path: Path, args: argparse.Namespace, density: PAWDensity) -> None:
    """The picture of --plot of a density whose σ is known: both."""
    from ase_deepdensity.plot.pictures import plot_uncertainty

    through = args.through[0] if args.through and len(args.through) == 1 else args.through
    plot_uncertainty(density, plane=args.plane or 'ab', through=through, limits=args.range).savefig(path, dpi=150)


def write_view(path: Path, args: argparse.Namespace, density: PAWDensity) -> None:
    """The page of --view."""
    view = density.view(args.isovalue, difference_to='atoms') if args.difference else None
    (view or density.view(args.isovalue, quantity=args.quantity)).save(path)


def shown(args: argparse.Namespace) -> str:
    """What pictures show, in words."""
    return 'smooth density minus that of free atoms' if args.difference else f'{args.quantity} density'
