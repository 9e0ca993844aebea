"""The correction that is carried along a trajectory: what cycles have added to predictions.

Of the last steps k = 1, 2, … (1 the newest) the predictions P_k and the corrections C_k = converged − P_k are kept.
For new atoms, predicted to have P, those b are looked for with which the model's own states come nearest to it,

    min_b |P − P_1 − Σ_k b_k (P_k − P_{k+1})|² + λ Σ_k b_k² |P_k − P_{k+1}|²,

and the start is P + C_1 + Σ_k b_k (C_k − C_{k+1}).  A trajectory that is smooth is extrapolated, one that jumps is not
(b ≈ 0: the newest correction alone).  Where such coefficients come from overlaps of orbitals this is known from
molecular dynamics (É. Polack, G. Dusson, B. Stamm, F. Lipparini, J. Chem. Theory Comput. 17, 6965 (2021),
doi:10.1021/acs.jctc.1c00751); here the density tells them, and orbitals follow (:mod:`.carried_orbitals`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np
from ase import Atoms

from ase_deepdensity.scf.default_start import State

if TYPE_CHECKING:
    from gpaw.mpi import MPIComm
    from gpaw.new.density import Density

DEPTH = 3
"""Steps that are remembered."""
RIDGE = 1e-3
"""λ."""


@dataclass(frozen=True)
class Remembered:
    """One step."""

    atoms: Atoms
    predicted: State
    converged: State


class History:
    """The last steps of a trajectory in one cell."""

    def __init__(self, depth: int = DEPTH):
        self.depth = depth
        self.steps: list[Remembered] = []
        """The newest first."""
        self.b_k = np.zeros(0)
        """(differences of steps,) of the start that was made last."""

    def __len__(self) -> int:
        return len(self.steps)

    def clear(self) -> None:
        self.steps.clear()

    def add(self, atoms: Atoms, predicted: State, converged: State) -> None:
        """The step that has just ended."""
        self.steps = [Remembered(atoms.copy(), predicted, converged), *self.steps[: self.depth - 1]]

    def predict_again(self, predict: Callable[[Atoms], State | None]) -> None:
        """With another model: steps that it has no prediction for, and all before, are forgotten."""
        steps = []
        for step in self.steps:
            predicted = predict(step.atoms)
            if predicted is None:
                break
            steps.append(replace(step, predicted=predicted))
        self.steps = steps

    def add_correction(self, density: Density) -> None:
        """Add the correction to a density that holds a prediction, whose atoms may have gone to other ranks."""
        self.b_k = b_k = self._differences(density)
        coefficient_k = np.eye(1, len(b_k) + 1)[0] + np.append(b_k, 0.0) - np.append(0.0, b_k)  # their sum is 1
        for coefficient, step in zip(coefficient_k, self.steps, strict=True):
            step.converged.minus(step.predicted).add_to(density, coefficient)

    def _differences(self, density: Density) -> np.ndarray:
        """b of the differences of steps, the same on all ranks of the grid."""
        nt_ksR = [step.predicted.nt_sR for step in self.steps]
        differences = [newer - older for newer, older in pairwise(nt_ksR)]
        return fitted(differences, density.nt_sR.data - nt_ksR[0], RIDGE, density.nt_sR.desc.comm)


def fitted(x_ksR: Sequence[np.ndarray], target_sR: np.ndarray, ridge: float, comm: MPIComm) -> np.ndarray:
    """b_k with the least |target − Σ_k b_k x_k|² + λ Σ_k b_k² |x_k|², the same on all ranks of the grid."""
    n = len(x_ksR)
    if not n:
        return np.zeros(0)
    product_kk = np.array([[np.vdot(x_sR, y_sR) for y_sR in [*x_ksR, target_sR]] for x_sR in x_ksR])
    comm.sum(product_kk)
    gram_kk, right_k = product_kk[:, :n], product_kk[:, n]
    b_k: np.ndarray = np.linalg.lstsq(gram_kk + ridge * np.diag(gram_kk.diagonal()), right_k, rcond=1e-12)[0]
    return b_k
