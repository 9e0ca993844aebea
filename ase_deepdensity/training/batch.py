"""What a step learns from: the atoms of some snapshots, and some grid points of all of them in one list."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch

from ase_deepdensity.collocation.points import Points
from ase_deepdensity.grid import Grid
from ase_deepdensity.network.contract import Matrices
from ase_deepdensity.network.system import System
from ase_deepdensity.training.config import TrainingConfig
from ase_deepdensity.training.data import Sample, Target, TrainingData
from ase_deepdensity.training.loss import padded
from ase_deepdensity.training.ranks import ALONE, Ranks


@dataclass(frozen=True, eq=False)
class Coset:
    """Every n-th point of a grid along each axis, from one on: a uniform grid itself, seen from moved atoms.

    Sums over uniform grids are several times faster, point by point, than those over points at random places.
    """

    grid: Grid
    origin_v: np.ndarray
    """(3,) where its origin is in the cell of the atoms, Å."""


@dataclass(frozen=True, eq=False)
class Batch:
    """Some snapshots and some of their grid points, of all snapshots in one list, one snapshot after the other."""

    system: System
    """All their atoms."""
    places: Sequence[Coset] | Points
    """Where the points are: a coset of the grid of each snapshot, or one by one."""
    system_p: torch.Tensor
    """(points,) index of the snapshot."""
    target_sp: torch.Tensor
    """(components, points) what the network has to add to the superposition of atoms, electrons/Å³."""
    weight_p: torch.Tensor
    """(points,) with which errors add up to the NMAE in %, mean over snapshots, per electrons/Å³."""
    D_zsaii: Matrices
    """By atomic number, (components, natoms of it, ni, ni), atoms as in :meth:`.System.atoms_of`."""
    names: tuple[str, ...]
    """Of the files of the snapshots."""

    def to(self, device: torch.device | str) -> Batch:
        """The same elsewhere."""
        places = self.places
        return replace(
            self,
            system=self.system.to(device),
            places=places.to(device) if isinstance(places, Points) else places,
            system_p=self.system_p.to(device),
            target_sp=self.target_sp.to(device),
            weight_p=self.weight_p.to(device),
            D_zsaii=on(device, self.D_zsaii),
        )

    def part_of(self, size: int, ncomponents: int) -> Batch:
        """As a part of ``size`` snapshots with so many components: losses of the parts add up to those of all."""
        return replace(
            self,
            weight_p=self.weight_p * (len(self.names) / size),
            D_zsaii={Z: padded(D_saii, ncomponents) for Z, D_saii in self.D_zsaii.items()},
        )


class Batches:
    """The batch of each step, or this rank's share of it: the same whenever it is asked for, whatever came before.

    Parameters
    ----------
    cutoff
        Of the network, Å.
    ranks
        Who shares the snapshots of a step.
    """

    def __init__(self, data: TrainingData, config: TrainingConfig, cutoff: float, ranks: Ranks = ALONE):
        self.data, self.config, self.cutoff, self.ranks = data, config, cutoff, ranks

    def __getitem__(self, step: int) -> Batch:
        size = self.config.batch
        counts = range(size * step, size * (step + 1))
        chosen = [self._snapshot(count) for count in counts]
        mine = self.ranks.mine([self.data[t].system.natoms for t in chosen])
        samples = [self._sample(chosen[i], counts[i]) for i in mine]
        targets = [self.data.target(chosen[i]) for i in mine]
        rngs = [np.random.default_rng((self.config.seed, 1, counts[i])) for i in mine]
        if self.config.points is None:
            batch = cosets(samples, targets, self.cutoff, self.config.stride, rngs)
        else:
            batch = random_points(samples, targets, self.cutoff, self.config.points, rngs)
        if len(mine) == size:
            return batch
        ncomponents = max(len(D_saii) for t in chosen for D_saii in self.data[t].D_zsaii.values())
        return batch.part_of(size, ncomponents)

    def _sample(self, t: int, count: int) -> Sample:
        """A snapshot after ``count`` others, with all its moments times one random factor.

        The moments that a calculation begins with are a guess, and what it ends with does not tell how large they were.
        """
        sample, scatter = self.data[t], self.config.moment_scatter
        if not (scatter and sample.system.is_spin_polarized):
            return sample
        factor = np.random.default_rng((self.config.seed, 3, count)).uniform(1 - scatter, 1 + scatter)
        return replace(sample, system=replace(sample.system, magmom_a=sample.system.magmom_a * factor))

    def _snapshot(self, count: int) -> int:
        """The snapshot to take after ``count``: each once per epoch, in an order that seed and epoch fix."""
        epoch, i = divmod(count, len(self.data))
        return int(np.random.default_rng((self.config.seed, 0, epoch)).permutation(len(self.data))[i])


def cosets(
    samples: Sequence[Sample],
    targets: Sequence[Target],
    cutoff: float,
    stride: int,
    rng: np.random.Generator | Sequence[np.random.Generator] | None = None,
) -> Batch:
    """Every ``stride``-th grid point along each axis, from a random one on.

    Parameters
    ----------
    rng
        One for all snapshots, or one for each; without, from the first point on.
    """
    places, parts = list[Coset](), list[torch.Tensor]()
    rng_t = rng if isinstance(rng, Sequence) else [rng] * len(samples)
    for sample, target, rng in zip(samples, targets, rng_t, strict=True):
        coset, chosen = coset_of(sample.grid, stride, rng)
        places.append(coset)
        parts.append(target.density_sR[:, *chosen].flatten(1))
    return _batch(samples, targets, cutoff, places, parts)


def random_points(
    samples: Sequence[Sample],
    targets: Sequence[Target],
    cutoff: float,
    number: int,
    rng: np.random.Generator | Sequence[np.random.Generator],
) -> Batch:
    """``number`` different grid points of each snapshot, or all if it has fewer; ``rng`` as in :func:`cosets`."""
    points, index_tp = Points.draw([sample.grid for sample in samples], number, rng)
    parts = [
        target.density_sR.flatten(1)[:, torch.from_numpy(index_p)]
        for target, index_p in zip(targets, index_tp, strict=True)
    ]
    return _batch(samples, targets, cutoff, points, parts)


def _system_p(parts: Sequence[torch.Tensor]) -> torch.Tensor:
    """Index of the snapshot of each point, from what is known at the points of each."""
    return torch.arange(len(parts)).repeat_interleave(torch.tensor([part_sp.shape[1] for part_sp in parts]))


def _batch(
    samples: Sequence[Sample],
    targets: Sequence[Target],
    cutoff: float,
    places: Sequence[Coset] | Points,
    parts: Sequence[torch.Tensor],
) -> Batch:
    ncomponents = max(len(part_sp) for part_sp in parts)
    weight_t = torch.tensor(
        [
            100 * int(np.prod(sample.grid.shape)) / (part_sp.shape[1] * target.electrons * len(samples))
            for sample, target, part_sp in zip(samples, targets, parts, strict=True)
        ]
    )
    system_p = _system_p(parts)
    return Batch(
        System.join([sample.system for sample in samples], cutoff),
        places,
        system_p,
        torch.cat([padded(part_sp, ncomponents) for part_sp in parts], 1),
        weight_t[system_p],
        joined_matrices([sample.D_zsaii for sample in samples], ncomponents),
        tuple(sample.name for sample in samples),
    )


def on(device: torch.device | str, D_zsaii: Matrices) -> Matrices:
    """The same matrices elsewhere."""
    return {Z: D_saii.to(device) for Z, D_saii in D_zsaii.items()}


def joined_matrices(D_tzsaii: Sequence[Matrices], ncomponents: int) -> Matrices:
    """Matrices of several systems as those of the joint one."""
    if len(D_tzsaii) == 1:
        return D_tzsaii[0]
    numbers = sorted({Z for D_zsaii in D_tzsaii for Z in D_zsaii})
    return {Z: torch.cat([padded(D_zsaii[Z], ncomponents) for D_zsaii in D_tzsaii if Z in D_zsaii], 1) for Z in numbers}


def coset_of(grid: Grid, stride: int, rng: np.random.Generator | None = None) -> tuple[Coset, tuple[slice, ...]]:
    """Every ``stride``-th point along each axis, or fewer where that does not divide the grid, and the slices of them.

    Parameters
    ----------
    rng
        Draws the first point; without, it is that of the grid.
    """
    stride_c = strides(grid, stride)
    offset_c = np.zeros(3, int) if rng is None else np.array([rng.integers(s) for s in stride_c])
    chosen = tuple(slice(offset, None, step) for offset, step in zip(offset_c.tolist(), stride_c.tolist(), strict=True))
    number_c = np.array([len(range(n)[part]) for n, part in zip(grid.shape, chosen, strict=True)])
    # The first point of a coset has the index 1 beside a zero boundary, 0 elsewhere.
    first_c = grid.start_c + offset_c - stride_c * grid.zerobc_c
    size_c = np.where(grid.zerobc_c, number_c + 1, grid.size_c // stride_c)
    step_cv = grid.step_cv * stride_c[:, np.newaxis]
    coset = Grid(step_cv * size_c[:, np.newaxis], size_c, grid.pbc_c, grid.zerobc_c)
    return Coset(coset, first_c @ grid.step_cv), chosen


def strides(grid: Grid, stride: int) -> np.ndarray:
    """(3,) the largest numbers up to ``stride`` that divide the grid where it wraps around, and leave points."""
    return np.array(
        [
            max(s for s in range(1, min(stride, points) + 1) if zero or n % s == 0)
            for n, points, zero in zip(grid.size_c, grid.shape, grid.zerobc_c, strict=True)
        ]
    )
