"""What started this process as one of several: ``mpiexec`` or ``torchrun``."""

from __future__ import annotations

import os

RANK_VARIABLES = 'OMPI_COMM_WORLD_RANK', 'PMIX_RANK', 'PMI_RANK'


def mpi_rank() -> int | None:
    """The rank of this process in its MPI launcher, None without one."""
    for name in RANK_VARIABLES:
        if os.environ.get(name, '').isdigit():
            return int(os.environ[name])
    return None


def torchrun_rank() -> int | None:
    """The rank of this process under ``torchrun``, None without it."""
    return int(os.environ['RANK']) if 'TORCHELASTIC_RUN_ID' in os.environ else None
