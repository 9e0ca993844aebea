"""GPAW under ``mpiexec``: plain Python must be told to use MPI before GPAW is imported."""

from __future__ import annotations

import os
import sys

RANK_VARIABLES = 'OMPI_COMM_WORLD_RANK', 'PMIX_RANK', 'PMI_RANK'


def mpi_rank() -> int | None:
    """The rank of this process in its MPI launcher, None without one."""
    for name in RANK_VARIABLES:
        if os.environ.get(name, '').isdigit():
            return int(os.environ[name])
    return None


def enable_mpi() -> None:
    """Let GPAW use MPI if an MPI launcher started this process; call before ``import gpaw``."""
    if mpi_rank() is None or os.environ.get('GPAW_MPI_BACKEND') or 'gpaw' in sys.modules:
        return
    import _gpaw

    os.environ['GPAW_MPI_BACKEND'] = 'cgpaw' if getattr(_gpaw, 'have_mpi', False) else 'mpi4py'
