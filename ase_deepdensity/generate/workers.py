"""Several processes on this machine that share the snapshots of a folder, each on one core."""

from __future__ import annotations

import os
import signal
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from multiprocessing import get_context
from multiprocessing.connection import Connection
from multiprocessing.context import SpawnProcess
from pathlib import Path
from queue import SimpleQueue

from ase_deepdensity.codes.gpaw.mpi import serial_comm
from ase_deepdensity.dataset.folder import Failure
from ase_deepdensity.generate.jobs import Jobs

TRIES = 2
"""A snapshot in whose calculation so many processes died is recorded as failed."""

Result = Path | Failure | None
"""As :meth:`.Jobs.run` gives it."""


def run_workers(
    jobs: Jobs, todo: Sequence[int], number: int, report: Callable[[Result], None], txt: str | Path | None = None
) -> None:
    """Do the jobs ``todo``, in this order, in ``number`` fresh processes; ``report`` is told of each result.

    A process that dies is replaced, and what it was at is tried once more.  The first one writes the log ``txt``.

    Raises
    ------
    ChildProcessError
        A process ended before it began to work.
    Exception
        What a process met that is not the failure of one calculation (a full disk).
    """
    workers = [_Worker(jobs, txt if n == 0 else None) for n in range(min(number, len(todo)))]
    results: SimpleQueue[Result | Exception] = SimpleQueue()
    waiting = deque(todo)

    def lead(worker: _Worker) -> None:
        """What a thread does for each worker."""
        while True:
            try:
                i = waiting.popleft()
            except IndexError:  # nothing left
                return
            try:
                results.put(worker.run(i))
            except Exception as error:  # the main thread raises it
                results.put(error)

    with _one_thread(), ThreadPoolExecutor(max(len(workers), 1)) as threads:
        try:
            for worker in workers:
                threads.submit(lead, worker)
            for _ in todo:
                result = results.get()
                if isinstance(result, Exception):
                    raise result
                report(result)
        finally:
            waiting.clear()
            for worker in workers:
                worker.stop()


class _Worker:
    """A process that calculates one snapshot after the other, as seen by the thread that leads it."""

    def __init__(self, jobs: Jobs, txt: str | Path | None) -> None:
        self.jobs, self.txt = jobs, txt
        self.process: SpawnProcess | None = None
        self.stopped = False

    def run(self, i: int) -> Result:
        """Have a snapshot calculated; wait for it."""
        for _ in range(TRIES):
            try:
                if self.process is None:
                    self.process, self.connection = self._start()
                self.connection.send(i)
                result = self.connection.recv()
            except (EOFError, BrokenPipeError, ConnectionResetError):  # it died
                if self.stopped:
                    return None
                self.process = None
                continue
            if isinstance(result, Exception):
                raise result
            return result
        return self.jobs.record_failure(i, f'{TRIES} processes died of it (out of memory?)')

    def stop(self) -> None:
        """End the process, whatever it is at."""
        self.stopped = True
        if self.process is not None:
            self.process.terminate()
            self.process.join()

    def _start(self) -> tuple[SpawnProcess, Connection]:
        context = get_context('spawn')
        connection, other_end = context.Pipe()
        process = context.Process(target=_work, args=(self.jobs, self.txt, other_end), daemon=True)
        process.start()
        other_end.close()
        try:
            connection.recv()
        except EOFError:
            process.join()
            raise ChildProcessError(f'a worker process ended at once, exit code {process.exitcode}') from None
        return process, connection


def _work(jobs: Jobs, txt: str | Path | None, connection: Connection) -> None:
    """A worker's life: until the other end is closed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the one that leads ends this process
    connection.send('ready')
    while True:
        try:
            i = connection.recv()
        except EOFError:
            return
        try:
            connection.send(jobs.run(i, serial_comm(), txt=txt))
        except Exception as error:
            connection.send(error)


@contextmanager
def _one_thread() -> Iterator[None]:
    """Processes started within it use one thread each."""
    names = 'OMP_NUM_THREADS', 'OPENBLAS_NUM_THREADS', 'MKL_NUM_THREADS'
    before = {name: os.environ.get(name) for name in names}
    os.environ.update(dict.fromkeys(names, '1'))
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
