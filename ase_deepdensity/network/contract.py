"""What every density model is: the contract between networks and the rest of the house."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch

from ase_deepdensity.basis import SplineBasis
from ase_deepdensity.network.electron_gas import Waves
from ase_deepdensity.network.graph import Graph, by_species

Contribution = Callable[[int, torch.Tensor, torch.Tensor], torch.Tensor]
"""Species, indices of atoms (p,) of that species, vectors from them (p, 3), Å → density there (p,), electrons/Å³."""
Blocks = list[torch.Tensor]
"""For each l coefficients (natoms, n, 2l+1)."""
Fit = Callable[[Callable[[Blocks], Blocks], list[int]], list[Blocks]]
"""A map from parameters to coefficients of the basis, and the numbers of parameters for each l → the parameters with
which the basis comes near the density of each of some training snapshots."""


class Writer(Protocol):
    """Something to write a density on: the points of a grid near atoms whose output is at hand."""

    def expansion(self, c_lanm: Blocks) -> torch.Tensor:
        """The density of a model's basis functions."""

    def points(self, contribution: Contribution, slices: list[slice], cutoff: float) -> torch.Tensor:
        """The density that the atoms of each species contribute to the points within ``cutoff`` (Å)."""


@dataclass
class Output(ABC):
    """What a network says of a set of atoms, in the order of its graph (by species)."""

    D_saii: list[torch.Tensor]
    """For each species the atomic density matrices (natoms of it, ni, ni) in GPAW's projector basis."""
    invariants_ac: torch.Tensor
    """Rotation-invariant descriptors of the environments, for telling known from unknown ones."""

    @abstractmethod
    def density(self, writer: Writer) -> torch.Tensor:
        """What is added to the superposition of atoms, written on something."""

    @abstractmethod
    def part(self, slices: list[slice]) -> Output:
        """What is said of some atoms of each species only, ``slices`` of all atoms."""

    def _matrices(self, slices: list[slice]) -> list[torch.Tensor]:
        all_s = by_species([len(D_aii) for D_aii in self.D_saii])
        return [
            D_aii[a.start - b.start : a.stop - b.start] for D_aii, a, b in zip(self.D_saii, slices, all_s, strict=True)
        ]


@dataclass
class Coefficients(Output):
    """A density that is an expansion in the model's basis."""

    c_lanm: Blocks
    """For each l the coefficients (natoms, n, 2l+1) of normalised functions of the basis."""

    def density(self, writer: Writer) -> torch.Tensor:
        return writer.expansion(self.c_lanm)

    def part(self, slices: list[slice]) -> Coefficients:
        return Coefficients(
            self._matrices(slices), _rows(self.invariants_ac, slices), [_rows(c_anm, slices) for c_anm in self.c_lanm]
        )


@dataclass
class PointwiseDensity(Output):
    """A density that a network computes point by point."""

    contribution: Contribution
    slices: list[slice]
    """Atoms of each species."""
    cutoff: float
    """Where contributions end, Å."""

    def density(self, writer: Writer) -> torch.Tensor:
        return writer.points(self.contribution, self.slices, self.cutoff)

    def part(self, slices: list[slice]) -> PointwiseDensity:
        index_a = torch.cat([torch.arange(a.start, a.stop, device=self.invariants_ac.device) for a in slices])
        return PointwiseDensity(
            self._matrices(slices),
            _rows(self.invariants_ac, slices),
            lambda s, a_p, e_pv: self.contribution(s, index_a[a_p], e_pv),
            by_species([a.stop - a.start for a in slices]),
            self.cutoff,
        )


def _rows(x_ax: torch.Tensor, slices: list[slice]) -> torch.Tensor:
    return torch.cat([x_ax[a] for a in slices])


class DensityNetwork(torch.nn.Module, ABC):
    """A map from atoms to a density that commutes with translations, rotations, inversion and permutations.

    A new network subclasses this, is named in :mod:`.registry` and inherits the tests of
    ``tests/network/contract.py``.

    Parameters
    ----------
    species
        Atomic numbers that it knows, ascending.
    cutoff
        Distance to which atoms are neighbours, Å.
    """

    def __init__(self, species: Sequence[int], cutoff: float):
        super().__init__()
        self.species = tuple(species)
        self.cutoff = cutoff

    @classmethod
    @abstractmethod
    def telling_shapes(
        cls, species: Sequence[int], hypers: Any, basis: SplineBasis, l_sj: Sequence[Sequence[int]]
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
        """Whether its graphs must be built with the :meth:`waves` of their cells and k-points."""
        return False

    def waves(self, cell_cv: np.ndarray, kpt_Kc: np.ndarray, electrons: float) -> Waves:
        """What it is told about a cell (Å), all k-points of the Brillouin zone (scaled) and the valence electrons."""
        raise NotImplementedError

    @abstractmethod
    def forward(self, graph: Graph) -> Output:
        """What there is to say of all atoms of a graph."""

    @property
    @abstractmethod
    def mean_sii(self) -> list[torch.Tensor]:
        """(ni, ni) mean atomic density matrix of each species in the training data."""

    @abstractmethod
    def fit_scale(self, graphs: list[Graph], fit: Fit, D_tsaii: list[list[torch.Tensor]]) -> None:
        """Take the scales of inputs and outputs from training data, once, before training.

        ``fit`` is for the snapshots of ``graphs``; ``D_tsaii``: matrices by species for each training snapshot.
        """
