"""Bounds of what can be a density at all: nonsense is refused before the first step, and costs no iteration."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from gpaw.mpi import broadcast

from ase_deepdensity.scf.default_start import State

if TYPE_CHECKING:
    from gpaw.core.atom_arrays import AtomArrays
    from gpaw.mpi import MPIComm
    from gpaw.new.density import Density

    from ase_deepdensity.scf.occupations import NaturalOccupations


LEAST_MOMENT = 0.3
"""μB: an atom that starts with less has no direction of its own."""


@dataclass(frozen=True)
class Bounds:
    """Beyond them lies no density of atoms.

    What is said of converged densities was measured for 49 molecules of H, C, N and O (PBE, plane waves to 400 eV).
    Where nothing else is said, it is the total of both spins that is bounded.
    """

    factor: tuple[float, float] = (0.8, 1.25)
    """Of the normalisation of ñ; predictions of atoms that a model knows come to 0.99 to 1.03."""
    charge: float = 0.02
    """Difference of the seed's charge from the calculation's, per electron: each electron too many or too few, which is
    spread over all, leaves a residual of about two."""
    distance: float = 0.6
    """∫ |ñ − ñ of GPAW's default start| per electron; of a converged density 0.08 to 0.31, the latter for H₂."""
    negative: float = 0.01
    """∫ of negative ñ per electron, beyond that of GPAW's default start; of a converged density up to 2·10⁻⁴."""
    occupations: tuple[float, float] = (-0.2, 2.2)
    """Of an atom's natural orbitals, see :class:`.NaturalOccupations`; of a converged density 0 to 1.1.  Half of it of
    each of two spins."""
    peak: float = 3.0
    """|ñ| anywhere, of the highest ñ of GPAW's default start; of a converged density 1.0 to 1.6.  Single points weigh
    little in integrals."""
    moment: float = 0.1
    """Magnetic moment of an atom, of that in GPAW's default start where this is above :data:`LEAST_MOMENT`: a cycle
    that begins in another magnetic order than the one that was asked for may end there."""

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
        distance = State.of(density).minus(default).total_electrons(density) / electrons
        if not distance <= self.distance:
            return f'ñ is {distance:.3g} electrons per electron away from a superposition of atoms'
        negative = (_negative(density, density.nt_sR.data) - _negative(density, default.nt_sR)) / electrons
        if not negative <= self.negative:
            return f'ñ is negative: {negative:.3g} electrons per electron'
        peak = _peak(density, density.nt_sR.data) / _peak(density, default.nt_sR)
        if not peak <= self.peak:
            return f'ñ has a peak {peak:.3g} times as high as in a superposition of atoms'
        lowest, highest = occupations.extremes(density.D_asii)
        least, most = (bound / density.ndensities for bound in self.occupations)
        if not least <= lowest <= highest <= most:
            return f'an atom has natural occupations from {lowest:.3g} to {highest:.3g}'
        return self._other_order(density, default) if density.ndensities == 2 else ''

    def _other_order(self, density: Density, default: State) -> str:
        """Of which atom the moment has another sign than in the default start, or all but vanishes."""
        moment_a, default_a = _moments(density, density.D_asii), _moments(density, default.D_asii)
        for a in np.flatnonzero(abs(default_a) > LEAST_MOMENT):
            if not moment_a[a] / default_a[a] >= self.moment:
                return (
                    f'atom {a} has a magnetic moment of {moment_a[a]:.2f} μB, where GPAW starts with {default_a[a]:.2f}'
                )
        return ''


def _moments(density: Density, D_asii: AtomArrays) -> np.ndarray:
    """(natoms,) inside of the augmentation spheres, μB, the same on all ranks."""
    moment_a = np.zeros(density.natoms)
    for a, D_sii in D_asii.items():
        moment_a[a] = np.vdot(D_sii[0] - D_sii[1], density.N0_aii[a])
    density.nt_sR.desc.comm.sum(moment_a)
    return moment_a


def _peak(density: Density, nt_sR: np.ndarray) -> float:
    """Highest |ñ|, spins added up."""
    return float(density.nt_sR.desc.comm.max_scalar(float(abs(nt_sR).sum(axis=0).max(initial=0.0))))


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
