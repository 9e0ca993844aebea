"""A file for the HDF5 library, which crashes where it cannot write."""

from __future__ import annotations

import io
import os
from typing import Any


class Sink(io.RawIOBase):
    """A file on a disk whose writing never fails: what a full disk refuses is kept in memory, with all that follows.

    Whoever writes asks :meth:`check` now and then, lest all of it be kept.

    Parameters
    ----------
    descriptor
        Of a file that is open for reading and writing.
    """

    def __init__(self, descriptor: int):
        self._descriptor, self._place = descriptor, 0
        self._error: OSError | None = None
        self._size = 0
        self._kept: list[tuple[int, bytes]] = []

    def check(self) -> None:
        """Raise what writing has met."""
        if self._error is not None:
            raise self._error

    def seekable(self) -> bool:
        return True

    def readable(self) -> bool:
        return True

    def writable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        self._place = offset + {os.SEEK_SET: 0, os.SEEK_CUR: self._place, os.SEEK_END: self._size}[whence]
        return self._place

    def tell(self) -> int:
        return self._place

    def write(self, data: Any) -> int:
        view, start = memoryview(data).cast('B'), self._place
        try:
            done = 0
            while self._error is None and done < len(view):
                done += os.pwrite(self._descriptor, view[done:], start + done)
        except OSError as error:
            self._error = error
        if self._error is not None:
            self._kept.append((start, bytes(view)))
        self._place += len(view)
        self._size = max(self._size, self._place)
        return len(view)

    def readinto(self, buffer: Any) -> int:
        view, start = memoryview(buffer).cast('B'), self._place
        view = view[: max(0, self._size - start)]
        done = 0
        while done < len(view) and (found := os.preadv(self._descriptor, [view[done:]], start + done)):
            done += found
        view[done:] = bytes(len(view) - done)
        for place, data in self._kept:
            first, last = max(place, start), min(place + len(data), start + len(view))
            if first < last:
                view[first - start : last - start] = data[first - place : last - place]
        self._place += len(view)
        return len(view)

    def truncate(self, size: int | None = None) -> int:
        self._size = self._place if size is None else size
        try:
            if self._error is None:
                os.ftruncate(self._descriptor, self._size)
        except OSError as error:
            self._error = error
        return self._size
