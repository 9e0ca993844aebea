"""A predicted density that several MPI ranks share: each has some planes of the grid and the atoms that reach them.

The network of a rank sees those atoms and what they depend on, and no rank holds what is said of all.  An atom near
the border of two ranks is computed by both, which is quicker than asking; it is counted by the one in whose planes
it lies.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np
from ase import Atoms

from ase_deepdensity.checks import PredictionError, check_atoms, check_grid
from ase_deepdensity.codes.gpaw.mpi import shared_exception
from ase_deepdensity.collocation.on_grids import grid_coordinates
from ase_deepdensity.collocation.slab_walk import reaching_a
from ase_deepdensity.grid import Grid
from ase_deepdensity.predict import Predictor
from ase_deepdensity.slabs import SLAB_POINTS, PAWBlock, Share, SlabDensity

if TYPE_CHECKING:
    from gpaw.mpi import MPIComm

Slab = tuple[Grid, np.ndarray]
"""With ñ there (1 or 2, n0, n1, n2), electrons/Å³."""
DONE, MORE = np.array([0]), np.array([1])
"""What rank 0 says to the others."""


def density_of_ranks(
    predictor: Predictor, atoms: Atoms, grid: Grid, comm: MPIComm, max_points: int = SLAB_POINTS
) -> SlabDensity:
    """This rank's part of the density of ``atoms``; to be called by all ranks of ``comm`` alike.

    Parameters
    ----------
    grid
        The whole grid.
    max_points
        Of a slab; slabs are smaller where not every rank would have one.

    Raises
    ------
    PredictionError
        As :meth:`.Predictor.stream`, on all ranks, whichever has met it; fewer planes than ranks.
    """
    with shared_exception(comm):
        check_atoms(atoms, predictor.model)
        check_grid(grid, atoms)
        region = _Region.of(predictor, atoms, grid, comm, max_points)
        coefficients, finite_a = predictor.coefficients_of_some(atoms, region.near_a)
    mine_a = region.near_a[region.own_a]
    verdict_ka = np.zeros((2, len(atoms)))
    verdict_ka[:, mine_a] = coefficients.unfamiliar_a[region.own_a], finite_a[region.own_a]
    comm.sum(verdict_ka)
    about = coefficients.about(atoms, verdict_ka[0].astype(np.float32))
    with shared_exception(comm):
        if comm.rank == 0:  # and a warning comes once
            predictor.check_environments(about, verdict_ka[1] > 0.5)

    def gathered(numbers: Callable[[], np.ndarray]) -> np.ndarray:
        with shared_exception(comm):
            mine_k = np.array(numbers(), float)
        all_rk = np.empty((comm.size, len(mine_k)))
        comm.all_gather(mine_k, all_rk)
        return all_rk

    share = Share(region.slabs, region.own_a, region.near_a, about, gathered)
    return SlabDensity(predictor, coefficients, grid, region.max_points, share)


@dataclass(frozen=True)
class _Region:
    """What a rank is responsible for."""

    slabs: list[Grid]
    max_points: int
    """Of a slab of any rank."""
    near_a: np.ndarray
    """Indices of the atoms that reach the slabs, ascending."""
    own_a: np.ndarray
    """Which of these are counted here."""

    @classmethod
    def of(cls, predictor: Predictor, atoms: Atoms, grid: Grid, comm: MPIComm, max_points: int) -> _Region:
        nplanes, of_plane = grid.shape[0], grid.shape[1] * grid.shape[2]
        if nplanes < comm.size:
            raise PredictionError(f'{comm.size} ranks cannot share {nplanes} planes of the grid {grid.size_c.tolist()}')
        max_points = max(1, min(max_points // max(1, of_plane), nplanes // comm.size)) * of_plane
        slabs_r = shared_out(list(grid.slabs(max_points)), comm.size)
        slabs = slabs_r[comm.rank]
        block = slabs[0].new(stop_c=slabs[-1].stop_c)
        s_a = grid_coordinates(grid, atoms.positions)[:, 0]
        rank_a = np.searchsorted([slabs[0].start_c[0] for slabs in slabs_r[1:]], s_a, side='right')
        is_asked_all = predictor.network.steps is None
        near_a = np.flatnonzero(
            is_asked_all | reaching_a(block, s_a, predictor.model.longest_cutoff) | (rank_a == comm.rank)
        )
        if not len(near_a):
            near_a = np.array([0])  # that adds nothing; it tells the shapes of what the network says
        return cls(slabs, max_points, near_a, rank_a[near_a] == comm.rank)


def shared_out(slabs: list[Grid], ranks: int) -> list[list[Grid]]:
    """Consecutive slabs for each rank, as many as for the others or one less."""
    ends = [len(slabs) * rank // ranks for rank in range(ranks + 1)]
    return [slabs[start:stop] for start, stop in pairwise(ends)]


def computed(density: SlabDensity, comm: MPIComm, blocks: Iterable[PAWBlock]) -> list[Slab]:
    """The slabs of this rank, which holds them all; an error of one rank is one of all.

    ``blocks``: those of ``density``, of which somebody may watch the progress.
    """
    with shared_exception(comm):
        slabs = [(block.grid, np.ascontiguousarray(block.nt_sR, density.dtype)) for block in blocks]
    density.finish()
    return slabs


@contextmanager
def on_rank_0(density: SlabDensity, comm: MPIComm, mine: list[Slab]) -> Iterator[Iterator[Slab] | None]:
    """On rank 0 all slabs in their order, those of other ranks as they are asked for; None elsewhere.

    ``mine``: what :func:`computed` gives.
    """
    with shared_exception(comm):
        if comm.rank > 0:
            yield None
            _hand_over(mine, comm)
            return
        try:
            yield _received(density, comm, mine)
        finally:  # whatever rank 0 has met
            for rank in range(1, comm.size):
                comm.send(DONE, rank)


def _received(density: SlabDensity, comm: MPIComm, mine: list[Slab]) -> Iterator[Slab]:
    yield from mine
    slabs_r = shared_out(list(density.grid.slabs(density.max_points)), comm.size)
    for rank in range(1, comm.size):
        for slab in slabs_r[rank]:
            nt_sR = np.empty((density.nspins, *slab.shape), density.dtype)
            comm.send(MORE, rank)
            comm.receive(nt_sR, rank)
            yield slab, nt_sR


def _hand_over(mine: list[Slab], comm: MPIComm) -> None:
    """Send what rank 0 asks for until it asks for nothing more."""
    slabs, message = iter(mine), DONE.copy()
    comm.receive(message, 0)
    while message == MORE:
        comm.send(next(slabs)[1], 0)
        comm.receive(message, 0)


def matrices_on_rank_0(density: SlabDensity, comm: MPIComm) -> dict[int, np.ndarray]:
    """By atomic number the density matrices (1 or 2, natoms of it, ni, ni) of all atoms; elsewhere none.

    To be called by all ranks alike.
    """
    share, mine_zsaii = density.share, density.D_zsaii()
    all_a, near_a = share.about.atoms.numbers, density.coefficients.atoms.numbers
    D_zsaii = {}
    for Z in np.unique(all_a).tolist():
        of_Z_a = np.flatnonzero(all_a == Z)
        own_a = share.own_a & (near_a == Z)
        place_a = np.searchsorted(of_Z_a, share.index_a[own_a])
        if comm.rank > 0:
            comm.send(np.array([len(place_a)]), 0)
            if len(place_a):
                comm.send(place_a, 0)
                comm.send(np.ascontiguousarray(mine_zsaii[Z][:, own_a[near_a == Z]]), 0)
            continue
        ni = len(density.predictor.model.atom_types[Z].D_ii)
        D_zsaii[Z] = np.zeros((density.nspins, len(of_Z_a), ni, ni))
        if len(place_a):
            D_zsaii[Z][:, place_a] = mine_zsaii[Z][:, own_a[near_a == Z]]
        for rank in range(1, comm.size):
            _receive_matrices(D_zsaii[Z], rank, comm)
    return D_zsaii


def _receive_matrices(D_saii: np.ndarray, rank: int, comm: MPIComm) -> None:
    number = np.zeros(1, int)
    comm.receive(number, rank)
    if number[0]:
        place_a = np.empty(number[0], int)
        comm.receive(place_a, rank)
        some_saii = np.empty((len(D_saii), number[0], *D_saii.shape[2:]))
        comm.receive(some_saii, rank)
        D_saii[:, place_a] = some_saii
