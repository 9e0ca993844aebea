"""How large σ of atomic matrices and of the dipole are, by the true errors of held-out snapshots.

The posterior (:mod:`ase_deepdensity.network.posterior`) gives their shape; one factor for each element and one for all
dipoles give their size.  The factor of an element is the geometric mean over its atoms of what makes the RMS of σ that
of the error of D; the factor of dipoles the one with which the share of a Gaussian of the errors along the principal
axes of their covariance is within 1 σ.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from ase_deepdensity.expected_error import BeyondDensity

LEAST_AXES = 6
"""Principal axes of dipoles from which on their factor can be told."""
POOLED = 2.0
"""Atoms that the mean over all elements counts as for the mean of one."""
SMALLEST = 1e-4
"""e·Å: σ of a dipole along an axis along which symmetry allows none; and of numbers in D, in units of the largest σ."""
ONE_SIGMA = 0.6827


@dataclass(frozen=True, eq=False)
class Beyond:
    """The true errors of a snapshot, and what the posterior says of it."""

    number_a: np.ndarray
    """(natoms,) atomic numbers."""
    matrix_error_aii: Sequence[np.ndarray]
    """For each atom D − D_ref (ni, ni), both spins together."""
    dipole_error_v: np.ndarray | None
    """(3,) e·Å; None: it is no property of the atoms."""
    said: BeyondDensity


def factors(cases: Sequence[Beyond], species: Sequence[int]) -> dict[str, torch.Tensor]:
    """``matrix_z`` and ``dipole_x`` of :class:`.ErrorBars`; zero where nothing can be told."""
    log_z = [np.concatenate([_matrix_logs(case, Z) for case in cases]) for Z in species]
    mean = float(np.concatenate(log_z).mean()) if any(map(len, log_z)) else 0.0
    matrix_z = [np.exp((log_a.sum() + POOLED * mean) / (len(log_a) + POOLED)) for log_a in log_z]
    deviation_x = _deviations(cases)
    dipole = np.quantile(deviation_x, ONE_SIGMA) if len(deviation_x) >= LEAST_AXES else 0.0
    known = float(any(map(len, log_z)))
    return {
        'matrix_z': known * torch.tensor(matrix_z, dtype=torch.float32),
        'dipole_x': torch.tensor([dipole], dtype=torch.float32),
    }


def shares(
    cases: Sequence[Beyond], compounds: Sequence[str], folds: Sequence[set[str]], species: Sequence[int]
) -> dict[str, float]:
    """Shares within 1 and 2 σ for formulas that the factors were not fitted to, %."""
    element_x, dipole_x = [np.empty(0)], [np.empty(0)]
    for left_out in folds:
        kept, out = (
            [case for case, compound in zip(cases, compounds, strict=True) if (compound in left_out) is inside]
            for inside in (False, True)
        )
        tensors = factors(kept, species)
        matrix_z = dict(zip(species, tensors['matrix_z'].tolist(), strict=True))
        if not any(matrix_z.values()):
            continue
        element_x += [
            _numbers(error_ii, matrix_z[Z] * sigma_ii)
            for case in out
            for Z, error_ii, sigma_ii in zip(
                case.number_a.tolist(), case.matrix_error_aii, case.said.sigma_D_aii, strict=True
            )
        ]
        if dipole := float(tensors['dipole_x']):
            dipole_x.append(_deviations(out) / dipole)
    found: dict[str, float] = {}
    for name, deviation_x in ('D', np.concatenate(element_x)), ('dipoles', np.concatenate(dipole_x)):
        if len(deviation_x):
            found |= {f'{name} within {n} σ, %': round(100 * float(np.mean(deviation_x < n)), 2) for n in (1, 2)}
    return found


def _matrix_logs(case: Beyond, number: int) -> np.ndarray:
    """ln of RMS error over RMS σ of the atoms of an element that have matrices."""
    ratios = []
    for a in np.flatnonzero(case.number_a == number).tolist():
        error, sigma = (np.sqrt(np.mean(x_ii**2)) if x_ii.size else 0.0
                        for x_ii in (case.matrix_error_aii[a], case.said.sigma_D_aii[a]))  # fmt: skip
        if error > 0 and sigma > 0:
            ratios.append(np.log(error / sigma))
    return np.array(ratios)


def _numbers(error_ii: np.ndarray, sigma_ii: np.ndarray) -> np.ndarray:
    """Errors in σ of the numbers of a matrix that may differ from atom to atom, each once."""
    upper_ii = np.triu(sigma_ii > SMALLEST * sigma_ii.max(initial=0.0))
    deviation_x: np.ndarray = abs(error_ii[upper_ii]) / sigma_ii[upper_ii]
    return deviation_x


def _deviations(cases: Sequence[Beyond]) -> np.ndarray:
    """Errors of dipoles along their principal axes in units of what the posterior says, where symmetry allows any."""
    parts = [np.empty(0)]
    for case in cases:
        if case.dipole_error_v is not None:
            variance_x, axis_vx = np.linalg.eigh(case.said.dipole_covariance_vv)
            sigma_x = np.sqrt(variance_x.clip(min=0))
            parts.append((abs(case.dipole_error_v @ axis_vx) / np.maximum(sigma_x, 1e-30))[sigma_x > SMALLEST])
    return np.concatenate(parts)
