"""One training at a time for each model file."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import socket
import warnings
import weakref
from pathlib import Path
from typing import Any


class LockedError(ValueError):
    """Another process trains this model."""


class Lock:
    """Held from its making to :meth:`release`, or to the end of the process, however it ends.

    The system's lock on an open file (``flock``), not the presence of a file: it vanishes with its process, so that
    neither ``kill -9`` nor a power failure leaves a lock behind that someone has to judge and remove.  Linux passes it
    on to NFS servers; on file systems that keep locks to one machine it guards against other processes there.  What
    the file holds, host and process, is for the message alone.

    Parameters
    ----------
    path
        File to lock; made if it is missing, and removed at the end.

    Raises
    ------
    LockedError
        Another process, or another lock of this one, holds it.
    """

    def __init__(self, path: Path):
        self.path = path
        descriptor = _locked(path)
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, json.dumps({'host': socket.gethostname(), 'pid': os.getpid()}).encode(), 0)
        self._release = weakref.finalize(self, _release, path, descriptor, os.getpid())

    def release(self) -> None:
        """Let others have it; a second time does nothing."""
        self._release()


def _locked(path: Path) -> int:
    """The descriptor of the file, opened and locked."""
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        try:
            _flock(path, descriptor)
            if _is_same(path, descriptor):
                return descriptor
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)  # the process that held it removed the file just now


def _flock(path: Path, descriptor: int) -> None:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in (errno.EWOULDBLOCK, errno.EACCES):
            holder = _holder(descriptor)
            raise LockedError(
                f'{path}: process {holder.get("pid", "?")} on {holder.get("host", "an unknown host")} trains this '
                'model; wait for it, stop it, or take another --out'
            ) from None
        warnings.warn(
            f'{path}: no locks on this file system ({error.strerror}); let no other process train this model',
            stacklevel=4,
        )


def _is_same(path: Path, descriptor: int) -> bool:
    try:
        return os.path.samestat(path.stat(), os.fstat(descriptor))
    except FileNotFoundError:
        return False


def _holder(descriptor: int) -> dict[str, Any]:
    try:
        holder = json.loads(os.pread(descriptor, 1000, 0))
    except ValueError:  # nothing written yet
        return {}
    return holder if isinstance(holder, dict) else {}


def _release(path: Path, descriptor: int, pid: int) -> None:
    """Remove the file while it is still locked, then let go; a fork of the process leaves it alone."""
    if pid == os.getpid():
        path.unlink(missing_ok=True)
    os.close(descriptor)
