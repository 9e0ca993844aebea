"""Which process calculates which snapshot, when several work on one folder.

A claim is a file beside the snapshot, made by one process alone (O_EXCL), locked by it as long as it lives and removed
when the work is done.  A process that dies loses its lock, however it dies: another on the same host takes its claim
over.
Locks of other hosts may not be seen on a network file system, so that their claims are respected until they are old.
"""

from __future__ import annotations

import fcntl
import json
import os
import socket
import time
from pathlib import Path

OTHER_HOSTS_HOURS = 24.0
"""A claim of another host counts as left behind when it is older."""


class Claim:
    """A claimed snapshot.  As a context it is released at the end."""

    def __init__(self, path: Path, descriptor: int) -> None:
        self.path, self._descriptor = path, descriptor

    def __enter__(self) -> Claim:
        return self

    def __exit__(self, *error: object) -> None:
        self.release()

    def release(self) -> None:
        """Let others have it."""
        self.path.unlink(missing_ok=True)
        os.close(self._descriptor)


def claim_path(target: Path) -> Path:
    """Where the claim to calculate ``target`` is."""
    return target.with_name(f'.{target.name}.claim')


def take(target: Path) -> Claim | None:
    """Claim a snapshot for this process; None: another has it."""
    path = claim_path(target)
    try:
        return _locked(path, os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o644))
    except FileExistsError:
        pass
    try:
        descriptor = os.open(path, os.O_RDWR)
    except FileNotFoundError:  # released just now
        return None
    if not _left_behind(descriptor):
        os.close(descriptor)
        return None
    return _locked(path, descriptor)


def _locked(path: Path, descriptor: int) -> Claim | None:
    """The claim, if this process is the one to lock its file, and the file is still in its place."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if os.stat(path).st_ino != os.fstat(descriptor).st_ino:
            raise FileNotFoundError
    except (BlockingIOError, FileNotFoundError):
        os.close(descriptor)
        return None
    os.truncate(descriptor, 0)
    os.pwrite(descriptor, json.dumps({'host': socket.gethostname(), 'pid': os.getpid()}).encode(), 0)
    return Claim(path, descriptor)


def _left_behind(descriptor: int) -> bool:
    """May a claim be taken over, if its lock is free?"""
    try:
        host = json.loads(os.pread(descriptor, 1000, 0))['host']
    except ValueError:  # being written, or never finished
        host = None
    age = time.time() - os.fstat(descriptor).st_mtime
    return host == socket.gethostname() or age > OTHER_HOSTS_HOURS * 3600
