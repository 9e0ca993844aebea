"""What every density model is: the contract between networks and the rest of the house."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from ase_deepdensity.network.graph import Graph
from ase_deepdensity.network.heads import CoefficientHead


@dataclass
class Coefficients:
    """What a network says of a set of atoms, in the order of its graph (by species).

    Parameters
    ----------
    c_lanm
        For each l the coefficients (natoms, n, 2l+1) of normalised functions of the basis.
    D_saii
        For each species the atomic density matrices (natoms of it, ni, ni) in GPAW's projector basis.
    invariants_ac
        Rotation-invariant descriptors of the environments, for telling known from unknown ones.
    """

    c_lanm: list[torch.Tensor]
    D_saii: list[torch.Tensor]
    invariants_ac: torch.Tensor


class DensityNetwork(torch.nn.Module, ABC):
    """A map from atoms to coefficients that commutes with translations, rotations, inversion and permutations.

    A new network subclasses this, is named in :mod:`.registry` and inherits the tests of
    ``tests/network/contract.py``.

    Parameters
    ----------
    species
        Atomic numbers that it knows, ascending.
    cutoff
        Distance to which atoms are neighbours, Å.
    """

    coefficients: CoefficientHead
    """Writes the density; knows the orthonormal combinations of its radial functions."""

    def __init__(self, species: Sequence[int], cutoff: float):
        super().__init__()
        self.species = tuple(species)
        self.cutoff = cutoff

    @abstractmethod
    def forward(self, graph: Graph) -> Coefficients:
        """Coefficients of all atoms of a graph."""

    @property
    @abstractmethod
    def mean_sii(self) -> list[torch.Tensor]:
        """(ni, ni) mean atomic density matrix of each species in the training data."""

    @abstractmethod
    def fit_scale(
        self, graphs: list[Graph], y_tlakm: list[list[torch.Tensor]], D_tsaii: list[list[torch.Tensor]]
    ) -> None:
        """Take the scales of inputs and outputs from training data, once, before training.

        ``y_tlakm``: least-squares coefficients in the orthonormal radial functions; ``D_tsaii``: matrices by species;
        both for each graph.
        """
