"""GPAW: what its levels of theory mean, and all contact with it.

Some of this needs no GPAW: the grid and the k-points that it would choose.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from ase import Atoms

from ase_deepdensity.codes.gpaw.datasets import atom_types
from ase_deepdensity.codes.gpaw.grid import grid
from ase_deepdensity.codes.gpaw.kpoints import kpoints
from ase_deepdensity.codes.gpaw.parameters import check, shares_ranks
from ase_deepdensity.level import Level

if TYPE_CHECKING:
    from gpaw.mpi import MPIComm

    from ase_deepdensity.snapshot import Snapshot

__all__ = [
    'atom_types',
    'calculate',
    'check',
    'grid',
    'kpoints',
    'shares_ranks',
]


def calculate(atoms: Atoms, level: Level, *, txt: str | Path | None = None, comm: MPIComm | None = None) -> Snapshot:
    """See :func:`.reference.calculate`."""
    from ase_deepdensity.codes.gpaw import reference  # and data sets, which nothing else here needs

    return reference.calculate(atoms, level, txt=txt, comm=comm)
