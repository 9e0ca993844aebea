"""Which structures of a pool a model would learn most from, for what they cost to calculate.

A model's last layer is linear in the features x of an atom.  What is uncertain of it after some training atoms is told
by their Gram matrix G = Σ x xᵀ: the variance at another atom is proportional to xᵀ G⁻¹ x, and calculating a structure
with the features X gains ½ ln det(1 + X G⁻¹ Xᵀ) (Bayesian experimental design, K. Chaloner, I. Verdinelli, Stat. Sci.
10, 273 (1995), doi:10.1214/ss/1177009939).  No density is needed for that.

That gathers what is unlike all others, for a model that is to know everything.  Where a few structures are learned for
the sake of one pool, others serve better: those that leave least uncertainty in it, :func:`most_telling`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from heapq import heapify, heappop, heapreplace

import numpy as np
import torch
from ase import Atoms

from ase_deepdensity.batches import batch_ends
from ase_deepdensity.model import DensityModel
from ase_deepdensity.system import system_of

Features = Mapping[int, np.ndarray]
"""By atomic number, (natoms of it, n)."""

MOST_ATOMS = 500
"""In one evaluation of the network."""
SHARED_ATOMS = 5.0
"""As so many atoms of an element's own count all others, in the Gram matrix of the element: weights are shared."""
NOISE = 0.1
"""Variance of what an atom tells that is no matter of the last layer, of that of its prediction before anything is
learned."""
LEAST_VARIANCE = 1e-4
"""Of a feature within an element, in units of the mean over features: less is noise."""


def environments(
    frames: Sequence[Atoms], model: DensityModel, progress: Callable[[int], object] = lambda n: None
) -> list[Features]:
    """The invariant features of the atoms of each frame.

    Parameters
    ----------
    frames
        Of elements that the model knows.
    progress
        Is told how many frames were added.
    """
    result, start = list[Features](), 0
    for stop in batch_ends([len(atoms) for atoms in frames], MOST_ATOMS):
        with torch.no_grad():
            system = system_of(frames[start:stop], model.network, model.level).to('cpu', torch.float32)
            x_ac = model.network(system).invariants_ac.double().numpy()
        for atoms, rows in zip(frames[start:stop], system.slices, strict=True):
            result.append({int(Z): x_ac[rows][atoms.numbers == Z] for Z in np.unique(atoms.numbers)})
        progress(stop - start)
        start = stop
    return result


class Knowledge:
    """What is known of each element's features, as the inverse of a Gram matrix.

    Parameters
    ----------
    known
        Features of the structures that have been calculated.
    pool
        Of those that may be: only their mean and size are used, for elements of which nothing is known.
    """

    def __init__(self, known: Sequence[Features], pool: Sequence[Features]):
        both, of_known = _by_element([*known, *pool]), _by_element(known)
        self.mean_zc = {Z: of_known.get(Z, x_ac).mean(0) for Z, x_ac in both.items()}
        centred_ac = np.concatenate([x_ac - self.mean_zc[Z] for Z, x_ac in both.items()])
        variance_c = centred_ac.var(0)
        self.scale_c = 1 / np.sqrt(variance_c + LEAST_VARIANCE * variance_c.mean() + 1e-12)
        shared_ac = centred_ac * self.scale_c
        prior_cc = SHARED_ATOMS * (shared_ac.T @ shared_ac / len(shared_ac) + LEAST_VARIANCE * np.eye(len(variance_c)))
        self.inverse_zcc = {
            Z: np.linalg.inv(prior_cc + (x_ac.T @ x_ac if (x_ac := self._scaled(of_known, Z)) is not None else 0))
            for Z in both
        }

    def _scaled(self, features: Features, number: int) -> np.ndarray | None:
        x_ac = features.get(number)
        return None if x_ac is None else (x_ac - self.mean_zc[number]) * self.scale_c

    def gain(self, features: Features) -> float:
        """What a structure would add, nats."""
        return sum(
            0.5 * float(np.linalg.slogdet(np.eye(len(x_ac)) + x_ac @ self.inverse_zcc[Z] @ x_ac.T)[1])
            for Z in features
            if (x_ac := self._scaled(features, Z)) is not None
        )

    def add(self, features: Features) -> None:
        """It is going to be calculated (the Woodbury identity)."""
        for Z in features:
            x_ac = self._scaled(features, Z)
            if x_ac is not None:
                y_ca = self.inverse_zcc[Z] @ x_ac.T
                self.inverse_zcc[Z] = self.inverse_zcc[Z] - y_ca @ np.linalg.solve(
                    np.eye(len(x_ac)) + x_ac @ y_ca, y_ca.T
                )


def _by_element(features: Sequence[Features]) -> dict[int, np.ndarray]:
    numbers = sorted({Z for one in features for Z in one})
    return {Z: np.concatenate([one[Z] for one in features if Z in one]) for Z in numbers}


def choose(pool: Sequence[Features], known: Sequence[Features], seconds: Sequence[float]) -> Iterator[int]:
    """Indices of the pool, in the order in which each second of their calculation adds most to all before.

    What a structure adds only shrinks as others are taken, so that of those not looked at again an old figure is an
    upper bound (M. Minoux, Accelerated greedy algorithms for maximizing submodular set functions, 1978).
    """
    knowledge = Knowledge(known, pool)
    heap = [(-knowledge.gain(features) / seconds[n], n) for n, features in enumerate(pool)]
    heapify(heap)
    while heap:
        n = heap[0][1]
        rate = -knowledge.gain(pool[n]) / seconds[n]
        others = heap[1:3]  # the second best is a child of the first
        if others and rate > min(others)[0]:
            heapreplace(heap, (rate, n))
            continue
        heappop(heap)
        knowledge.add(pool[n])
        yield n


class Uncertainty:
    """Of what a last layer says of the atoms of a pool, while it learns structures.

    Weights w are as likely in all directions, as the ridge of :mod:`.training.adapt` has it: before anything is
    learned an atom with features x has the variance xᵀx, in units of its mean over the element; then xᵀCx with
    C = (1 + Σ x xᵀ/η)⁻¹, η = :data:`NOISE`, of the atoms that were learned.  Features are not centred: the first thing
    to learn is what all atoms of an element have in common.

    Parameters
    ----------
    pool
        Features of the structures of interest.
    """

    def __init__(self, pool: Sequence[Features]):
        both = _by_element(pool)
        self.unit_z = {Z: float(np.sqrt((x_ac**2).sum(1).mean())) + 1e-12 for Z, x_ac in both.items()}
        self.x_zac = {Z: x_ac / self.unit_z[Z] for Z, x_ac in both.items()}
        of_atoms = [(Z, 1 / sum(map(len, one.values())), len(one[Z])) for one in pool for Z in one]
        self.weight_za = {
            Z: np.concatenate([np.full(natoms, weight) for Y, weight, natoms in of_atoms if Y == Z]) for Z in both
        }
        """Each structure counts once."""
        self.covariance_zcc = {Z: np.eye(x_ac.shape[1]) for Z, x_ac in both.items()}
        self.variance_za = {Z: (x_ac**2).sum(1) for Z, x_ac in self.x_zac.items()}

    def total(self) -> float:
        """Σ over structures of the mean standard deviation of their atoms."""
        return sum(float(self.weight_za[Z] @ np.sqrt(variance_a)) for Z, variance_a in self.variance_za.items())

    def gain(self, features: Features) -> float:
        """By how much :meth:`total` would fall with another structure."""
        gain = 0.0
        for Z in features:
            if Z in self.x_zac:
                after_a = (self.variance_za[Z] - self._known(Z, features[Z])[1]).clip(min=0)
                gain += float(self.weight_za[Z] @ (np.sqrt(self.variance_za[Z]) - np.sqrt(after_a)))
        return gain

    def learn(self, features: Features) -> None:
        """A structure is known."""
        for Z in features:
            if Z in self.x_zac:
                y_ci, known_a = self._known(Z, features[Z])
                self.variance_za[Z] = (self.variance_za[Z] - known_a).clip(min=0)
                self.covariance_zcc[Z] = self.covariance_zcc[Z] - y_ci @ y_ci.T

    def _known(self, Z: int, x_ic: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Y, of what is taken off the covariance, Y Yᵀ, and what that takes off the variances of the pool's atoms."""
        x_ic = x_ic / self.unit_z[Z]
        y_ci = self.covariance_zcc[Z] @ x_ic.T
        root_ii = np.linalg.cholesky(NOISE * np.eye(len(x_ic)) + x_ic @ y_ci)
        y_ci = np.linalg.solve(root_ii, y_ci.T).T
        return y_ci, ((self.x_zac[Z] @ y_ci) ** 2).sum(1)


def most_telling(pool: Sequence[Features], known: Sequence[Features]) -> Iterator[int]:
    """Indices of the pool, in the order in which each structure takes most from the uncertainty of the whole pool."""
    uncertainty, left = Uncertainty([*known, *pool]), list(range(len(pool)))
    for features in known:
        uncertainty.learn(features)
    while left:
        n = max(left, key=lambda n: uncertainty.gain(pool[n]))
        left.remove(n)
        uncertainty.learn(pool[n])
        yield n
