"""Tensors in a temporary file, for what is too much to be held."""

from __future__ import annotations

import mmap
import os
import shutil
import tempfile
from collections.abc import Sequence
from math import prod

import torch

ALIGNMENT = 64


class MappedFile:
    """Zeros on the disk that are read and written like memory, and are gone with the last tensor.

    The folder is that of all temporary files (``TMPDIR``).  A copy, or what another process gets, is in memory.

    Raises
    ------
    OSError
        No room there.
    """

    def __init__(self, nbytes: int):
        with tempfile.TemporaryFile() as file:
            os.posix_fallocate(file.fileno(), 0, nbytes)  # later a full disk would end the program
            self._mapping = mmap.mmap(file.fileno(), nbytes)
        self._used = 0

    @classmethod
    def for_tensors(cls, shapes: Sequence[Sequence[int]], dtype: torch.dtype) -> MappedFile:
        """With room for :meth:`zeros` of these shapes."""
        return cls(sum(_aligned(prod(shape) * dtype.itemsize) for shape in shapes))

    def zeros(self, shape: Sequence[int], dtype: torch.dtype) -> torch.Tensor:
        """The next numbers of the file."""
        tensor = torch.frombuffer(self._mapping, dtype=dtype, count=prod(shape), offset=self._used)
        self._used += _aligned(prod(shape) * dtype.itemsize)
        return tensor.view(*shape)

    def release(self) -> None:
        """Hold nothing of it in memory until it is asked for again."""
        self._mapping.madvise(mmap.MADV_DONTNEED)

    def __reduce__(self) -> tuple[type[None], tuple[()]]:
        return type(None), ()


def has_room(nbytes: float) -> bool:
    """Whether the folder of temporary files takes so much."""
    return nbytes <= shutil.disk_usage(tempfile.gettempdir()).free


def _aligned(nbytes: int) -> int:
    return -(-nbytes // ALIGNMENT) * ALIGNMENT
