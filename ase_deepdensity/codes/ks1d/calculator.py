"""The ASE calculator of one-dimensional chains, and their snapshots."""

from __future__ import annotations

import socket
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from ase import Atoms
from ase.calculators.calculator import Calculator, all_changes
from ase.units import Bohr, Hartree, kB

from ase_deepdensity.codes.ks1d.parameters import atom_types, check, grid, ions, parameter, waves
from ase_deepdensity.codes.ks1d.solver import Ground, System, solve
from ase_deepdensity.geometry import total_charge
from ase_deepdensity.level import Level, LevelError
from ase_deepdensity.snapshot import Snapshot
from ase_deepdensity.state import PAWDensity

if TYPE_CHECKING:
    from gpaw.mpi import MPIComm


def system_of(atoms: Atoms, level: Level) -> System:
    """A chain (Å) in atomic units."""
    length = float(atoms.cell[2, 2]) / Bohr
    charge_a, width_a = ions(level, atoms.numbers)
    return System(
        x_a=atoms.positions[:, 2] / Bohr,
        charge_a=charge_a,
        width_a=width_a,
        length=length,
        waves=waves(level, length),
        points=int(grid(level, atoms).size_c[2]),
        temperature=parameter(level, 'temperature') * kB / Hartree,
        epsilon=parameter(level, 'epsilon'),
        kappa=parameter(level, 'kappa'),
    )


class KohnSham1D(Calculator):
    """Energy (eV), forces (eV/Å) and density of a chain along z.

    ``energy`` is extrapolated to zero temperature; the forces are the derivative of ``free_energy``.

    Parameters
    ----------
    level
        A level, or the name or file of one.

    Raises
    ------
    LevelError
        The level is not one-dimensional, atoms that are no chain, or unknown elements.
    SCFError
        Not converged.
    """

    implemented_properties = ['energy', 'free_energy', 'forces', 'dipole']
    discard_results_on_any_change = True

    def __init__(self, level: Level | str | Path = 'ks1d') -> None:
        super().__init__()
        self.level = check(level if isinstance(level, Level) else Level.load(level), [])
        self.ground: Ground | None = None
        self.density: PAWDensity | None = None

    def reset(self) -> None:
        super().reset()
        self.ground = self.density = None

    def calculate(
        self,
        atoms: Atoms | None = None,
        properties: Sequence[str] = ('energy',),
        system_changes: Sequence[str] = all_changes,
    ) -> None:
        super().calculate(atoms, properties, system_changes)
        chain: Any = self.atoms
        level = self.level
        convergence, maxiter = parameter(level, 'convergence'), parameter(level, 'maxiter')
        ground = solve(system_of(chain, level), convergence=convergence, maxiter=maxiter)
        forces_av = np.zeros((len(chain), 3))
        forces_av[:, 2] = ground.forces_a * Hartree / Bohr
        nt_sR = ground.n_g.reshape(1, 1, 1, -1) / Bohr
        D_asii = [np.zeros((1, 0, 0))] * len(chain)
        types = atom_types(level, chain.numbers)
        self.ground = ground
        self.density = PAWDensity(chain, grid(level, chain), nt_sR, D_asii, level, atom_types=types)
        self.results = {
            'energy': 0.5 * (ground.energy + ground.free_energy) * Hartree,
            'free_energy': ground.free_energy * Hartree,
            'forces': forces_av,
            'dipole': self.density.dipole_moment(),
        }

    def get_pseudo_density(self, atoms: Atoms | None = None) -> np.ndarray:
        """(points,) electrons/Å along the chain."""
        self.get_potential_energy(atoms)
        assert self.density is not None
        return self.density.nt_sR[0, 0, 0].copy()


def calculate(atoms: Atoms, level: Level, *, txt: str | Path | None = None, comm: MPIComm | None = None) -> Snapshot:
    """See :meth:`.Code.calculate`; there is no log to write to ``txt``, and ranks do not share the work.

    Raises
    ------
    LevelError
        A charge (:func:`.total_charge`): chains are neutral.
    """
    if charge := total_charge(atoms):
        raise LevelError(f'ks1d: chains are neutral, but the atoms have a charge of {charge:g} |e|')
    calc = KohnSham1D(level)
    start = time.perf_counter()
    energy = calc.get_potential_energy(atoms)
    seconds = time.perf_counter() - start
    assert calc.density is not None and calc.ground is not None
    homo = round(float(calc.ground.occupation_n.sum())) - 1
    gap: Any = np.diff(calc.ground.eigenvalue_n[homo : homo + 2] * Hartree)
    return Snapshot(
        density=calc.density,
        energy=float(energy),
        forces=calc.results['forces'],
        dipole=calc.results['dipole'],
        niter=calc.ground.niter,
        seconds=seconds,
        info={'host': socket.gethostname(), 'gap, eV': gap.tolist()},
    )
