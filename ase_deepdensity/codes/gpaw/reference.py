"""Reference densities by GPAW: a snapshot from a calculation."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from ase import Atoms

from ase_deepdensity.codes.gpaw.parameters import gpaw_parameters, with_versions
from ase_deepdensity.codes.gpaw.require import require_gpaw
from ase_deepdensity.geometry import total_charge
from ase_deepdensity.level import Level
from ase_deepdensity.snapshot import Snapshot
from ase_deepdensity.state import PAWDensity

if TYPE_CHECKING:
    from gpaw.mpi import MPIComm
    from gpaw.new.ase_interface import ASECalculator

MAGNETIC_MIXER = {'method': 'difference', 'beta': 0.05, 'nmaxold': 5, 'weight': 50.0}
"""For spin-polarised calculations that do not converge otherwise: total and magnetisation are mixed each by itself,
where GPAW's default (``'sum'``) lets the magnetisation go as it comes."""
PATIENCE = 100
"""Iterations with GPAW's default mixer before that one is taken, unless the level has a ``maxiter``."""


def calculate(
    atoms: Atoms,
    level: Level,
    *,
    txt: str | Path | None = None,
    comm: MPIComm | None = None,
    calculator: Callable[..., ASECalculator] | None = None,
) -> Snapshot:
    """The self-consistent ground state of ``atoms``, whose charge is :func:`.total_charge`.

    It is spin-polarised where GPAW has it so: for atoms with initial magnetic moments, and at a level with ``spinpol``
    or ``hund``.  The atoms of the snapshot have the moments that it began with.  A spin-polarised calculation that does
    not converge, at a level without a mixer, is done anew with :data:`MAGNETIC_MIXER`, which its ``info`` then names.

    Parameters
    ----------
    txt
        GPAW's log file ('-': standard output, None: no log).
    comm
        MPI communicator; all its ranks get the snapshot.  Default: all ranks there are.
    calculator
        Makes the calculator from GPAW's keywords.  Default: GPAW's own, which starts from a superposition of atoms.

    Raises
    ------
    gpaw.KohnShamConvergenceError
        Too many iterations.
    """
    require_gpaw('a reference calculation')
    from gpaw import KohnShamConvergenceError
    from gpaw.new.ase_interface import GPAW

    gpaw_parameters(level)
    atoms = atoms.copy()
    keywords = level.keywords(charge=total_charge(atoms)) | {'txt': txt, 'communicator': comm}
    info: dict[str, Any] = {}
    niter = 0

    def count(ctx: Any) -> None:
        nonlocal niter
        niter += 1

    def converged(changes: dict[str, Any]) -> ASECalculator:
        calc = (calculator or GPAW)(**keywords | changes)
        calc.hooks['scf_step'] = count
        calc.get_potential_energy(atoms)
        return calc

    start = time.perf_counter()
    if _is_polarised(atoms, level) and not level.parameters.get('mixer'):
        try:
            calc = converged({'maxiter': keywords.get('maxiter') or PATIENCE})
        except KohnShamConvergenceError:
            info['mixer'] = MAGNETIC_MIXER
            calc = converged({'mixer': MAGNETIC_MIXER})
    else:
        calc = converged({})
    seconds = time.perf_counter() - start
    full = with_versions(level, atoms.numbers)
    return snapshot_from_calculator(calc, niter=niter, seconds=seconds, level=full, info=info)


def _is_polarised(atoms: Atoms, level: Level) -> bool:
    """Will GPAW's calculation have two spins?"""
    given = [level.parameters.get(name) for name in ('spinpol', 'hund')]
    moments = level.parameters.get('magmoms')
    moment_a = atoms.get_initial_magnetic_moments() if moments is None else np.asarray(moments)
    return any(given) or bool(moment_a.any())


def snapshot_from_gpw(path: str | Path) -> Snapshot:
    """The snapshot that a ``.gpw`` file holds, without forces if the file lacks them: they need its wave functions.

    Raises
    ------
    ValueError
        The file holds no energy, or is not one of GPAW's.
    """
    if not Path(path).is_file():
        raise ValueError(f'{path}: no such file')
    require_gpaw('reading its files')
    from gpaw.new.ase_interface import GPAW

    try:
        calc = GPAW(path, txt=None)
    except Exception as error:
        raise ValueError(f'{path}: GPAW cannot read this file: {error!r}') from error
    if 'energy' not in calc.results:
        raise ValueError(f'{path}: holds no energy: the calculation has not converged')
    # GPAW's files do not tell iterations and time.
    info = {'source': str(path)}
    with_forces = 'forces' in calc.results
    return snapshot_from_calculator(calc, niter=0, seconds=float('nan'), info=info, with_forces=with_forces)


def snapshot_from_calculator(
    calc: ASECalculator,
    *,
    niter: int,
    seconds: float,
    level: Level | None = None,
    info: dict[str, Any] | None = None,
    with_forces: bool = True,
) -> Snapshot:
    """The snapshot of a converged calculation, forces included unless one does not want them."""
    density = PAWDensity.from_gpaw(calc, level=level)
    details = {'ranks': calc.comm.size, 'host': socket.gethostname()}
    return Snapshot(
        density=density,
        energy=float(calc.get_potential_energy()),
        forces=np.array(calc.get_forces()) if with_forces else None,
        dipole=np.array(calc.get_dipole_moment()),
        niter=niter,
        seconds=seconds,
        info=details | (info or {}),
    )
