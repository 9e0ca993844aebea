"""The snapshots of a folder, or other work, on a cluster of dask.distributed, whoever has started that.

Workers calculate, the process that leads writes: they need no disk in common, and a worker that dies leaves no claim
and no half-written file behind.  What it was at is done anew by another one.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from ase import Atoms

from ase_deepdensity.arguments import reason
from ase_deepdensity.codes.gpaw.mpi import serial_comm
from ase_deepdensity.generate.claims import Claim, take
from ase_deepdensity.generate.jobs import Trouble
from ase_deepdensity.generate.workers import Result
from ase_deepdensity.packages import require

if TYPE_CHECKING:
    from distributed import Client, Future
    from gpaw.mpi import MPIComm

    from ase_deepdensity.dataset.folder import Failure

TIMEOUT = 20.0
"""Seconds in which a scheduler must answer."""
UNTIL_FIRST = 24 * 3600.0
"""Seconds to wait for the first worker: jobs may stand in a queue."""
UNTIL_NEXT = 900.0
"""Seconds to wait for another one when all are lost: they may be about to be started anew."""
PATIENCE = 3.0
"""Seconds without any worker after which a line says what is waited for."""
POLL = 0.1
"""Seconds between two looks at what has come."""
AHEAD = 2
"""Snapshots for each thread of the workers that are sent before results are there."""
_one_at_a_time = threading.Lock()


class ClusterError(ConnectionError):
    """No scheduler, no workers, or a connection that is lost."""


@contextmanager
def connected(scheduler: str) -> Iterator[Client]:
    """A client of a scheduler.

    Parameters
    ----------
    scheduler
        Its address, ``tcp://host:8786``, or the file in which it has noted it (``dask scheduler --scheduler-file``).

    Raises
    ------
    ClusterError
        Nobody answers.
    MissingPackageError
        dask.distributed is not installed.
    """
    require('distributed', 'large', 'calculations on a cluster')
    from distributed import Client

    is_file = '://' not in scheduler and ':' not in scheduler
    if is_file and not Path(scheduler).is_file():
        raise ClusterError(f'--scheduler {scheduler}: no such file; give an address, tcp://HOST:PORT, or a file')
    where = {'scheduler_file': scheduler} if is_file else {'address': scheduler}
    try:
        client = Client(**where, timeout=TIMEOUT, set_as_default=False)
    except (OSError, TimeoutError, ValueError) as error:
        raise ClusterError(f'--scheduler {scheduler}: no scheduler of dask answers there: {error}') from None
    with client:
        yield client


class Work(Protocol):
    """What workers do: one piece for each geometry, such as :class:`.Jobs`."""

    @property
    def frames(self) -> Sequence[Atoms]: ...

    @property
    def targets(self) -> Sequence[Path]:
        """The file of each result."""

    def is_open(self, i: int) -> bool:
        """Is it still to be done?"""

    def compute(self, atoms: Atoms, comm: MPIComm) -> Any:
        """What a worker sends back, or a :class:`.Trouble`."""

    def store(self, i: int, result: Any, comm: MPIComm) -> Path | Failure:
        """Write it."""

    def without_frames(self) -> Work:
        """What each worker needs."""


def run_on_cluster(
    jobs: Work,
    todo: Sequence[int],
    scheduler: str,
    report: Callable[[Result], None],
    log: Callable[[str], None] = print,
) -> None:
    """Do the jobs ``todo``, in about this order.

    Workers may come and go.  When there are none, ``log`` tells, and they are waited for: :data:`UNTIL_FIRST` at the
    beginning, :data:`UNTIL_NEXT` when all that were there are lost.

    Parameters
    ----------
    report
        Is told of each result.
    log
        Is told of what is waited for.

    Raises
    ------
    ClusterError
        See :func:`connected`; no workers for too long; a connection that is lost: what is written stays, and the next
        run goes on.
    OSError
        A full disk.
    """
    with connected(scheduler) as client:
        _Run(jobs, client, report, _Workers(client, scheduler, log)).do(list(todo))


class _Workers:
    """Whether there are any, and how long there have been none."""

    def __init__(self, client: Client, scheduler: str, log: Callable[[str], None]):
        self.client, self.scheduler, self.log = client, scheduler, log
        self.were_there = self.is_told = False
        self.none_since: float | None = None

    def threads(self) -> int:
        """Of all workers that are there now.

        Raises
        ------
        ClusterError
            None has come, or none has been left, for too long; no answer.
        """
        try:
            nthreads = sum(self.client.nthreads().values())
        except Exception as error:
            raise _lost(error) from error
        if nthreads:
            if self.is_told:
                self.log('there are workers again' if self.were_there else 'the first worker is there')
            self.were_there, self.is_told, self.none_since = True, False, None
        else:
            self._wait()
        return nthreads

    def _wait(self) -> None:
        now = time.monotonic()
        self.none_since = now if self.none_since is None else self.none_since
        waited, limit = now - self.none_since, UNTIL_NEXT if self.were_there else UNTIL_FIRST
        what = 'all workers are lost' if self.were_there else 'no worker has come yet'
        if waited > min(PATIENCE, limit / 2) and not self.is_told:
            self.is_told = True
            self.log(f'{what}: waiting up to {_duration(limit)} for one (dask worker {self.scheduler})')
        if waited > limit:
            raise ClusterError(
                f'--scheduler {self.scheduler}: {what}, and none came in {_duration(limit)}; start some (dask worker '
                f'{self.scheduler}): the same command goes on where this one ends'
            )


def _duration(seconds: float) -> str:
    for unit, size in ('h', 3600), ('min', 60):
        if seconds >= size:
            return f'{seconds / size:g} {unit}'
    return f'{seconds:g} s'


def _lost(error: Exception) -> ClusterError:
    return ClusterError(
        f'the cluster gives no results any more: {reason(error)}; the same command goes on where this one ends'
    )


class _Run:
    """Submits, waits and writes."""

    def __init__(self, jobs: Work, client: Client, report: Callable[[Result], None], workers: _Workers):
        self.jobs, self.client, self.report, self.workers = jobs, client, report, workers
        self.without_frames = jobs.without_frames()
        self.under_way: dict[Future[Any], tuple[int, Claim]] = {}
        self.next_look = 0.0

    def do(self, todo: list[int]) -> None:
        from distributed import as_completed

        todo.reverse()
        finished = as_completed(loop=self.client.loop)
        try:
            self._fill(todo, finished)
            while not finished.is_empty():
                if finished.has_ready():
                    self._receive(next(finished))
                    self._fill(todo, finished)
                else:
                    self._wait()
        finally:
            for future, (_, claim) in self.under_way.items():
                with suppress(Exception):  # the scheduler may be gone
                    future.cancel()
                claim.release()

    def _wait(self) -> None:
        """A moment; now and then with a look at the workers."""
        if time.monotonic() > self.next_look:
            self.workers.threads()
            self.next_look = time.monotonic() + 10 * POLL
        time.sleep(POLL)

    def _fill(self, todo: list[int], finished: Any) -> None:
        """Keep all workers busy, those that have come in the meantime too."""
        room = AHEAD * max(1, self.workers.threads()) if todo else 0
        while todo and len(self.under_way) < room:
            i = todo.pop()
            claim = take(self.jobs.targets[i])
            if claim is None or not self.jobs.is_open(i):
                if claim is not None:
                    claim.release()
                self.report(None)
                continue
            future = self.client.submit(_calculate, self.jobs.frames[i], self.without_frames, pure=False)
            self.under_way[future] = i, claim
            finished.add(future)

    def _receive(self, future: Future[Any]) -> None:
        """Write what has come, or why nothing has."""
        from distributed import KilledWorker

        i = self.under_way[future][0]
        try:
            calculated = future.result()
        except KilledWorker as error:
            calculated = Trouble('the workers that were at it died, one after the other (out of memory?)', str(error))
        except Exception as error:
            raise _lost(error) from error
        result = self.jobs.store(i, calculated, serial_comm())
        self.under_way.pop(future)[1].release()
        self.report(result)


def _calculate(atoms: Atoms, jobs: Work) -> Any:
    """What a worker does: one calculation at a time, however many threads it has."""
    with _one_at_a_time:
        return jobs.compute(atoms, serial_comm())
