"""What a network says of some atoms: all that a density of them needs."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from ase import Atoms

from ase_deepdensity.network.contract import Output
from ase_deepdensity.network.readout import Features
from ase_deepdensity.network.system import System
from ase_deepdensity.spin import spins


@dataclass
class AtomsCoefficients:
    """What the network says of some atoms; all that evaluation on grids needs."""

    atoms: Atoms
    """A copy of the caller's."""
    output: Output
    """Of the network."""
    unfamiliar_a: np.ndarray
    """(natoms,) distance of each environment from the training data, in units of what most of these stay
    below."""
    charge: float = 0.0
    """Total charge that it is for, |e|."""
    extrapolate: bool = False
    """Is a density wanted even if it means nothing?"""
    seen: tuple[System, Features] | None = None
    """What the network was shown and what its last layer has read, kept where a model has error bars."""

    @property
    def nspins(self) -> int:
        """1: spin-paired; 2: the atoms have moments, and there is a magnetisation."""
        return self.output.components if self.atoms.get_initial_magnetic_moments().any() else 1

    @property
    def members(self) -> int:
        """How many networks of an ensemble say something; their mean is the prediction."""
        return self.output.members

    def about(self, atoms: Atoms, unfamiliar_a: np.ndarray) -> AtomsCoefficients:
        """The same for messages about all atoms, of some of which this is."""
        return replace(self, atoms=atoms, unfamiliar_a=unfamiliar_a)

    def D_asii(self) -> list[np.ndarray]:
        """For each atom (nspins, ni, ni), the mean over members."""
        return atomic_matrices(self.output, self.atoms.numbers, self.nspins)


def atomic_matrices(output: Output, number_a: np.ndarray, nspins: int) -> list[np.ndarray]:
    """For each atom (nspins, ni, ni), the mean over members; ``number_a``: atomic numbers in the output's order."""
    D_asii: list[np.ndarray] = [np.empty(0)] * len(number_a)
    for Z, D_esaii in output.mean().D_zesaii.items():
        D_saii = spins(D_esaii[0].double().cpu().numpy(), nspins)
        for a, D_sii in zip(np.flatnonzero(number_a == Z), D_saii.swapaxes(0, 1), strict=True):
            D_asii[a] = D_sii
    return D_asii
