"""A folder of snapshots from many geometries, at any level of theory."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
from ase import Atoms

from ase_deepdensity.codes import code_of
from ase_deepdensity.codes.gpaw.mpi import broadcast, broadcast_exception, world_comm
from ase_deepdensity.dataset.files import read_level
from ase_deepdensity.dataset.folder import SNAPSHOT_SUFFIX, DatasetError, Failure
from ase_deepdensity.files import remove_stale_temporaries, whole_files
from ase_deepdensity.generate.cluster import run_on_cluster
from ase_deepdensity.generate.jobs import Jobs, failure_path, targets_in
from ase_deepdensity.generate.workers import run_workers
from ase_deepdensity.level import Level
from ase_deepdensity.snapshot import Snapshot

if TYPE_CHECKING:
    from gpaw.mpi import MPIComm

T = TypeVar('T')


@dataclass
class Summary:
    """What :func:`generate` did."""

    done: list[Path] = field(default_factory=list)
    """Snapshots calculated now."""
    skipped: list[Path] = field(default_factory=list)
    """Snapshots that were there already, or that another run has calculated in the meantime."""
    failed: list[Failure] = field(default_factory=list)
    """Failures, those of earlier runs that were not tried again included."""
    elsewhere: list[Path] = field(default_factory=list)
    """Snapshots that another run is calculating."""

    def lines(self) -> list[str]:
        """The last lines of a run."""
        text = f'{len(self.done)} done, {len(self.skipped)} there already, {len(self.failed)} failed'
        if self.elsewhere:
            text += f', {len(self.elsewhere)} claimed by another run'
        return [text, *(f'failed: {failure.path.name}: {failure.reason}' for failure in self.failed)]


def generate(
    frames: Sequence[Atoms],
    out: str | Path,
    level: Level,
    *,
    retry_failed: bool = False,
    time_limit: float | None = None,
    workers: int = 1,
    scheduler: str | None = None,
    txt: str | Path | None = None,
    comm: MPIComm | None = None,
    ranks_per_snapshot: int | None = None,
    progress: bool = True,
    log: Callable[[str], None] = print,
    calculate: Callable[..., Snapshot] | None = None,
) -> Summary:
    """A snapshot ``NNNNN-hash.h5`` in the folder ``out`` for each geometry, in the order given.

    Each file appears whole or not at all; one that is there is not calculated again, so that a run that was killed is
    continued by the same call, with the geometries in whatever order.  A calculation that fails leaves
    ``NNNNN-hash.failed.json`` with its reason and is skipped by later runs, unless ``retry_failed``.

    Several calls may work on one folder at the same time: a snapshot is claimed before it is calculated (see
    :mod:`.claims`).  ``workers`` processes of one thread each share the geometries on this machine; a script that asks
    for more than one keeps its own work under ``if __name__ == '__main__'``, as :mod:`multiprocessing` wants it.

    Under MPI ``ranks_per_snapshot`` ranks work on one snapshot together: by default all of them, or one where
    ranks cannot share a calculation (:meth:`.Code.shares_ranks`).

    Parameters
    ----------
    time_limit
        CPU seconds after which a calculation is given up and recorded as failed.
    scheduler
        Address or file of a scheduler of dask.distributed, whose workers calculate while this process writes.
    calculate
        Stands in for the level's own (:class:`.Code`).  With ``workers`` and a scheduler it must be possible to pickle
        it.

    Raises
    ------
    DatasetError
        ``out`` holds snapshots of another level of theory, or is not a folder.
    LevelError
        The program refuses the parameters or lacks an element: before any work.
    ValueError
        Fewer than one worker; several workers, a time limit or a scheduler under MPI; the first two with the last.
    ClusterError
        No such scheduler, no workers for too long, or a connection that is lost.
    """
    comm = world_comm() if comm is None else comm
    out = Path(out)
    _check_ways(workers, time_limit, scheduler, comm)
    level = code_of(level).check(level, np.concatenate([np.zeros(0, int), *(frame.numbers for frame in frames)]))
    with broadcast_exception(comm):
        if comm.rank == 0:
            _prepare(out, level)
    targets = _broadcast(lambda: targets_in(out, frames, level), comm)
    jobs = Jobs(frames, targets, level, calculate or code_of(level).calculate, retry_failed, time_limit)
    before = _broadcast(lambda: [jobs.status(i) for i in range(len(frames))], comm)
    todo = _todo(jobs, before)
    group_comm, group, ngroups = _group(comm, ranks_per_snapshot, level)
    mine = todo[group::ngroups]
    bar = _progress_bar(len(mine), disable=not progress or comm.rank > 0)
    done: list[Path] = []

    def report(result: Path | Failure | None) -> None:
        if isinstance(result, Path):
            done.append(result)
        elif result is not None and group_comm.rank == 0:
            log(f'failed: {result.path.name}: {result.reason}')
        bar.update()

    if scheduler is not None:
        run_on_cluster(jobs, mine, scheduler, report, log)
    elif workers > 1:
        run_workers(jobs, mine, workers, report, txt)
    else:
        with broadcast_exception(comm):
            for i in mine:
                report(jobs.run(i, group_comm, txt=txt if group == 0 else None))
    bar.close()
    return _summary(jobs, done, comm, comm.size // ngroups)


def _check_ways(workers: int, time_limit: float | None, scheduler: str | None, comm: MPIComm) -> None:
    """Refuse what does not go together, before any work."""
    if workers < 1:
        raise ValueError(f'workers must be at least 1, not {workers}')
    if time_limit is not None and not time_limit > 0:
        raise ValueError(f'a time limit must be more than 0 seconds, not {time_limit}')
    ways = ('workers', workers > 1), ('a time limit', time_limit is not None), ('a scheduler', scheduler is not None)
    for name, given in ways:
        if given and name != 'a scheduler' and scheduler is not None:
            raise ValueError(f'{name} and a scheduler do not go together: a cluster has workers and limits of its own')
        if given and comm.size > 1:
            raise ValueError(
                f'{name} and MPI do not go together ({comm.size} ranks): start the program without mpiexec'
            )


def _todo(jobs: Jobs, status_i: Sequence[str]) -> list[int]:
    """What is to be calculated, each geometry once."""
    wanted = [i for i, status in enumerate(status_i) if status == 'new' or (jobs.retry_failed and status != 'done')]
    return list({jobs.targets[i]: i for i in reversed(wanted)}.values())[::-1]


def _group(comm: MPIComm, size: int | None, level: Level) -> tuple[MPIComm, int, int]:
    """The communicator of the ranks that share snapshots with this one, which group that is, and of how many."""
    if size is None:
        size = comm.size if code_of(level).shares_ranks(level) else 1
    if size < 1 or comm.size % size:
        raise ValueError(f'the {comm.size} ranks cannot be shared out in groups of {size}')
    if size == comm.size:
        return comm, 0, 1
    group = comm.rank // size
    return comm.new_communicator(np.arange(group * size, (group + 1) * size)), group, comm.size // size


def _summary(jobs: Jobs, done: list[Path], comm: MPIComm, group_size: int) -> Summary:
    """What all groups have done, on all ranks, and what else there is, by this run or by others."""
    parts = [_broadcast(lambda: done, comm, root) for root in range(0, comm.size, group_size)]
    calculated = {path for part in parts for path in part}
    status_i = _broadcast(lambda: [jobs.status(i) for i in range(len(jobs.frames))], comm)
    status = dict(zip(jobs.targets, status_i, strict=True))
    summary = Summary(done=sorted(calculated))
    for target, text in status.items():
        if text == 'new':
            summary.elsewhere.append(target)
        elif text != 'done':
            summary.failed.append(Failure(failure_path(target), text))
        elif target not in calculated:
            summary.skipped.append(target)
    return summary


def _broadcast(make: Callable[[], T], comm: MPIComm, root: int = 0) -> T:
    """What one rank makes, for all."""
    return broadcast(make() if comm.rank == root else None, root, comm)


def _prepare(out: Path, level: Level) -> None:
    """Make the folder; refuse one of another level; remove what killed runs have left half-written."""
    if out.exists() and not out.is_dir():
        raise DatasetError(f'{out}: is a file; snapshots need a folder')
    out.mkdir(parents=True, exist_ok=True)
    remove_stale_temporaries(out)
    for path in whole_files(out, SNAPSHOT_SUFFIX):
        if differences := level.differences(read_level(path)):
            raise DatasetError(
                f'{path} is at another level of theory: {"; ".join(differences)}; give another folder for this level'
            )


def _progress_bar(total: int, disable: bool) -> Any:
    from tqdm import tqdm

    return tqdm(total=total, unit='snapshot', disable=disable, dynamic_ncols=True)
