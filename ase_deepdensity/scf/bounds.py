"""Bounds of what can be a density at all: nonsense is refused before the first step, and costs no iteration."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from gpaw.mpi import broadcast

from ase_deepdensity.scf.default_start import State

if TYPE_CHECKING:
    from gpaw.mpi import MPIComm
    from gpaw.new.density import Density

    from ase_deepdensity.scf.occupations import NaturalOccupations


@dataclass(frozen=True)
class Bounds:
    """Beyond them lies no density of atoms.

    What is said of converged densities was measured for 49 molecules of H, C, N and O (PBE, plane waves to 400 eV).
    """

    factor: tuple[float, float] = (0.8, 1.25)
    """Of the normalisation of ñ; predictions of atoms that a model knows come to 0.99 to 1.03."""
    distance: float = 0.6
    """∫ |ñ − ñ of GPAW's default start| per electron; of a converged density 0.08 to 0.31, the latter for H₂."""
    negative: float = 0.01
    """∫ of negative ñ per electron, beyond that of GPAW's default start; of a converged density up to 2·10⁻⁴."""
    occupations: tuple[float, float] = (-0.2, 2.2)
    """Of an atom's natural orbitals, see :class:`.NaturalOccupations`; of a converged density 0 to 1.1."""
    peak: float = 3.0
    """|ñ| anywhere, of the highest ñ of GPAW's default start; of a converged density 1.0 to 1.6.  Single points weigh
    little in integrals."""

    def violation(self, density: Density, default: State, factor: float, occupations: NaturalOccupations) -> str:
        """What is wrong with a normalised density, the same on all ranks; empty: nothing.

        Parameters
        ----------
        default
            What GPAW would begin with.
        factor
            That the density was multiplied with to have the right norm.
        """
        if not self.factor[0] <= factor <= self.factor[1]:
            return f'ñ had to be multiplied with {factor:.3g} to hold the right number of electrons'
        electrons = density.nvalence - density.charge
        distance = State.of(density).minus(default).electrons(density) / electrons
        if not distance <= self.distance:
            return f'ñ is {distance:.3g} electrons per electron away from a superposition of atoms'
        negative = (_negative(density, density.nt_sR.data) - _negative(density, default.nt_sR)) / electrons
        if not negative <= self.negative:
            return f'ñ is negative: {negative:.3g} electrons per electron'
        peak = _peak(density, density.nt_sR.data) / _peak(density, default.nt_sR)
        if not peak <= self.peak:
            return f'ñ has a peak {peak:.3g} times as high as in a superposition of atoms'
        lowest, highest = occupations.extremes(density.D_asii)
        if not self.occupations[0] <= lowest <= highest <= self.occupations[1]:
            return f'an atom has natural occupations from {lowest:.3g} to {highest:.3g}'
        return ''


def _peak(density: Density, nt_sR: np.ndarray) -> float:
    """Highest |ñ|."""
    return float(density.nt_sR.desc.comm.max_scalar(float(abs(nt_sR).max(initial=0.0))))


def _negative(density: Density, nt_sR: np.ndarray) -> float:
    """−∫ of negative ñ, electrons."""
    grid = density.nt_sR.desc
    return float(grid.comm.sum_scalar(-float(nt_sR[nt_sR < 0].sum())) * grid.dv)


def agreed(problem: str, *comms: MPIComm) -> str:
    """The first rank's problem on all ranks: those of the first communicator, then those of the next, and so on."""
    for comm in comms:
        first = int(comm.min_scalar(comm.rank if problem else comm.size))
        problem = '' if first == comm.size else broadcast(problem if comm.rank == first else None, first, comm=comm)
    return problem


def may_be_refused(error: Exception) -> bool:
    """Is an error a reason to go on without the seed?  Not one that ends a calculation from outside."""
    return not isinstance(error, TimeoutError)


def described(error: Exception) -> str:
    """An error in one line."""
    lines = str(error).split('\n')
    return f'{type(error).__name__}: {lines[0]}' if lines[0] else type(error).__name__
