"""``deepdensity predict``: densities of geometries, as files and pictures."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import redirect_stdout
from itertools import groupby, pairwise
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, cast

from ase_deepdensity.arguments import three_whole, whole
from ase_deepdensity.cli import pictures
from ase_deepdensity.cli.many import check_cluster, predict_on_cluster
from ase_deepdensity.cli.outputs import check_output, file_kind, numbered
from ase_deepdensity.cli.stream import Streamed, distance_line, grid_line

if TYPE_CHECKING:
    import numpy as np
    from ase import Atoms
    from gpaw.mpi import MPIComm

    from ase_deepdensity.atoms_coefficients import AtomsCoefficients
    from ase_deepdensity.expected_error import ExpectedError
    from ase_deepdensity.grid import Grid
    from ase_deepdensity.predict import Predictor
    from ase_deepdensity.state import PAWDensity

MAX_KPTS = 10**5
"""More k-points take minutes and gigabytes and tell a model nothing new."""
QUANTITY_NAMES = ('pseudo', 'all-electron', 'smooth', 'spin')
STREAMED = (['cube'], 'smooth'), (['h5'], 'smooth'), (['h5'], 'pseudo')
"""Kinds of files, and quantities, that are written slab by slab; Zarr always is."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add(
        'geometry',
        metavar='GEOMETRY',
        help='file in any format that ASE reads, all frames ("t.xyz@-1" takes the last, "t.xyz@::10" every tenth)',
    )
    add(
        'model',
        metavar='MODEL',
        nargs='?',
        help='name of a shipped model, or a model file (default: the shipped model that knows the atoms best)',
    )
    add(
        '--out',
        action='append',
        default=[],
        metavar='FILE',
        help='FILE.cube, CHGCAR… (VASP), FILE.h5 (all of the state, without loss), FILE.zarr (the same in chunks, of '
        'any size); may be given several times, replaces a file that is there, and is numbered if there are several '
        'frames',
    )
    add(
        '--quantity',
        choices=QUANTITY_NAMES,
        default='pseudo',
        help="what cube, CHGCAR and picture show. pseudo: valence density with compensation charges, as GPAW's "
        "get_pseudo_density(); all-electron; smooth: GPAW's dft.density.nt_sR; spin: the smooth one of spin up minus "
        'that of spin down (default: %(default)s)',
    )
    grid = parser.add_mutually_exclusive_group()
    grid.add_argument('--gpts', type=int, nargs=3, metavar='N', help='grid intervals along the lattice vectors')
    grid.add_argument('--h', type=float, metavar='Å', help='grid spacing (default: the grid that GPAW would choose)')
    add(
        '--kpts', type=int, nargs=3, metavar='N', help='k-points, for models of metals (default: as the level has them)'
    )
    add('--device', help='cpu (default), cuda, or cuda:1 for the second GPU')
    add('--float64', action='store_true', help='double precision (default: single)')
    add('--extrapolate', action='store_true', help='predict with a warning even where the prediction means nothing')
    add(
        '--uncertainty',
        action='store_true',
        help='with the standard deviation of the likely error at each point: into FILE.h5 and FILE.zarr, and beside '
        'the density of --plot; the model needs error bars',
    )
    add(
        '--stream',
        action='store_true',
        help='hold one slab of the grid at a time: for FILE.h5, and for smooth densities into cube files; FILE.zarr is '
        'always written so',
    )
    add(
        '--scheduler',
        metavar='ADDRESS|FILE',
        help='have the workers of a dask.distributed cluster predict the frames (tcp://HOST:PORT, or its '
        '--scheduler-file), into FILE.h5; the same command goes on after an interrupt',
    )
    pictures.add_arguments(parser)


def run(args: argparse.Namespace) -> int:
    """Exit code 0: all there; 1: a cluster has not predicted all."""
    start = time.perf_counter()
    comm = _ranks()
    path, frames = _checked_input(args, comm.size)
    from ase_deepdensity.cli.warn import plain_warnings

    code = 0
    with plain_warnings(), redirect_stdout(sys.stdout if comm.rank == 0 else None):
        for predictor, which in _predictors(path, frames, args):
            if args.scheduler is not None:
                code = max(code, predict_on_cluster(predictor, frames, which, args))
                continue
            grids = _grids(predictor, frames, which, args, comm.size)
            if _is_streamed(args):
                for i, grid in grids.items():
                    print(_frame_line(frames, i, args))
                    Streamed(predictor, frames[i], grid, numbered(Path(args.out[0]), _number(frames, i)), comm).write()
            else:
                _predict(predictor, frames, grids, args, start)
            start = time.perf_counter()
    return code


def _is_streamed(args: argparse.Namespace) -> bool:
    return args.stream or (_kinds(args) == ['zarr'] and not args.uncertainty)


def _grids(
    predictor: Predictor, frames: list[Atoms], which: list[int], args: argparse.Namespace, ranks: int
) -> dict[int, Grid]:
    """The grid of each frame; refuses what there is no memory or disk for, and says how much it is, before any work."""
    from ase_deepdensity.batches import naming_frame
    from ase_deepdensity.cli.needs import Needs

    grids = {}
    for i in which:
        with naming_frame(i, frames):
            grids[i] = predictor.grid(frames[i], gpts=args.gpts, h=args.h)
    streamed = _is_streamed(args)
    some = [frames[i] for i in which]
    needs = Needs.of(predictor, some, list(grids.values()), args.out, streamed=streamed, ranks=ranks)
    needs.check(Path(args.out[0] if args.out else args.plot or '.').parent, streamed=streamed)
    return grids


def _ranks() -> MPIComm:
    """Those that share the work: of ``mpiexec``, or one."""
    from ase_deepdensity.codes.gpaw.mpi import OneProcess, enable_mpi, world_comm
    from ase_deepdensity.launchers import mpi_rank

    enable_mpi()
    return cast('MPIComm', OneProcess()) if mpi_rank() is None else world_comm()


def _predictors(
    path: Path | None, frames: list[Atoms], args: argparse.Namespace
) -> Iterator[tuple[Predictor, list[int]]]:
    """Each model that is needed, and of which frames that follow each other; a line for each."""
    import torch

    from ase_deepdensity.batches import naming_frame
    from ase_deepdensity.choice import choose, kind
    from ase_deepdensity.model import DensityModel
    from ase_deepdensity.predict import Predictor

    def predictor_of(model: DensityModel) -> Predictor:
        if args.quantity == 'spin' and not model.network.sees_magnetic_moments:
            raise ValueError(f'--quantity spin: {model.name} predicts no magnetisation; its densities are spin-paired')
        level = model.at_kpoints(args.kpts) if args.kpts else model.level
        dtype = torch.float64 if args.float64 else torch.float32
        return Predictor(model, level=level, device=args.device, dtype=dtype, extrapolate=args.extrapolate)

    if path is not None:
        predictor = predictor_of(DensityModel.load(path))
        print(f'model      {predictor.model.name}, level {predictor.model.level.name}')
        yield predictor, list(range(len(frames)))
        return
    choices = {}
    for i, atoms in enumerate(frames):  # all of them, so that what no model knows is refused before any work
        with naming_frame(i, frames):
            if kind(atoms) not in choices:
                choices[kind(atoms)] = choose(atoms)
    chosen = [choices[kind(atoms)] for atoms in frames]
    for _, group in groupby(range(len(frames)), lambda i: chosen[i].model.name):
        which = list(group)
        model = chosen[which[0]].model
        print(f'model      {chosen[which[0]]}; level {model.level.name}')
        yield predictor_of(model), which


def _checked_input(args: argparse.Namespace, ranks: int) -> tuple[Path | None, list[Atoms]]:
    """The model file, if one is named, and the frames; refuses what can be refused without torch, which takes long."""
    from ase_deepdensity.model_files import model_path

    path = None if args.model is None else model_path(args.model)
    from ase_deepdensity.frames import read_frames
    from ase_deepdensity.grid import check_size

    if args.kpts:
        whole('the number of --kpts', prod(three_whole('kpts', args.kpts, least=1, most=MAX_KPTS)), most=MAX_KPTS)
    frames = read_frames([args.geometry])
    _check_outputs(args, frames)
    if args.scheduler is not None:
        check_cluster(args, ranks)
    if ranks > 1 and not _is_streamed(args):
        raise ValueError(
            f'{ranks} ranks share the planes of one density: give --out FILE.zarr, --stream --out FILE.h5, or '
            '--stream --quantity smooth --out FILE.cube; all else is the work of one process'
        )
    for i, atoms in enumerate(frames):
        if args.quantity == 'spin' and not atoms.get_initial_magnetic_moments().any():
            raise ValueError(
                f'--quantity spin: frame {i} of {args.geometry} has no initial magnetic moments, from which a model '
                'predicts the magnetisation; extended XYZ has them as the column initial_magmoms'
            )
        check_size(args.gpts, args.h, float(atoms.cell.lengths().max()))
    return path, frames


def _number(frames: list[Atoms], i: int) -> int | None:
    """Of a frame, if there are several."""
    return i if len(frames) > 1 else None


def _frame_line(frames: list[Atoms], i: int, args: argparse.Namespace) -> str:
    which = '' if len(frames) == 1 else f' (frame {i} of {args.geometry})'
    return f'atoms      {frames[i].get_chemical_formula()}{which}'


def _predict(
    predictor: Predictor, frames: list[Atoms], grids: dict[int, Grid], args: argparse.Namespace, start: float
) -> None:
    """Some frames on their grids, of which the network sees several at a time; set-up is counted from ``start``."""
    from ase_deepdensity.batches import naming_frame

    results = predictor.coefficients([frames[i] for i in grids])
    for i, grid in grids.items():
        print(_frame_line(frames, i, args))
        times = [start, time.perf_counter()]
        coefficients = next(results)
        times.append(time.perf_counter())
        with naming_frame(i, frames):
            density = predictor.density(coefficients, grid)
            if args.uncertainty:
                density = predictor.with_sigma(coefficients, density)
        times.append(time.perf_counter())
        shown_R = _shown_density(density, args)
        expected = _expected(predictor, coefficients)
        print('\n'.join(_report(density, coefficients, times, args.quantity, shown_R, expected)), flush=True)
        _write(density, args, _number(frames, i), shown_R, predictor.model.name)
        start = time.perf_counter()


def _shown_density(density: PAWDensity, args: argparse.Namespace) -> np.ndarray | None:
    """(n0, n1, n2) electrons/Å³ what cube, CHGCAR and picture show; None where nobody asks for it."""
    from ase_deepdensity.plot.shown import shown_density

    kinds = _kinds(args) + ['picture'] * bool(args.plot)
    if args.quantity == 'pseudo' and not {*kinds} - {'h5'}:
        return None
    return shown_density(density, args.quantity)


def _report(
    density: PAWDensity,
    coefficients: AtomsCoefficients,
    times: list[float],
    quantity: str,
    shown_R: np.ndarray | None,
    expected: ExpectedError | None,
) -> Iterator[str]:
    setup, network, evaluation = (after - before for before, after in pairwise(times))
    yield grid_line(density.grid)
    yield from _electrons_and_dipole(density, quantity, shown_R, expected)
    yield distance_line(coefficients)
    if expected is not None:
        yield from _expected_lines(expected, coefficients.atoms)
    yield f'time       {setup:.2f} s set-up, {network:.3f} s network, {evaluation:.3f} s grid'


def _expected(predictor: Predictor, coefficients: AtomsCoefficients) -> ExpectedError | None:
    """How wrong it is likely to be, if the model can tell."""
    from ase_deepdensity.network_runner import MOST_IN_BLOCK

    if predictor.model.error_bars is None or len(coefficients.atoms) > MOST_IN_BLOCK:
        return None
    return predictor.expected_error(coefficients)


def _expected_lines(expected: ExpectedError, atoms: Atoms) -> Iterator[str]:
    """How wrong, and where."""
    import numpy as np

    worst = int(expected.error_a.argmax())
    share = expected.error_a[worst] / expected.error_a.sum()
    yield f'error      {expected}'
    yield f'           {share:.0%} of it at atom {worst} ({atoms.symbols[worst]})'
    if expected.sigma_D_aii is not None and any(sigma_ii.size for sigma_ii in expected.sigma_D_aii):
        rms_a = np.array([np.sqrt(np.mean(sigma_ii**2)) if sigma_ii.size else 0.0 for sigma_ii in expected.sigma_D_aii])
        worst = int(rms_a.argmax())
        yield (
            f'           of the numbers in D {np.median(rms_a):.2g} at the median atom, {rms_a[worst]:.2g} at atom '
            f'{worst} ({atoms.symbols[worst]})'
        )


def _electrons_and_dipole(
    density: PAWDensity, quantity: str, shown_R: np.ndarray | None, expected: ExpectedError | None
) -> Iterator[str]:
    """The integral of what is shown: of the density with compensation charges it is the number of valence electrons."""
    from ase_deepdensity.analysis.dipole import dipole_moment, origin_caveat

    valence = f'{density.number_of_electrons():.6f}'
    if quantity in ('pseudo', 'spin') or shown_R is None:
        yield f'electrons  {valence}'
    else:
        shown = shown_R.mean() * density.atoms.cell.volume
        yield f'electrons  {shown:.6f} in the {quantity} density; there are {valence} valence electrons'
    if density.nspins == 2:
        yield f'moment     {density.magnetic_moment():.4f} μB'
    line = f'dipole     {_vector(dipole_moment(density))}'
    if expected is not None and expected.sigma_dipole_v is not None:
        line += f' ± {_vector(expected.sigma_dipole_v)}'
    yield f'{line} e·Å'
    if caveat := origin_caveat(density):
        yield f'           {caveat}'


def _vector(x_v: np.ndarray) -> str:
    return f'({", ".join(f"{x:.4f}" for x in x_v)})'


def _write(
    density: PAWDensity, args: argparse.Namespace, number: int | None, shown_R: np.ndarray | None, model: str
) -> None:
    from ase_deepdensity.dataset.density_file import write_density
    from ase_deepdensity.dataset.volumetric import write_chgcar, write_cube

    for name in args.out:
        path, kind = numbered(Path(name), number), file_kind(name)
        if kind == 'h5':
            write_density(path, density)
        elif kind == 'zarr':
            _write_zarr(path, density, model)
        elif shown_R is not None:
            write = write_cube if kind == 'cube' else write_chgcar
            write(path, density.atoms, shown_R)
        print(f'wrote      {path}' + ('' if kind == 'h5' else f' ({args.quantity} density)'), flush=True)
    if args.plot and density.sigma_sR is not None:
        path = numbered(Path(args.plot), number)
        pictures.write_plot_with_sigma(path, args, density)
        print(f'wrote      {path} (smooth density, and σ beside it)', flush=True)
    elif args.plot and shown_R is not None:
        path = numbered(Path(args.plot), number)
        pictures.write_plot(path, args, density, shown_R)
        print(f'wrote      {path} ({pictures.shown(args)})', flush=True)
    if args.view:
        path = numbered(Path(args.view), number)
        pictures.write_view(path, args, density)
        print(f'wrote      {path} ({pictures.shown(args)})', flush=True)


def _write_zarr(path: Path, density: PAWDensity, model: str) -> None:
    """With σ, which is there on the whole grid."""
    import numpy as np

    from ase_deepdensity.dataset.zarr_folder import write_zarr
    from ase_deepdensity.slabs import SLAB_POINTS

    grid, numbers, sigma_D_asii = density.grid, density.atoms.numbers, density.sigma_D_asii
    sigma_D_zsaii = None if sigma_D_asii is None else _by_element(sigma_D_asii, numbers)
    write_zarr(
        path, density.atoms, grid, [(grid, density.nt_sR.astype(np.float32))], _by_element(density.D_asii, numbers),
        nspins=density.nspins,
        dtype=np.dtype(np.float32), planes=max(1, SLAB_POINTS // max(1, grid.shape[1] * grid.shape[2])),
        level=density.level, charge=density.charge, model=model, sigma_sR=density.sigma_sR,
        sigma_D_zsaii=sigma_D_zsaii, sigma_dipole_v=density.sigma_dipole_v,
    )  # fmt: skip


def _by_element(D_asii: Sequence[np.ndarray], number_a: np.ndarray) -> dict[int, np.ndarray]:
    """Matrices of all atoms of each element, by atomic number: (nspins, atoms, ni, ni)."""
    import numpy as np

    return {
        Z: np.stack([D_asii[a] for a in np.flatnonzero(number_a == Z).tolist()], axis=1)
        for Z in np.unique(number_a).tolist()
    }


def _kinds(args: argparse.Namespace) -> list[str]:
    """Of the files of --out."""
    return [file_kind(name) for name in args.out]


def _check_outputs(args: argparse.Namespace, frames: list[Atoms]) -> None:
    """Refuse what cannot be written, before any work."""
    source = Path(args.geometry if Path(args.geometry).exists() else args.geometry.rpartition('@')[0])
    kinds = _kinds(args)
    drawn = args.plot is not None or args.view is not None
    _check_uncertainty(args)
    if 'zarr' in kinds:
        _check_zarr(args, len(frames), drawn)
        return
    if args.stream and (drawn or (kinds, args.quantity) not in STREAMED):
        raise ValueError(
            '--stream writes one file slab by slab: --out FILE.h5 or --out FILE.zarr, or --quantity smooth --out '
            'FILE.cube'
        )
    outputs = [check_output('--out', name) for name in args.out] + pictures.check_pictures(args, frames)
    for path in outputs:
        first = numbered(path, 0 if len(frames) > 1 else None)
        if first.exists() and first.samefile(source):
            raise ValueError(f'{first} is the geometry itself; write to another file')
    if len({path.resolve() for path in outputs}) < len(outputs):
        raise ValueError('each output needs a file of its own')


def _check_uncertainty(args: argparse.Namespace) -> None:
    if not args.uncertainty:
        return
    if args.stream or args.scheduler is not None:
        raise ValueError('--uncertainty needs the whole grid at once: it goes with neither --stream nor --scheduler')
    if args.plot and (args.difference or args.quantity not in ('pseudo', 'smooth')):
        raise ValueError(
            '--uncertainty --plot shows the smooth density with its standard deviation: it goes with neither '
            '--difference nor --quantity all-electron or spin'
        )


def _check_zarr(args: argparse.Namespace, nframes: int, drawn: bool) -> None:
    from ase_deepdensity.cli.outputs import check_folder
    from ase_deepdensity.dataset.zarr_folder import check_zarr_target
    from ase_deepdensity.packages import require

    if len(args.out) > 1 or drawn or args.quantity in ('all-electron', 'spin'):
        raise ValueError(
            '--out FILE.zarr is written slab by slab and holds the smooth density with the matrices of the atoms: '
            'it goes with no other --out, no picture and no --quantity all-electron or spin'
        )
    require('zarr', 'large', 'Zarr files')
    path = Path(args.out[0])
    check_folder(path.parent)
    for number in range(nframes):
        check_zarr_target(numbered(path, number if nframes > 1 else None))
