"""The snapshots of a folder as work that several processes can do a part of."""

from __future__ import annotations

import gc
import hashlib
import json
import signal
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ase import Atoms

from ase_deepdensity.codes import code_of
from ase_deepdensity.codes.gpaw.mpi import broadcast, broadcast_exception
from ase_deepdensity.dataset.files import geometry_hash, write_snapshot
from ase_deepdensity.dataset.folder import FAILURE_SUFFIX, SNAPSHOT_SUFFIX, Failure, write_failure
from ase_deepdensity.files import whole_files
from ase_deepdensity.generate.claims import take
from ase_deepdensity.geometry import check_geometry, check_grid_memory, total_charge
from ase_deepdensity.level import Level
from ase_deepdensity.snapshot import Snapshot

if TYPE_CHECKING:
    from gpaw.mpi import MPIComm


@dataclass(frozen=True)
class Trouble:
    """Why a calculation has failed."""

    reason: str
    """In one line."""
    traceback: str


Calculated = Snapshot | Trouble


@dataclass(frozen=True)
class Jobs:
    """One for each geometry.  Can be sent to another process if ``calculate`` can."""

    frames: Sequence[Atoms]
    targets: Sequence[Path]
    """The file of each snapshot; the same twice for the same geometry."""
    level: Level
    calculate: Callable[..., Snapshot]
    retry_failed: bool = False
    time_limit: float | None = None
    """CPU seconds that one calculation may take."""
    begin: float = field(default_factory=time.time)
    """When the run began, seconds since the epoch: failures recorded later are those of others, not to be retried."""

    def without_frames(self) -> Jobs:
        """What each worker needs."""
        return replace(self, frames=(), targets=())

    def status(self, i: int) -> str:
        """'done', 'new', or the reason of a recorded failure."""
        record = failure_path(self.targets[i])
        if self.targets[i].exists():
            return 'done'
        if record.exists():
            return str(json.loads(record.read_text())['reason'])
        return 'new'

    def run(self, i: int, comm: MPIComm, *, txt: str | Path | None = None) -> Path | Failure | None:
        """Calculate and write a snapshot, or record why not; None: another process has it, or has done it.

        All ranks of ``comm`` work on it together.
        """
        with broadcast_exception(comm):
            claim = take(self.targets[i]) if comm.rank == 0 else None
        with claim or nullcontext():
            if not broadcast(claim is not None and self.is_open(i) if comm.rank == 0 else None, 0, comm):
                return None
            result = self.store(i, self.compute(self.frames[i], comm, txt), comm)
        gc.collect()  # GPAW's objects are cycles of few, large pieces, which Python would leave for long
        return result

    def is_open(self, i: int) -> bool:
        """Is it still to be calculated by this run?"""
        status = self.status(i)
        if status in ('new', 'done'):
            return status == 'new'
        return self.retry_failed and failure_path(self.targets[i]).stat().st_mtime < self.begin

    def compute(self, atoms: Atoms, comm: MPIComm, txt: str | Path | None = None) -> Calculated:
        """The snapshot of some atoms, or why there is none; nothing is written but the log ``txt``."""
        try:
            check_geometry(atoms)
            check_grid_memory(code_of(self.level).grid(self.level, atoms))
            with _time_limit(self.time_limit):
                return self.calculate(atoms, self.level, txt=txt, comm=comm)
        except Exception as error:
            return Trouble(reason_of(error), traceback.format_exc())

    def store(self, i: int, result: Calculated, comm: MPIComm) -> Path | Failure:
        """Write what :meth:`compute` has found."""
        if isinstance(result, Trouble):
            return self.record_failure(i, result.reason, comm.rank == 0, traceback=result.traceback)
        with broadcast_exception(comm):
            if comm.rank == 0:
                info = noted(self.frames[i]) | result.info
                write_snapshot(self.targets[i], replace(result, info=info))
                failure_path(self.targets[i]).unlink(missing_ok=True)
        return self.targets[i]

    def record_failure(self, i: int, reason: str, write: bool = True, **details: object) -> Failure:
        """Note beside the snapshot's place why it is missing."""
        record = failure_path(self.targets[i])
        if write:
            context = {'index': i, 'formula': str(self.frames[i].symbols), 'level': self.level.to_dict()}
            write_failure(record, reason, **context, **details)
        return Failure(record, reason)


def targets_in(out: Path, frames: Sequence[Atoms], level: Level) -> list[Path]:
    """The file of each geometry's snapshot: one that is there already, in whatever place of the list it was, or new."""
    known = {
        path.name.removesuffix(suffix).rpartition('-')[2]: path.with_name(
            path.name.removesuffix(suffix) + SNAPSHOT_SUFFIX
        )
        for suffix in (FAILURE_SUFFIX, SNAPSHOT_SUFFIX)
        for path in whole_files(out, suffix)
    }
    hashes = [job_hash(frame, level) for frame in frames]
    return [known.setdefault(name, out / f'{i:05d}-{name}{SNAPSHOT_SUFFIX}') for i, name in enumerate(hashes)]


def noted(atoms: Atoms) -> dict[str, Any]:
    """What a geometry's ``info`` says in words and numbers, such as its name; it goes into that of the snapshot."""
    return {key: value for key, value in atoms.info.items() if isinstance(value, str | int | float)}


def job_hash(atoms: Atoms, level: Level) -> str:
    """Eight hexadecimal digits for a geometry and its charge at a level of theory."""
    charge = total_charge(atoms)
    text = geometry_hash(atoms) + level.key + (f' charge {charge}' if charge else '')
    return hashlib.sha256(text.encode()).hexdigest()[:8]


def failure_path(target: Path) -> Path:
    """Where the failure of a snapshot is recorded."""
    return target.with_name(target.name.removesuffix(SNAPSHOT_SUFFIX) + FAILURE_SUFFIX)


@contextmanager
def _time_limit(seconds: float | None) -> Iterator[None]:
    """Raise TimeoutError in what takes more CPU time (in the main thread of a process, where signals are handled)."""
    if seconds is None:
        yield
        return

    def stop(number: int, frame: object) -> None:
        raise TimeoutError(f'the calculation takes more than {seconds:g} s of CPU time')

    before = signal.signal(signal.SIGPROF, stop)
    signal.setitimer(signal.ITIMER_PROF, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, before)


def reason_of(error: Exception) -> str:
    """The error in one line; one without a message tells where it was raised."""
    message = ' '.join(str(error).split())
    if not message:
        place = traceback.extract_tb(error.__traceback__)[-1]
        message = f'in {place.name}, {place.filename}:{place.lineno}'
    return f'{type(error).__name__}: {message}'
