"""Work that MPI ranks share, through GPAW's communicators; one process needs no GPAW for it.

Under ``mpiexec`` plain Python must be told to use MPI before GPAW is imported (:func:`enable_mpi`).
"""

from __future__ import annotations

import os
import pickle
import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, TypeVar, cast

from ase_deepdensity.codes.gpaw.require import require_gpaw
from ase_deepdensity.launchers import mpi_rank

if TYPE_CHECKING:
    from gpaw.mpi import MPIComm

T = TypeVar('T')


def enable_mpi() -> None:
    """Let GPAW use MPI if an MPI launcher started this process; call before ``import gpaw``.

    Raises
    ------
    MissingGPAWError
        Under an MPI launcher, without GPAW.
    """
    if mpi_rank() is None or os.environ.get('GPAW_MPI_BACKEND') or 'gpaw' in sys.modules:
        return
    require_gpaw('running under an MPI launcher')
    import _gpaw

    os.environ['GPAW_MPI_BACKEND'] = 'cgpaw' if getattr(_gpaw, 'have_mpi', False) else 'mpi4py'


class OneProcess:
    """In place of a communicator of GPAW's where that is not installed."""

    rank, size = 0, 1


def world_comm() -> MPIComm:
    """All ranks there are."""
    return _comm('world')


def serial_comm() -> MPIComm:
    """This rank alone."""
    return _comm('serial_comm')


def _comm(name: str) -> MPIComm:
    if find_spec('gpaw') is None:
        return cast('MPIComm', OneProcess())
    from gpaw import mpi

    comm: MPIComm = getattr(mpi, name)
    return comm


def broadcast(value: T | None, root: int, comm: MPIComm) -> T:
    """What rank ``root`` has, on all."""
    if comm.size == 1:
        return cast('T', value)
    from gpaw import mpi

    received: T = mpi.broadcast(value if comm.rank == root else None, root, comm=comm)
    return received


@contextmanager
def shared_exception(comm: MPIComm) -> Iterator[None]:
    """An error of any rank within it is one on all ranks at its end: that of the first rank which has one.

    Within it no rank may wait for another.
    """
    if comm.size == 1:
        yield
        return
    mine = None
    try:
        yield
    except Exception as error:
        mine = error
    first = int(comm.min_scalar(comm.size if mine is None else comm.rank))
    if first < comm.size:
        of_first: Exception = broadcast(None if mine is None else _sendable(mine), first, comm)
        raise (mine if mine is not None and comm.rank == first else of_first) from mine


def _sendable(error: Exception) -> Exception:
    """The error, or one with its words where it cannot be sent to another process."""
    try:
        copy: Exception = pickle.loads(pickle.dumps(error))
    except Exception:
        return RuntimeError(f'{type(error).__name__}: {error}')
    return copy


def broadcast_exception(comm: MPIComm) -> AbstractContextManager[Any]:
    """Within it an error of rank 0 is one on all ranks."""
    if comm.size == 1:
        return nullcontext()
    from gpaw import mpi

    context: AbstractContextManager[Any] = mpi.broadcast_exception(comm)
    return context
