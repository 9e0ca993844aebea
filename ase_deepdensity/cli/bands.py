"""``deepdensity bands``: bands and density of states in the potential of a density, without an SCF cycle."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ase_deepdensity.arguments import real, three_whole, whole
from ase_deepdensity.cli.outputs import PICTURES, check_output
from ase_deepdensity.cli.states import is_density, read_density_file

if TYPE_CHECKING:
    import numpy as np
    from ase import Atoms
    from ase.spectrum.band_structure import BandStructure
    from gpaw.new.ase_interface import ASECalculator

OUTPUTS = *PICTURES, '.json'
MAX_KPTS = 1000
"""Along a lattice vector."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add('source', metavar='FILE', help='density (FILE.h5, FILE.gpw), or one geometry in any format that ASE reads')
    add('model', nargs='?', metavar='MODEL', help='for a geometry: the model that predicts its density')
    add('--path', help="special points such as GXWKGL (default: ASE's path of the lattice)")
    add('--npoints', type=int, default=60, metavar='N', help='k-points along the path (default: %(default)s)')
    add('--empty', type=int, default=4, metavar='N', help='bands above the occupied ones (default: %(default)s)')
    add('--out', metavar='FILE', help="bands: PNG, PDF, SVG, or JSON (ASE's BandStructure)")
    add('--dos', metavar='FILE', help='density of states: PNG, PDF, SVG, or JSON (energies, eV, and states per eV)')
    add(
        '--kpts',
        type=int,
        nargs=3,
        metavar='N',
        help='k-points of the density of states (default: those of the level of theory)',
    )
    add('--width', type=float, default=0.1, metavar='eV', help='of its Gaussians (default: %(default)s)')
    add('--emin', type=float, default=-10.0, metavar='eV', help='lowest energy that is shown (default: %(default)s)')
    add('--emax', type=float, default=5.0, metavar='eV', help='highest, from the Fermi level (default: %(default)s)')
    add('--log', metavar='FILE', help="GPAW's log")


def run(args: argparse.Namespace) -> int:
    _check(args)
    calc = _orbitals(args)
    print(f'atoms      {calc.atoms.get_chemical_formula()}', flush=True)
    print(f'Fermi      {calc.get_fermi_level():.4f} eV', flush=True)
    if args.dos is not None:
        _write_dos(args, calc)
    if _wants_bands(args):
        _write_bands(args, calc)
    return 0


def _check(args: argparse.Namespace) -> None:
    """Refuse what can be refused before any work."""
    for option in 'out', 'dos':
        if getattr(args, option) is not None:
            check_output(f'--{option}', getattr(args, option), OUTPUTS)
    if args.log is not None:
        check_output('--log', args.log)
    whole('--npoints', args.npoints, least=2, most=10_000)
    whole('--empty', args.empty, least=0, most=10_000)
    real('--width', args.width, above=0, unit='eV')
    if not args.emin < args.emax:
        raise ValueError(f'--emin {args.emin:g} must be below --emax {args.emax:g}')
    if args.kpts is not None:
        args.kpts = three_whole('--kpts', args.kpts, least=1, most=MAX_KPTS)
    if is_density(args.source) and args.model is not None:
        raise ValueError(f'{args.source} holds a density: {args.model} can predict nothing there')
    if not is_density(args.source) and args.model is None:
        raise ValueError(f'{args.source} must be a density (FILE.h5, FILE.gpw), or a model must follow it')


def _orbitals(args: argparse.Namespace) -> ASECalculator:
    from ase_deepdensity.codes.gpaw.require import require_gpaw

    require_gpaw('deepdensity bands')
    if is_density(args.source):
        state = read_density_file(args.source)
        from ase_deepdensity.scf.orbitals import orbitals_of

        _check_path(args, state.atoms)
        return orbitals_of(state, txt=args.log)
    from ase_deepdensity.frames import read_frames
    from ase_deepdensity.model_files import model_path

    path = model_path(args.model)
    frames = read_frames([args.source])
    if len(frames) > 1:
        raise ValueError(f'{args.source} holds {len(frames)} geometries; choose one, such as {args.source}@-1')
    _check_path(args, frames[0])
    from ase_deepdensity.scf.orbitals import orbitals_of

    return orbitals_of(path, frames[0], txt=args.log)


def _check_path(args: argparse.Namespace, atoms: Atoms) -> None:
    """Before the orbitals, which take their time."""
    from ase_deepdensity.scf.orbitals import path_in

    if _wants_bands(args) or args.path is not None:
        path_in(atoms, args.path)


def _wants_bands(args: argparse.Namespace) -> bool:
    return args.out is not None or args.dos is None


def _write_bands(args: argparse.Namespace, calc: ASECalculator) -> None:
    from ase.dft.bandgap import bandgap

    from ase_deepdensity.scf.orbitals import band_structure

    bands = band_structure(calc, args.path, args.npoints, empty=args.empty)
    print(f'bands      {bands.energies.shape[2]} at {bands.energies.shape[1]} k-points along {bands.path.path}')
    gap, *_ = bandgap(eigenvalues=bands.energies, efermi=bands.reference, output=None)
    print(f'gap        {gap:.4f} eV along it' if gap > 0 else 'gap        none: bands cross the Fermi level')
    if args.out is None:
        return
    if Path(args.out).suffix == '.json':
        _write_json(args.out, bands)
    else:
        _plot_bands(args, bands)
    print(f'wrote      {args.out}')


def _plot_bands(args: argparse.Namespace, bands: BandStructure) -> None:
    from matplotlib.figure import Figure

    from ase_deepdensity.files import replacing_path

    figure = Figure(figsize=(6, 5), layout='constrained')
    shifted = bands.subtract_reference()
    shifted.plot(ax=figure.subplots(), emin=args.emin, emax=args.emax, ylabel='energy from the Fermi level, eV')
    with replacing_path(args.out) as temporary:
        figure.savefig(temporary, dpi=150)


def _write_dos(args: argparse.Namespace, calc: ASECalculator) -> None:
    import numpy as np

    from ase_deepdensity.scf.orbitals import density_of_states

    energies = np.linspace(args.emin, args.emax, 1001)
    dos = density_of_states(calc, energies, width=args.width, kpts=args.kpts)
    if Path(args.dos).suffix == '.json':
        _write_json(args.dos, {'energies, eV': energies.tolist(), 'states per eV': dos.tolist()})
    else:
        _plot_dos(args.dos, energies, dos)
    print(f'wrote      {args.dos}', flush=True)


def _plot_dos(path: str, energies: np.ndarray, dos: np.ndarray) -> None:
    from matplotlib.figure import Figure

    from ase_deepdensity.files import replacing_path

    figure = Figure(figsize=(6, 4), layout='constrained')
    axes = figure.subplots()
    axes.plot(energies, dos)
    axes.axvline(0, color='0.5', linestyle=':')
    axes.set(xlabel='energy from the Fermi level, eV', ylabel='states per eV', ylim=(0, None))
    with replacing_path(path) as temporary:
        figure.savefig(temporary, dpi=150)


def _write_json(path: str, content: Any) -> None:
    from ase.io.jsonio import encode

    from ase_deepdensity.files import replacing

    with replacing(path) as file:
        file.write(encode(content) + '\n')
