"""How large σ of atomic matrices and of the dipole are, by the true errors of held-out snapshots.

The posterior (:mod:`ase_deepdensity.network.posterior`) gives their shape; one factor for each element and two for
dipoles give their size.  The factor of an element is the geometric mean over its atoms of what makes the RMS of σ that
of the error of D.  Of dipoles, the ratio of the two factors, for charges and dipoles of atoms, is the most likely one
for errors along the principal axes of their covariance that have Student's distribution (of three degrees of freedom,
so that a few large ones do not decide); their size is that with which as many errors as of a Gaussian are within 1 σ.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from scipy.optimize import minimize

from ase_deepdensity.expected_error import BeyondDensity

LEAST_AXES = 6
"""Principal axes of dipoles from which on their factor can be told."""
POOLED = 2.0
"""Atoms that the mean over all elements counts as for the mean of one."""
SMALLEST = 1e-4
"""e·Å: σ of a dipole along an axis along which symmetry allows none; and of numbers in D, in units of the largest σ."""
TINY = 1e-9
"""e·Å"""
STUDENT = 3
"""Degrees of freedom."""
LARGEST = 5.0
"""Of the ln of the factors of dipoles."""
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
    known = float(any(map(len, log_z)))
    return {
        'matrix_z': known * torch.tensor(matrix_z, dtype=torch.float32),
        'dipole_x': torch.tensor(_dipole_factors(cases), dtype=torch.float32),
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
        for case in out:
            pairs = zip(case.number_a.tolist(), matrix_deviations(case), strict=True)
            element_x += [deviation_x / matrix_z[Z] for Z, deviation_x in pairs]
        factor_x = tensors['dipole_x'].double().numpy()
        if factor_x.any():
            dipole_x.append(dipole_deviations(out, factor_x))
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


def matrix_deviations(case: Beyond) -> list[np.ndarray]:
    """For each atom errors in σ of the numbers of its matrix that may differ from atom to atom, each once."""
    deviation_ax = []
    for error_ii, sigma_ii in zip(case.matrix_error_aii, case.said.sigma_D_aii, strict=True):
        upper_ii = np.triu(sigma_ii > SMALLEST * sigma_ii.max(initial=0.0))
        deviation_ax.append(abs(error_ii[upper_ii]) / sigma_ii[upper_ii])
    return deviation_ax


def dipole_deviations(cases: Sequence[Beyond], factor_x: np.ndarray) -> np.ndarray:
    """Errors of dipoles along their principal axes in σ, where symmetry allows any; ``factor_x``: (2,)."""
    sigma_x, error_x = _along_axes(cases, factor_x)
    return error_x / sigma_x


def _along_axes(cases: Sequence[Beyond], factor_x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """σ and sizes of errors of dipoles along their principal axes, e·Å."""
    parts = [(np.empty(0), np.empty(0))]
    for case in cases:
        if case.dipole_error_v is not None:
            allowed = np.sum(np.linalg.eigvalsh(case.said.dipole_covariance_vv(np.ones(2))) > SMALLEST**2)
            variance_x, axis_vx = np.linalg.eigh(case.said.dipole_covariance_vv(factor_x))
            sigma_x = np.sqrt(np.maximum(variance_x, TINY**2))
            parts.append((sigma_x[3 - allowed :], abs(case.dipole_error_v @ axis_vx)[3 - allowed :]))
    sigma_x, error_x = (np.concatenate(x) for x in zip(*parts, strict=True))
    return sigma_x, error_x


def _dipole_factors(cases: Sequence[Beyond]) -> np.ndarray:
    """(2,) of charges and dipoles of atoms; zeros where there are too few errors."""
    if len(dipole_deviations(cases, np.ones(2))) < LEAST_AXES:
        return np.zeros(2)

    def unlikelihood(log_x: np.ndarray) -> float:
        sigma_x, error_x = _along_axes(cases, np.exp(log_x))
        freedom = STUDENT
        return float(np.sum(np.log(sigma_x) + (freedom + 1) / 2 * np.log1p((error_x / sigma_x) ** 2 / freedom)))

    factor_x = np.exp(minimize(unlikelihood, np.zeros(2), method='Nelder-Mead', bounds=[(-LARGEST, LARGEST)] * 2).x)
    size: np.ndarray = factor_x * np.quantile(dipole_deviations(cases, factor_x), ONE_SIGMA)
    return size
