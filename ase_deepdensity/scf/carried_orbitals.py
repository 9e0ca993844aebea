"""Orbitals along a trajectory: what cycles have changed of those that GPAW had moved with the atoms, extrapolated.

GPAW begins a step with the orbitals ψ_1 of the last one, moved with the atoms: M ψ_1.  Of the last cycles k = 1, 2, …
(1 the newest) the changes

    Δ_k = ψ_k − U_k M ψ_{k+1}

of the occupied orbitals are kept, with the unitary U_k among them that makes these smallest (P. H. Schönemann,
doi:10.1007/BF02289451), and a step begins with M ψ_1 + Σ_k b_k Δ_k.  The coefficients b are those of the density
(:mod:`.history`): they tell how much of each step the new one is like.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from ase_deepdensity.codes.gpaw import seams

if TYPE_CHECKING:
    from gpaw.new.ibzwfs import IBZWaveFunctions

OCCUPIED = 1e-3
"""Occupation above which an orbital is carried: others are hardly converged."""


class CarriedOrbitals:
    """The changes of the last cycles in one cell; nothing where orbitals are no functions of space (LCAO).

    It takes as much memory as the orbitals themselves, times ``depth`` + 1.
    """

    def __init__(self, depth: int):
        self.depth = depth
        self._moved: list[np.ndarray] = []
        self._change_kunG: list[list[np.ndarray]] = []

    def __len__(self) -> int:
        return len(self._change_kunG)

    def clear(self) -> None:
        self._moved, self._change_kunG = [], []

    def remember(self, ibzwfs: IBZWaveFunctions[Any]) -> None:
        """Note what the cycle that has just ended has changed; atoms have not moved yet."""
        if not self._moved:
            return
        newest, rotations = list[np.ndarray](), list[np.ndarray]()
        for wfs, moved_nG in zip(ibzwfs, self._moved, strict=True):
            noccupied = int((wfs.occ_n > OCCUPIED).sum())
            rotation_nn = _rotation(wfs.psit_nX, moved_nG, noccupied)
            newest.append(wfs.psit_nX.data[:noccupied] - _rotated(rotation_nn, moved_nG[:noccupied]))
            rotations.append(rotation_nn)
        older = [
            [_rotated(rotation_nn, change_nG) for rotation_nn, change_nG in zip(rotations, change_unG, strict=True)]
            for change_unG in self._change_kunG[: self.depth - 1]
        ]
        self._change_kunG = [newest, *older]

    def extrapolate(self, ibzwfs: IBZWaveFunctions[Any], moved: seams.Orbitals, b_k: np.ndarray) -> None:
        """Add the changes to orbitals that GPAW has moved, ``moved``."""
        self._moved = []
        if ibzwfs.band_comm.size > 1:
            self.clear()
            return
        self._moved = [psit_nX for _, psit_nX in moved.kept if psit_nX is not None]
        for b, change_unG in zip(b_k, self._change_kunG, strict=False):
            for wfs, change_nG in zip(ibzwfs, change_unG, strict=True):
                seams.add_to_orbitals(wfs, b * change_nG)


def _rotation(psit_nX: Any, moved_nG: np.ndarray, noccupied: int) -> np.ndarray:
    """The unitary matrix that brings the moved orbitals next to the present ones."""
    overlap_nn = psit_nX.matrix_elements(psit_nX.new(data=moved_nG), cc=True).data[:noccupied, :noccupied]
    left_nn, _, right_nn = np.linalg.svd(overlap_nn)
    rotation_nn: np.ndarray = left_nn @ right_nn
    return rotation_nn


def _rotated(rotation_nn: np.ndarray, x_nG: np.ndarray) -> np.ndarray:
    """Of as many orbitals as there are in both; the others are zero."""
    n = min(len(rotation_nn), len(x_nG))
    rotated_nG = np.zeros((len(rotation_nn), *x_nG.shape[1:]), x_nG.dtype)
    rotated_nG[:] = np.tensordot(rotation_nn[:, :n], x_nG[:n], axes=1)
    return rotated_nG
