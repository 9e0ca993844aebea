"""How good are a model's error bars?  Expected against true errors of snapshots.

    python docs/benchmarks/error_bars.py MODEL DATASET ...

One line for each snapshot, by error; then the shares within 1 and 2 σ, rank correlations over systems and over atoms
(beside those of the distance alone), how many are within a factor of two; the same of σ at the points of the
grids, where it is not zero, of σ of the numbers in D, and of the dipole along the principal axes of its covariance; and
the CPU time that both take, against that of a prediction without error bars.  Densities of two spins have no σ at
points.
"""

from __future__ import annotations

import sys
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from scipy.stats import spearmanr

from ase_deepdensity.analysis.compare import nmae
from ase_deepdensity.analysis.dipole import origin_caveat
from ase_deepdensity.analysis.shares import nearest_sums
from ase_deepdensity.dataset import Dataset, Snapshot
from ase_deepdensity.expected_error import BeyondDensity
from ase_deepdensity.model import DensityModel
from ase_deepdensity.predict import Predictor
from ase_deepdensity.training.posterior_scales import Beyond, dipole_deviations, matrix_deviations

REPEATS = 7
"""Of a measurement of time, of which the best counts."""


@dataclass
class Row:
    """One snapshot."""

    formula: str
    true: float
    """NMAE of ñ, %."""
    expected: float
    """The same."""
    deviations: float
    """ln (true / expected) in units of σ."""
    true_a: np.ndarray
    """(natoms,) error of ñ nearest to each atom, electrons."""
    expected_a: np.ndarray
    """(natoms,)"""
    unfamiliar_a: np.ndarray
    """(natoms,)"""
    seconds: tuple[float, float, float]
    """Of the prediction, more with the error bar, and for σ at all points."""
    points: tuple[float, ...] | None
    """See :func:`of_points`; None: two spins, of which there is no σ at points."""
    beyond: Beyond | None
    """Errors of D and the dipole, and what is expected of them."""


def fastest(*jobs: Callable[[], object]) -> list[float]:
    """CPU time of each, s: the best of several, in turn."""
    best = [float('inf')] * len(jobs)
    for _ in range(REPEATS):
        for i, job in enumerate(jobs):
            start = time.process_time()
            job()
            best[i] = min(best[i], time.process_time() - start)
    return best


def of_points(sigma_R: np.ndarray, error_R: np.ndarray) -> tuple[float, ...]:
    """Rank correlation; shares within 1 and 2 σ; both at the true size of the whole error; its share where σ is 0."""
    inside_R = sigma_R > 0
    sigma_p, error_p = sigma_R[inside_R], error_R[inside_R]
    true_p = sigma_p * error_R.sum() / ((2 / np.pi) ** 0.5 * sigma_p.sum())
    shares = [np.mean(error_p < n * size_p) for size_p in (sigma_p, true_p) for n in (1, 2)]
    return spearmanr(sigma_p, error_p)[0], *shares, error_R[~inside_R].sum() / error_R.sum()


def row(predictor: Predictor, plain: Predictor, snapshot: Snapshot) -> Row:
    """Measure one snapshot; ``plain``: without error bars."""
    atoms, reference = snapshot.atoms, snapshot.density
    coefficients = predictor.coefficients(atoms)
    density = predictor.density(coefficients, reference.grid)
    expected = predictor.expected_error(coefficients)

    beyond = None
    if expected.sigma_D_aii is not None:
        covariance_vv = expected.dipole_covariance_vv
        has_dipole = covariance_vv is not None and not origin_caveat(reference)
        beyond = Beyond(
            atoms.numbers,
            [D_sii.sum(0) - its_sii.sum(0) for D_sii, its_sii in zip(density.D_asii, reference.D_asii, strict=True)],
            density.dipole_moment() - reference.dipole_moment() if has_dipole else None,
            BeyondDensity(
                expected.sigma_D_aii,
                np.zeros((2, 3, 3)) if covariance_vv is None else np.stack([covariance_vv / 2] * 2),
            ),
        )

    def with_error_bar() -> None:
        some = predictor.coefficients(atoms)
        predictor.density(some, reference.grid)
        predictor.expected_error(some)

    jobs = [lambda: plain.density(plain.coefficients(atoms), reference.grid), with_error_bar]
    if density.nspins == 1:
        sigma_R = predictor.with_sigma(coefficients, density).sigma_sR[0]
        jobs.append(lambda: predictor.with_sigma(coefficients, density))
    without, with_bar, *at_points = fastest(*jobs)
    error_R = np.abs(density.nt_sR.sum(0) - reference.nt_sR.sum(0))
    true = nmae(density, reference)
    true_a = nearest_sums(reference.grid, atoms, error_R)
    return Row(
        str(atoms.symbols), true, expected.nmae, float(np.log(true / expected.nmae)) / expected.spread,
        true_a, expected.error_a, coefficients.unfamiliar_a,
        (without, with_bar - without, sum(at_points)), of_points(sigma_R, error_R) if at_points else None, beyond,
    )  # fmt: skip


def main(model: str, *folders: str) -> None:
    """All snapshots of some folders, with what the model says of them."""
    warnings.simplefilter('ignore')
    loaded = DensityModel.load(model)
    predictor, plain = (Predictor(each, extrapolate=True) for each in (loaded, replace(loaded, error_bars=None)))
    rows = sorted((row(predictor, plain, snapshot) for snapshot in Dataset(folders)), key=lambda row: row.true)
    print('NMAE, %: true, expected, deviation in σ')
    for r in rows:
        print(f'{r.true:10.3f}{r.expected:10.3f}{r.deviations:8.2f}  {r.formula}')
    true, expected, z = (np.array([getattr(r, name) for r in rows]) for name in ('true', 'expected', 'deviations'))
    distance = [r.unfamiliar_a.mean() for r in rows]
    true_a, expected_a, distance_a = (
        np.concatenate([getattr(r, name) for r in rows]) for name in ('true_a', 'expected_a', 'unfamiliar_a')
    )
    print(f'{len(rows)} snapshots: {np.mean(abs(z) < 1):.0%} within 1 σ, {np.mean(abs(z) < 2):.0%} within 2 σ')
    print(f'median of true / expected: {np.median(true / expected):.2f}')
    print(f'within a factor of two: {np.mean(abs(np.log(true / expected)) < np.log(2)):.0%}')
    print(f'rank correlation over systems: {_rank(expected, true)}, of mean distances {_rank(distance, true)}')
    print(f'rank correlation over atoms: {_rank(expected_a, true_a)}, of distances {_rank(distance_a, true_a)}')
    print_points([r.points for r in rows if r.points is not None])
    print_beyond([r.beyond for r in rows if r.beyond is not None])
    prediction, bar, points = np.sum([r.seconds for r in rows], axis=0)
    print(
        f'CPU time: error bars {bar / prediction:.0%} of that of the predictions, σ at points {points / prediction:.0%}'
    )


def print_points(points: list[tuple[float, ...]]) -> None:
    """Means over snapshots of what :func:`of_points` says."""
    if not points:
        return
    rank, one, two, one_true, two_true, outside = np.mean(points, axis=0)
    print(f'points, means over snapshots: rank correlation {rank:.2f}, {one:.0%} within 1 σ, {two:.0%} within 2 σ')
    print(
        f'with the true size of the whole error: {one_true:.0%} and {two_true:.0%}; {outside:.0%} of it where σ is zero'
    )


def print_beyond(cases: list[Beyond]) -> None:
    """Shares, and how well the RMS over an atom's matrix is told."""
    if not cases:
        return
    deviation_x = np.concatenate([x for case in cases for x in matrix_deviations(case)])
    true_a, expected_a = (
        np.array([np.sqrt(np.mean(x_ii**2)) for case in cases for x_ii in get(case)])
        for get in (lambda case: case.matrix_error_aii, lambda case: case.said.sigma_D_aii)
    )
    within = np.mean(abs(np.log(true_a / expected_a)) < np.log(2))
    print(
        f'numbers in D: {np.mean(deviation_x < 1):.0%} within 1 σ, {np.mean(deviation_x < 2):.0%} within 2 σ; RMS of '
        f'atoms: {within:.0%} within a factor of two, rank correlation {_rank(expected_a, true_a)}'
    )
    with_dipole = [case for case in cases if case.dipole_error_v is not None]
    deviation_x = dipole_deviations(with_dipole, np.ones(2))
    if len(deviation_x):
        size = [np.linalg.norm(case.dipole_error_v) for case in with_dipole]
        sigma = [np.trace(case.said.dipole_covariance_vv(np.ones(2))) ** 0.5 for case in with_dipole]
        print(
            f'dipoles, {len(deviation_x)} axes of {len(size)} systems: {np.mean(deviation_x < 1):.0%} within 1 σ, '
            f'{np.mean(deviation_x < 2):.0%} within 2 σ; rank correlation of their sizes {_rank(sigma, size)}'
        )


def _rank(x: np.ndarray, y: np.ndarray) -> str:
    return f'{spearmanr(x, y)[0]:.2f}'


if __name__ == '__main__':
    main(*sys.argv[1:])
