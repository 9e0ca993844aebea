"""Writing a file wholly or not at all, checksums of what is written, and reading what anyone may have written."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import secrets
import shutil
import socket
import stat
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import IO, Any, Literal

import numpy as np

LONGEST_NAME = 255
"""Bytes in the name of a file, on nearly all file systems."""
OF_THE_DISK = (
    errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EROFS, errno.EACCES, errno.EPERM, errno.ENAMETOOLONG,
)  # fmt: skip
"""Errors that tell of where a file is written, not of what writes it."""
DAMAGE = AttributeError, LookupError, ArithmeticError, MemoryError, OSError, RuntimeError, TypeError, ValueError
"""What reading something that is not as it should be may raise."""


@contextmanager
def replacing(path: str | Path, mode: Literal['w', 'wb'] = 'w', *, newline: str | None = None) -> Iterator[IO[Any]]:
    """An open file (UTF-8, or bytes) that takes the place of ``path`` when the block ends: see :func:`replacing_path`.

    ``newline`` as for :func:`open`.
    """
    encoding = None if mode == 'wb' else 'utf-8'
    with replacing_path(path) as temporary, open(temporary, mode, encoding=encoding, newline=newline) as file:
        yield file


@contextmanager
def replacing_path(path: str | Path) -> Iterator[Path]:
    """The name of a file that takes the place of ``path``: for what writes to a name.

    It is empty, has the suffix of ``path``, and takes its place in one step and durably when the block ends.  After an
    error of any kind, or an interrupt, ``path`` is as it was before and nothing else is left; only a killed process
    leaves a file behind, see :func:`remove_stale_temporaries`.

    As with :func:`open`, permissions are those that ``path`` had before or that the umask leaves to a new file; links
    are followed; what is no ordinary file (``/dev/stdout``, a pipe) is written to.

    Raises
    ------
    OSError
        No such folder, a folder of this name, no permission, a full disk; it names ``path``.
    """
    target = Path(os.path.realpath(path))
    with naming(path):
        permissions = _check_target(target)
        if permissions is None:
            with _copied(target) as temporary:
                yield temporary
            return
        temporary = temporary_path(target)
        try:
            permissions = _create(temporary, permissions)
            yield temporary
            _sync(temporary)
            temporary.chmod(permissions)  # some libraries let only the owner read
            os.replace(temporary, target)
        finally:
            temporary.unlink(missing_ok=True)
        with suppress(OSError):  # the file is there; some network file systems cannot
            _sync(target.parent)


def temporary_path(path: Path) -> Path:
    """A new name beside ``path``, with its suffix, that tells which process is writing."""
    beginning = f'.tmp.{_host()}.{os.getpid()}-{secrets.token_hex(4)}.'
    room = LONGEST_NAME - len(os.fsencode(beginning))
    return path.with_name(beginning + os.fsdecode(os.fsencode(path.name)[-room:]))


def whole_files(folder: Path, suffix: str) -> list[Path]:
    """The files of a folder whose names end so, sorted, without those that are still being written."""
    return sorted(path for path in folder.glob(f'*{suffix}') if not path.name.startswith('.'))


def remove_stale_temporaries(folder: Path) -> None:
    """Remove what killed processes of this machine have left half-written."""
    for temporary in folder.glob('.tmp.*.*.*'):
        _, _, host, process, _ = temporary.name.split('.', 4)
        pid = process.partition('-')[0]
        if host == _host() and pid.isdigit() and not is_running(int(pid)):
            if temporary.is_dir():
                shutil.rmtree(temporary, ignore_errors=True)
            else:
                temporary.unlink(missing_ok=True)


def is_running(pid: int) -> bool:
    """Is there a process of this number on this machine?"""
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        pass
    return True


def checksum(header: str, arrays: Mapping[str, np.ndarray]) -> str:
    """SHA-256 of a header and of named arrays: their names, types, shapes and bytes, in the order of the names."""
    table = [(name, array.dtype.str.lstrip('<>|='), array.shape) for name, array in sorted(arrays.items())]
    digest = hashlib.sha256(json.dumps([header, table]).encode())
    for _, array in sorted(arrays.items()):
        little = np.ascontiguousarray(array, array.dtype.newbyteorder('<'))
        digest.update(little.reshape(-1).view(np.uint8).data)
    return digest.hexdigest()


def read_json(text: str) -> Any:
    """JSON that anyone may have written.

    Raises
    ------
    ValueError
        Not JSON; a name that stands twice; too deep.
    """
    try:
        return json.loads(text, object_pairs_hook=_unique)
    except RecursionError:
        raise ValueError('nested too deeply') from None


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    content = dict(pairs)
    if len(content) < len(pairs):
        raise ValueError(f'a name stands twice among {[name for name, _ in pairs]}')
    return content


def _check_target(target: Path) -> int | None:
    """Permissions of what is to be replaced, 0 if there is nothing, None if it is no ordinary file."""
    if not target.parent.is_dir():
        raise FileNotFoundError(errno.ENOENT, 'No such folder', str(target.parent))
    try:
        status = target.stat()
    except FileNotFoundError:
        return 0
    if stat.S_ISDIR(status.st_mode):
        raise IsADirectoryError(errno.EISDIR, 'Is a folder, not a file', str(target))
    if not os.access(target, os.W_OK):
        raise PermissionError(errno.EACCES, 'Must not be written', str(target))
    return stat.S_IMODE(status.st_mode) if stat.S_ISREG(status.st_mode) else None


def _create(temporary: Path, permissions: int) -> int:
    """Make an empty file; returns the permissions that it should have in the end, by default those of a new file."""
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
    try:
        return permissions or stat.S_IMODE(os.fstat(descriptor).st_mode)
    finally:
        os.close(descriptor)


def _sync(path: Path) -> None:
    """Make a file, or the names in a folder, durable."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def _copied(target: Path) -> Iterator[Path]:
    """The name of a file elsewhere that is copied into ``target`` in the end."""
    with TemporaryDirectory() as folder:
        temporary = Path(folder) / 'whole'
        temporary.touch()
        yield temporary
        with open(temporary, 'rb') as source, open(target, 'wb') as sink:
            shutil.copyfileobj(source, sink)


@contextmanager
def naming(path: str | Path) -> Iterator[None]:
    """Errors of the disk, which name a temporary file or none, name ``path``."""
    disk = (
        errno.ENOSPC,
        errno.EDQUOT,
        errno.EFBIG,
        errno.EIO,
        errno.EROFS,
        errno.EACCES,
        errno.EPERM,
        errno.ENAMETOOLONG,
    )
    try:
        yield
    except OSError as error:
        if error.errno in disk and (error.filename is None or '/.tmp.' in str(error.filename)):
            raise type(error)(error.errno, error.strerror, str(path)) from error
        raise


def _host() -> str:
    return socket.gethostname().replace('.', '-')
