"""What every density model is: the contract between networks and the rest of the house."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import torch

from ase_deepdensity.basis import SplineBasis
from ase_deepdensity.network.electron_gas import Waves
from ase_deepdensity.network.elements import Element
from ase_deepdensity.network.system import System

if TYPE_CHECKING:
    from ase_deepdensity.network.mapped import MappedFile
    from ase_deepdensity.network.readout import Features, LastLayer

Contribution = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
"""Indices of atoms (p,), vectors from them (p, 3), Å → density there (members, 1 or 2, p), electrons/Å³."""
Coefficient = list[torch.Tensor]
"""For each l coefficients (natoms, n, 2l+1) of one density."""
Matrices = dict[int, torch.Tensor]
"""By atomic number, for the elements that occur, atomic density matrices (..., natoms of it, ni, ni) in GPAW's
projector basis, the atoms in the order of :meth:`.System.atoms_of`."""
Fit = Callable[[Callable[[Coefficient], Coefficient], list[int]], list[list[Coefficient]]]
"""A map from parameters to coefficients of the basis, and the numbers of parameters for each l → for each of some
training snapshots and each component of its density, the parameters with which the basis comes near it."""


class Places(Protocol):
    """Where a density is wanted: points of grids or of a list, near atoms whose output is at hand."""

    def expansion(self, c_lesanm: list[torch.Tensor]) -> torch.Tensor:
        """The density of a model's basis functions, (members, 1 or 2, points)."""

    def pointwise(self, contribution: Contribution, cutoff: float) -> torch.Tensor:
        """The density that the atoms contribute to the points within ``cutoff`` (Å), (members, 1 or 2, points)."""


@dataclass
class Output(ABC):
    """What a network says of a system, its atoms in the order of the system.

    Two axes come first: ``e``, the members of an ensemble, whose mean is the prediction and whose spread its error bar,
    and ``s``, components: the total, and the magnetisation (spin up − spin down) where it is not zero.
    """

    D_zesaii: Matrices
    """(members, 1 or 2, natoms of the element, ni, ni), symmetric."""
    invariants_ac: torch.Tensor
    """(natoms, n) rotation-invariant descriptors of the environments, for telling known from unknown ones: what the
    network makes of them and what it is told, which a missing or an additional neighbour changes in any case."""

    @abstractmethod
    def density(self, places: Places) -> torch.Tensor:
        """What is added to the superposition of atoms, at some places: (members, 1 or 2, points)."""

    @abstractmethod
    def mean(self) -> Output:
        """The mean over members, as one member."""

    @abstractmethod
    def of_system(self, system: System, t: int) -> Output:
        """What is said of system t of the whole ``system`` that the network has seen.

        A magnetisation that another one has is there, and zero, where a system is without moments.
        """

    @property
    def members(self) -> int:
        """Of the ensemble."""
        return self._leading_shape()[0]

    @property
    def components(self) -> int:
        """1: the total; 2: total and magnetisation."""
        return self._leading_shape()[1]

    def _leading_shape(self) -> tuple[int, ...]:
        return tuple(next(iter(self.D_zesaii.values())).shape[:2])

    def split(self, system: System) -> list[Output]:
        """What is said of each system."""
        if system.nsystems == 1:
            return [self]
        return [self.of_system(system, t) for t in range(system.nsystems)]

    def finite_a(self, system: System) -> torch.Tensor:
        """(natoms,) is all that the network says of an atom finite?"""
        finite_a = torch.ones(system.natoms, dtype=torch.bool, device=self.invariants_ac.device)
        for Z, D_esaii in self.D_zesaii.items():
            finite_a[system.atoms_of(Z)] = D_esaii.isfinite().all(-1).all(-1).all(0).all(0)
        return finite_a

    def _mean_matrices(self) -> Matrices:
        return {Z: D_esaii.mean(0, keepdim=True) for Z, D_esaii in self.D_zesaii.items()}

    def _matrices_of_system(self, system: System, t: int) -> Matrices:
        D_zesaii = {}
        for Z, D_esaii in self.D_zesaii.items():
            rows = system.rows_of(Z, t)
            if rows.stop > rows.start:
                D_zesaii[Z] = D_esaii[:, :, rows]
        return D_zesaii


@dataclass
class Coefficients(Output):
    """A density that is an expansion in the model's basis."""

    c_lesanm: list[torch.Tensor]
    """For each l the coefficients (members, 1 or 2, natoms, n, 2l+1) of normalised functions of the basis."""
    file: MappedFile | None = None
    """That these are kept in, if they are many."""

    def release(self) -> None:
        """Hold none of the coefficients in memory that are kept in a file, until they are asked for again."""
        if self.file is not None:
            self.file.release()

    def density(self, places: Places) -> torch.Tensor:
        return places.expansion(self.c_lesanm)

    def mean(self) -> Coefficients:
        if self.members == 1:
            return self
        c_lesanm = [c_esanm.mean(0, keepdim=True) for c_esanm in self.c_lesanm]
        return Coefficients(self._mean_matrices(), self.invariants_ac, c_lesanm)

    def of_system(self, system: System, t: int) -> Coefficients:
        atoms = system.slices[t]
        return Coefficients(
            self._matrices_of_system(system, t),
            self.invariants_ac[atoms],
            [c_esanm[:, :, atoms] for c_esanm in self.c_lesanm],
        )

    def _leading_shape(self) -> tuple[int, ...]:
        return tuple(self.c_lesanm[0].shape[:2])

    def finite_a(self, system: System) -> torch.Tensor:
        finite_a = super().finite_a(system)
        for c_esanm in self.c_lesanm:
            finite_a &= c_esanm.isfinite().all(-1).all(-1).all(0).all(0)
        return finite_a

    def mixed(self, other: Coefficients, share_a: torch.Tensor, system: System) -> Coefficients:
        """``share_a`` (natoms,) of what is said here of each atom of the system, and the rest of ``other``.

        Of an atom without a share nothing counts, not even what is not finite.
        """

        def mixture(there: torch.Tensor, here: torch.Tensor, share_a: torch.Tensor) -> torch.Tensor:
            share_axx = share_a[:, None, None].to(here)
            return torch.where(share_axx > 0, torch.lerp(there, here, share_axx), there)

        D_zesaii = {
            Z: mixture(other.D_zesaii[Z], D_esaii, share_a[system.atoms_of(Z)]) for Z, D_esaii in self.D_zesaii.items()
        }
        c_lesanm = [mixture(there, here, share_a) for there, here in zip(other.c_lesanm, self.c_lesanm, strict=True)]
        return Coefficients(D_zesaii, self.invariants_ac, c_lesanm)


@dataclass
class PointwiseDensity(Output):
    """A density that a network computes point by point."""

    contribution: Contribution
    """Of atoms to points near them."""
    cutoff: float
    """Where contributions end, Å."""

    def density(self, places: Places) -> torch.Tensor:
        return places.pointwise(self.contribution, self.cutoff)

    def mean(self) -> PointwiseDensity:
        if self.members == 1:
            return self

        def contribution(a_p: torch.Tensor, e_pv: torch.Tensor) -> torch.Tensor:
            return self.contribution(a_p, e_pv).mean(0, keepdim=True)

        return PointwiseDensity(self._mean_matrices(), self.invariants_ac, contribution, self.cutoff)

    def of_system(self, system: System, t: int) -> PointwiseDensity:
        atoms = system.slices[t]

        def contribution(a_p: torch.Tensor, e_pv: torch.Tensor) -> torch.Tensor:
            return self.contribution(a_p + atoms.start, e_pv)

        return PointwiseDensity(
            self._matrices_of_system(system, t), self.invariants_ac[atoms], contribution, self.cutoff
        )


class DensityNetwork(torch.nn.Module, ABC):
    """A map from atoms to a density that commutes with translations, rotations, inversion and permutations.

    A new network subclasses this, is named in :mod:`.registry` and inherits the tests of
    :class:`ase_deepdensity.testing.DensityNetworkContract`.

    Parameters
    ----------
    species
        Atomic numbers that it knows, ascending.
    cutoff
        Distance to which atoms are neighbours, Å.
    """

    expands: bool
    """Its densities are expansions in the basis (:class:`Coefficients`), which derivatives need."""

    def __init__(self, species: Sequence[int], cutoff: float):
        super().__init__()
        self.species = tuple(species)
        self.cutoff = cutoff

    @classmethod
    @abstractmethod
    def telling_shapes(
        cls, species: Sequence[int], hypers: Any, basis: SplineBasis, l_zj: Sequence[Sequence[int]]
    ) -> dict[str, tuple[int, ...]]:
        """Shapes of those tensors of the state dict that the others follow from and that are the largest of their kind.

        A file that has them cannot ask for much more memory than its own size.  Arguments are those of the network.
        """

    @property
    @abstractmethod
    def ninvariants(self) -> int:
        """Length of ``invariants_ac`` of what it puts out."""

    @property
    def sees_kpoints(self) -> bool:
        """Whether its systems must be built with the :meth:`waves` of their cells and k-points."""
        return False

    @property
    def steps(self) -> int | None:
        """How many steps from neighbour to neighbour what it says of an atom depends on, if it takes blocks of larger
        systems (see :mod:`.blocks`); None: it is shown whole systems only."""
        return None

    @property
    def reach(self) -> float | None:
        """Å: what is farther away from an atom changes nothing of what it says of it, in any way but by charges and
        k-points of the whole; None: not known."""
        return None if self.steps is None else self.steps * self.cutoff

    @property
    def members(self) -> int:
        """Length of the ensemble's axis of what it puts out."""
        return 1

    @property
    def sees_magnetic_moments(self) -> bool:
        """Whether it predicts a magnetisation from the moments of the atoms."""
        return False

    @property
    def knows_the_usual(self) -> bool:
        """Whether it says what is :meth:`usual` for an element."""
        return False

    @property
    def sees_charge(self) -> bool:
        """Whether it is told the charges of systems; one that is not predicts for that of its training data."""
        return False

    def set_elements(self, elements: Mapping[int, Element]) -> None:
        """Tell it what the free atoms of its elements are like, by atomic number, before training."""

    @property
    def takes_elements(self) -> bool:
        """Whether a trained one can be told of more elements, see :meth:`with_elements`."""
        return False

    def with_elements(self, elements: Mapping[int, Element]) -> DensityNetwork:
        """The same network, which knows more elements, by atomic number; what it says of the others does not change.

        Raises
        ------
        ValueError
            Elements that it knows already.
        """
        raise NotImplementedError

    def waves(self, cell_cv: np.ndarray, kpt_Kc: np.ndarray, electrons: float) -> Waves:
        """What it is told about a cell (Å), all k-points of the Brillouin zone (scaled) and the valence electrons."""
        raise NotImplementedError

    @abstractmethod
    def forward(self, system: System) -> Output:
        """What there is to say of all atoms of one or many systems.

        Raises
        ------
        ValueError
            Elements that it does not know.
        """

    def usual(self, system: System) -> Coefficients:
        """A total density of atoms of which only the elements are known: the means of the training atoms."""
        raise NotImplementedError

    def parameters_of(self, numbers: Sequence[int]) -> list[torch.nn.Parameter]:
        """Weights that belong to these elements alone, by atomic number: what it says of others does not see them.

        Raises
        ------
        ValueError
            A network without such weights.
        """
        raise ValueError(f'the elements of {type(self).__name__} have no weights of their own')

    def last_layer(self) -> LastLayer:
        """Its linear read-outs, whose weights may be changed; of the total density.

        Raises
        ------
        ValueError
            A network without.
        """
        raise ValueError(f'the last layer of {type(self).__name__} is not linear')

    def features(self, system: System) -> Features:
        """What the last layer reads of the atoms of a system; see :meth:`last_layer`."""
        return self.with_features(system)[1]

    def with_features(self, system: System) -> tuple[Output, Features]:
        """What there is to say of a system and what the last layer reads of it, in one pass."""
        raise ValueError(f'the last layer of {type(self).__name__} is not linear')

    @property
    @abstractmethod
    def mean_zii(self) -> dict[int, torch.Tensor]:
        """(ni, ni) mean atomic density matrix of each species in the training data, by atomic number."""

    @abstractmethod
    def fit_scale(self, systems: Sequence[System], fit: Fit, D_tzsaii: Sequence[Matrices]) -> None:
        """Take the scales of inputs and outputs from training data, once, before training.

        Parameters
        ----------
        systems
            Snapshots that have all its elements.
        fit
            Densities of the same snapshots.
        D_tzsaii
            Matrices (1 or 2, natoms, ni, ni) for each snapshot of the training data.

        Raises
        ------
        ValueError
            An element that no snapshot has.
        """
