"""Matrices between projectors as irreducible representations of the rotations (Clebsch–Gordan coefficients)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch


@dataclass(frozen=True)
class Coupling:
    """Two projectors j1, j2 coupled to one angular momentum L: an irreducible part of an atomic density matrix.

    ``pseudo``: it has the parity (−1)^(L+1), because l1 + l2 + L is odd.
    """

    j1: int
    j2: int
    l1: int
    l2: int
    L: int

    @property
    def pseudo(self) -> bool:
        return (self.l1 + self.l2 + self.L) % 2 == 1


def couplings(l_j: Sequence[int]) -> list[Coupling]:
    """Irreducible parts of a symmetric matrix in the projector basis with angular momenta ``l_j``.

    Diagonal blocks (j, j) are symmetric themselves and keep even L only.
    """
    return [
        Coupling(j1, j2, l1, l2, L)
        for j1, l1 in enumerate(l_j)
        for j2, l2 in enumerate(l_j[j1:], start=j1)
        for L in range(abs(l1 - l2), l1 + l2 + 1)
        if j1 != j2 or L % 2 == 0
    ]


def coupling_tensors(l_j: Sequence[int]) -> list[torch.Tensor]:
    """For each coupling the (2L+1, ni, ni) symmetric matrices that its components multiply; orthonormal in tr(AB)."""
    from e3nn import o3  # slow to import, and needed for new networks only

    start_j = [sum(2 * l + 1 for l in l_j[:j]) for j in range(len(l_j) + 1)]
    ni = start_j[-1]
    tensors = []
    for b in couplings(l_j):
        C_mij = o3.wigner_3j(b.l1, b.l2, b.L, dtype=torch.float64).permute(2, 0, 1) * (2 * b.L + 1) ** 0.5
        T_mii = torch.zeros(2 * b.L + 1, ni, ni, dtype=torch.float64)
        rows, columns = slice(start_j[b.j1], start_j[b.j1 + 1]), slice(start_j[b.j2], start_j[b.j2 + 1])
        if b.j1 == b.j2:
            T_mii[:, rows, columns] = C_mij
        else:
            T_mii[:, rows, columns] = C_mij / 2**0.5
            T_mii[:, columns, rows] = C_mij.transpose(1, 2) / 2**0.5
        tensors.append(T_mii)
    return tensors
