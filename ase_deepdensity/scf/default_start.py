"""GPAW's default start, kept while a seed is on trial: what a refused seed leaves behind is nothing."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from ase_deepdensity.codes.gpaw.seams import Orbitals

if TYPE_CHECKING:
    from gpaw.core.atom_arrays import AtomArrays
    from gpaw.new.density import Density
    from gpaw.new.energies import DFTEnergies
    from gpaw.new.ibzwfs import IBZWaveFunctions
    from gpaw.new.potential import Potential


@dataclass
class State:
    """ñ and D of this rank, in GPAW's units and layout: a copy of what a density held, or a difference of two."""

    nt_sR: np.ndarray
    D_asii: AtomArrays

    @classmethod
    def of(cls, density: Density) -> State:
        return cls(density.nt_sR.data.copy(), density.D_asii.copy())

    def put(self, density: Density) -> None:
        density.nt_sR.data[:] = self.nt_sR
        density.D_asii.data[:] = self.D_asii.data

    def add_to(self, density: Density, factor: float = 1.0) -> None:
        """Add some of it to a density whose atoms may have gone to other ranks meanwhile."""
        density.nt_sR.data += factor * self.nt_sR
        density.D_asii.data += factor * self.D_asii.moved(density.D_asii.layout.atomdist).data

    def add(self, other: State, factor: float) -> None:
        """Add some of another one, whose atoms may be on other ranks."""
        self.nt_sR += factor * other.nt_sR
        self.D_asii.data += factor * other.D_asii.moved(self.D_asii.layout.atomdist).data

    def minus(self, other: State) -> State:
        return State(self.nt_sR - other.nt_sR, self.D_asii.new(data=self.D_asii.data - other.D_asii.data))

    def electrons(self, density: Density) -> float:
        """∫ |ñ| dr over the whole grid, of both spins."""
        return _integral_of_size(self.nt_sR, density)

    def total_electrons(self, density: Density) -> float:
        """The same of the total of both spins."""
        return _integral_of_size(self.nt_sR.sum(axis=0), density)


def _integral_of_size(x_X: np.ndarray, density: Density) -> float:
    """∫ |x| dr over the whole grid."""
    grid = density.nt_sR.desc
    return float(grid.comm.sum_scalar(float(np.abs(x_X).sum())) * grid.dv)


@dataclass
class DefaultStart:
    """Density, potential and orbitals that GPAW would begin with."""

    density: State
    potential: Callable[[], tuple[Potential, DFTEnergies]]
    """Calculates the potential of the density, when that has been put back."""
    orbitals: Orbitals | Callable[[IBZWaveFunctions[Any], Potential], None] | None = None
    """A copy, or what makes them from the potential; None: those that are there stay."""

    def put(self, ibzwfs: IBZWaveFunctions[Any], density: Density) -> tuple[Potential, DFTEnergies]:
        """Put all of it back."""
        self.density.put(density)
        potential, energies = self.potential()
        if isinstance(self.orbitals, Orbitals):
            self.orbitals.put(ibzwfs)
        elif self.orbitals is not None:
            self.orbitals(ibzwfs, potential)
        return potential, energies

    def free_memory(self) -> None:
        """Give the copy of the orbitals up: the seed is good, and those that are there are better."""
        if isinstance(self.orbitals, Orbitals):
            self.orbitals = None
