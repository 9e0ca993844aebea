"""A folder of snapshots from many geometries, at any level of theory."""

from __future__ import annotations

import gc
import hashlib
import json
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from ase import Atoms

from ase_deepdensity.dataset.files import Snapshot, geometry_hash, read_level, remove_stale_temporaries, write_snapshot
from ase_deepdensity.dataset.folder import FAILURE_SUFFIX, SNAPSHOT_SUFFIX, DatasetError, Failure, write_failure
from ase_deepdensity.geometry import check_geometry, check_grid_memory
from ase_deepdensity.level import Level
from ase_deepdensity.reference.codes import code

if TYPE_CHECKING:
    from gpaw.mpi import MPIComm


@dataclass
class Summary:
    """What :func:`generate` did."""

    done: list[Path] = field(default_factory=list)
    """Snapshots calculated now."""
    skipped: list[Path] = field(default_factory=list)
    """Snapshots that were there already."""
    failed: list[Failure] = field(default_factory=list)
    """Failures, those of earlier runs that were not tried again included."""

    def lines(self) -> list[str]:
        """The last lines of a run."""
        text = f'{len(self.done)} done, {len(self.skipped)} there already, {len(self.failed)} failed'
        return [text, *(f'failed: {failure.path.name}: {failure.reason}' for failure in self.failed)]


def generate(
    frames: Sequence[Atoms],
    out: str | Path,
    level: Level,
    *,
    retry_failed: bool = False,
    txt: str | Path | None = None,
    comm: MPIComm | None = None,
    ranks_per_snapshot: int | None = None,
    progress: bool = True,
    log: Callable[[str], None] = print,
    calculate: Callable[..., Snapshot] | None = None,
) -> Summary:
    """A snapshot ``NNNNN-hash.h5`` in the folder ``out`` for each geometry.

    Each file appears whole or not at all; one that is there is not calculated again, so that a run that was killed is
    continued by the same call.  A calculation that fails leaves ``NNNNN-hash.failed.json`` with its reason and is
    skipped by later runs, unless ``retry_failed``.

    Under MPI ``ranks_per_snapshot`` ranks work on one snapshot together: by default all of them, or one where
    ranks cannot share a calculation (:attr:`.Level.shares_ranks`).

    ``calculate`` stands in for the level's own (:class:`.Code`).

    Raises
    ------
    DatasetError
        ``out`` holds snapshots of another level of theory, or is not a folder.
    LevelError
        The program refuses the parameters or lacks an element: before any work.
    """
    from gpaw.mpi import broadcast_exception, world

    comm = world if comm is None else comm
    out = Path(out)
    level = level.check(np.concatenate([np.zeros(0, int), *(frame.numbers for frame in frames)]))
    with broadcast_exception(comm):
        if comm.rank == 0:
            _prepare(out, level)
    targets = [out / f'{i:05d}-{job_hash(frame, level)}{SNAPSHOT_SUFFIX}' for i, frame in enumerate(frames)]
    todo, summary = _plan(targets, retry_failed, comm)
    group_comm, group, ngroups = _group(comm, ranks_per_snapshot, level)
    mine = todo[group::ngroups]
    bar = _progress_bar(len(mine), disable=not progress or comm.rank > 0)
    calculate = calculate or code(level).calculate
    with broadcast_exception(comm):
        for i in mine:
            failure = _one(calculate, frames[i], targets[i], level, txt if group == 0 else None, group_comm, i)
            gc.collect()  # GPAW's objects are cycles of few, large pieces, which Python would leave for long
            if failure is None:
                summary.done.append(targets[i])
            else:
                summary.failed.append(failure)
                if group_comm.rank == 0:
                    log(f'failed: {failure.path.name}: {failure.reason}')
            bar.update()
    bar.close()
    return _collected(summary, comm, comm.size // ngroups)


def _group(comm: MPIComm, size: int | None, level: Level) -> tuple[MPIComm, int, int]:
    """The communicator of the ranks that share snapshots with this one, which group that is, and of how many."""
    if size is None:
        size = comm.size if level.shares_ranks else 1
    if size < 1 or comm.size % size:
        raise ValueError(f'the {comm.size} ranks cannot be shared out in groups of {size}')
    if size == comm.size:
        return comm, 0, 1
    group = comm.rank // size
    return comm.new_communicator(np.arange(group * size, (group + 1) * size)), group, comm.size // size


def _collected(summary: Summary, comm: MPIComm, group_size: int) -> Summary:
    """What all groups have done, on all ranks."""
    from gpaw.mpi import broadcast

    parts = [
        broadcast((summary.done, summary.failed) if comm.rank == root else None, root, comm=comm)
        for root in range(0, comm.size, group_size)
    ]
    done = sorted(path for part, _ in parts for path in part)
    failed = {failure.path: failure for _, part in parts for failure in part}
    return Summary(done, summary.skipped, [failed[path] for path in sorted(failed)])


def job_hash(atoms: Atoms, level: Level) -> str:
    """Eight hexadecimal digits for a geometry at a level of theory."""
    return hashlib.sha256((geometry_hash(atoms) + level.key).encode()).hexdigest()[:8]


def _one(
    calculate: Callable[..., Snapshot],
    atoms: Atoms,
    target: Path,
    level: Level,
    txt: str | Path | None,
    comm: MPIComm,
    index: int,
) -> Failure | None:
    """Calculate and write one snapshot, or record why not."""
    from gpaw.mpi import broadcast_exception

    record = failure_path(target)
    try:
        check_geometry(atoms)
        check_grid_memory(level.grid(atoms))
        snapshot = calculate(atoms, level, txt=txt, comm=comm)
    except Exception as error:
        reason = _reason(error)
        if comm.rank == 0:
            details = {'index': index, 'formula': str(atoms.symbols), 'level': level.to_dict()}
            write_failure(record, reason, **details, traceback=traceback.format_exc())
        return Failure(record, reason)
    with broadcast_exception(comm):
        if comm.rank == 0:
            write_snapshot(target, snapshot)
            record.unlink(missing_ok=True)
    return None


def _reason(error: Exception) -> str:
    """The error in one line; one without a message tells where it was raised."""
    message = ' '.join(str(error).split())
    if not message:
        place = traceback.extract_tb(error.__traceback__)[-1]
        message = f'in {place.name}, {place.filename}:{place.lineno}'
    return f'{type(error).__name__}: {message}'


def failure_path(target: Path) -> Path:
    """Where the failure of a snapshot is recorded."""
    return target.with_name(target.name.removesuffix(SNAPSHOT_SUFFIX) + FAILURE_SUFFIX)


def _plan(targets: list[Path], retry_failed: bool, comm: MPIComm) -> tuple[list[int], Summary]:
    """Which to calculate; the master looks at the disk and tells the others."""
    from gpaw.mpi import broadcast

    status = [_status(target) for target in targets] if comm.rank == 0 else None
    status_i = broadcast(status, 0, comm=comm)
    summary = Summary(skipped=[target for target, s in zip(targets, status_i, strict=True) if s == 'done'])
    todo = [i for i, s in enumerate(status_i) if s == 'new' or (retry_failed and s not in ('new', 'done'))]
    summary.failed = [
        Failure(failure_path(target), s)
        for i, (target, s) in enumerate(zip(targets, status_i, strict=True))
        if s not in ('new', 'done') and i not in todo
    ]
    return todo, summary


def _status(target: Path) -> str:
    """'done', 'new', or the reason of a recorded failure."""
    if target.exists():
        return 'done'
    if failure_path(target).exists():
        return str(json.loads(failure_path(target).read_text())['reason'])
    return 'new'


def _prepare(out: Path, level: Level) -> None:
    """Make the folder; refuse one of another level; remove what killed runs have left half-written."""
    if out.exists() and not out.is_dir():
        raise DatasetError(f'{out}: is a file; snapshots need a folder')
    out.mkdir(parents=True, exist_ok=True)
    remove_stale_temporaries(out)
    for path in sorted(out.glob(f'*{SNAPSHOT_SUFFIX}')):
        if path.name.startswith('.'):
            continue
        if differences := level.differences(read_level(path)):
            raise DatasetError(
                f'{path} is at another level of theory: {"; ".join(differences)}; give another folder for this level'
            )


def _progress_bar(total: int, disable: bool) -> Any:
    from tqdm import tqdm

    return tqdm(total=total, unit='snapshot', disable=disable, dynamic_ncols=True)
