"""``deepdensity sample perturb`` and ``sample dynamics``: geometries that begin with those of a file."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ase import Atoms


def add_perturb(parser: argparse.ArgumentParser) -> None:
    """Options of ``sample perturb``."""
    add = parser.add_argument
    add(
        '--rattle',
        type=float,
        default=0.05,
        metavar='Å',
        help='standard deviation of displacements in each direction (default: %(default)s)',
    )
    add(
        '--strain',
        type=float,
        default=0.0,
        metavar='X',
        help='standard deviation of the components of a random strain of periodic directions (default: none)',
    )
    add('--max-atoms', type=int, metavar='N', help='repeat periodic cells first, to at most N atoms')
    add('--vacancies', type=int, default=0, metavar='N', help='atoms to take out (default: %(default)s)')


def add_dynamics(parser: argparse.ArgumentParser) -> None:
    """Options of ``sample dynamics``, beside those of all dynamics."""
    add = parser.add_argument
    add(
        '--calculator',
        required=True,
        metavar='NAME',
        help='EMT, tblite, chgnet, mace, or the import path of a class: ase.calculators.lj:LennardJones',
    )
    add('--timestep', type=float, default=1.0, metavar='FS', help='of the dynamics (default: %(default)s)')


def perturb(args: argparse.Namespace) -> Iterator[Atoms]:
    """The geometries that ``sample perturb`` asks for."""
    from ase_deepdensity.frames import read_frames
    from ase_deepdensity.sampling.perturb import perturbed

    return perturbed(
        read_frames(args.files),
        seed=args.seed,
        rattle=args.rattle,
        strain=args.strain,
        max_atoms=args.max_atoms,
        vacancies=args.vacancies,
    )


def dynamics(args: argparse.Namespace, common: Mapping[str, Any]) -> Iterator[Atoms]:
    """The geometries that ``sample dynamics`` asks for."""
    from ase_deepdensity.frames import read_frames
    from ase_deepdensity.sampling.dynamics import dynamics

    return dynamics(read_frames(args.files), args.calculator, timestep=args.timestep, **common)
