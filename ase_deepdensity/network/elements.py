"""Chemical elements as vectors: what a dataset says of the free atom, and what a training adds to it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import numpy as np
import torch

MOST_L = 3
"""Highest angular momentum of occupied states."""
ENERGY = 20.0
"""eV: eigenvalues are given in this unit."""
MOMENT = 3.0
"""μB: beyond it a moment hardly says more."""
NDESCRIPTORS = 3 + 2 * (MOST_L + 1)


class Element(Protocol):
    """What is known of an element: the part of an :class:`.AtomType` that describes its free atom."""

    @property
    def nvalence(self) -> float:
        """Valence electrons."""

    @property
    def l_j(self) -> tuple[int, ...]:
        """Angular momenta of the projectors."""

    @property
    def f_j(self) -> tuple[float, ...]:
        """Electrons in each state of the free atom; 0 for one that is not bound."""

    @property
    def eps_j(self) -> tuple[float, ...]:
        """Eigenvalues of the same states, eV."""

    @property
    def D_ii(self) -> np.ndarray:
        """(ni, ni) density matrix of the free atom."""

    @property
    def nt(self) -> Any:
        """Its pseudo density: a function of r (Å), electrons/Å³, that ends at ``nt.cutoff``."""


def descriptors(element: Element) -> np.ndarray:
    """(NDESCRIPTORS,) valence electrons; for each l electrons and the highest occupied eigenvalue; size; density.

    All are of the order of one, and similar for elements that bind alike: what a network learns of some elements
    serves for others.  An l without electrons counts as an eigenvalue of zero.
    """
    occupation_l, energy_l = np.zeros(MOST_L + 1), np.zeros(MOST_L + 1)
    for l in range(MOST_L + 1):
        bound = [(f, eps) for l_of_j, f, eps in zip(element.l_j, element.f_j, element.eps_j, strict=True)
                 if l_of_j == l and f > 0]  # fmt: skip
        if bound:
            occupation_l[l] = sum(f for f, _ in bound) / (4 * l + 2)
            energy_l[l] = max(eps for _, eps in bound) / ENERGY
    r_g = np.linspace(0, element.nt.cutoff, 400)
    n_g = np.abs(element.nt(r_g)) * r_g**2
    radius = float((n_g * r_g).sum() / max(n_g.sum(), 1e-12))
    electrons = 4 * np.pi * float(n_g.sum() * r_g[1])
    return np.array([element.nvalence / 8, radius, np.log1p(electrons), *occupation_l, *energy_l])


class ElementVectors(torch.nn.Module):
    """A vector for each atom: of its element, changed by its magnetic moment and the charge of its system.

        v_a = f(descriptors of Z) + learned_Z,    v_a ← v_a + μ P v_a + μ² Q v_a + q C v_a

    with μ the moment, smoothly bounded, and q the charge per atom.  ``learned`` starts at zero: an element that no
    training has seen is what its descriptors say.  Without moments and charge nothing is added at all.

    Parameters
    ----------
    nspecies
        Elements.
    size
        Length of the vectors.
    magnetic, charged
        Are there moments, charges?
    """

    descriptor_zx: torch.Tensor

    def __init__(self, nspecies: int, size: int, magnetic: bool, charged: bool):
        super().__init__()
        self.register_buffer('descriptor_zx', torch.zeros(nspecies, NDESCRIPTORS))
        self.learned_zx = torch.nn.Parameter(torch.zeros(nspecies, size))
        self.physical = torch.nn.Sequential(
            torch.nn.Linear(NDESCRIPTORS, size), torch.nn.SiLU(), torch.nn.Linear(size, size)
        )
        self.moment = torch.nn.Linear(size, 2 * size, bias=False) if magnetic else None
        self.charge = torch.nn.Linear(size, size, bias=False) if charged else None
        if self.charge is not None:
            torch.nn.init.zeros_(self.charge.weight)

    def describe(self, elements: Mapping[int, Element], species: Sequence[int]) -> None:
        """Take the descriptors of those of ``species`` (all that the network knows) that are given."""
        for z, number in enumerate(species):
            if number in elements:
                self.descriptor_zx[z] = torch.from_numpy(descriptors(elements[number])).to(self.descriptor_zx)

    def forward(self, z_a: torch.Tensor, magmom_a: torch.Tensor, charge_a: torch.Tensor) -> torch.Tensor:
        """Index of each atom's element, moments (μB), charges (|e| per atom of the system) → (natoms, size)."""
        v_ax: torch.Tensor = self.physical(self.descriptor_zx[z_a]) + self.learned_zx[z_a]
        more_ax = torch.zeros_like(v_ax)
        if self.moment is not None:
            moment_a1 = (magmom_a / (1 + (magmom_a / MOMENT) ** 2).sqrt())[:, None]
            odd_ax, even_ax = self.moment(v_ax).chunk(2, dim=1)
            more_ax = more_ax + moment_a1 * odd_ax + moment_a1**2 * even_ax
        if self.charge is not None:
            more_ax = more_ax + charge_a[:, None] * self.charge(v_ax)
        return v_ax + more_ax
