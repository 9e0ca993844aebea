"""Kohn–Sham in one dimension: chains of Gaussian ions, small enough to know everything about."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from ase import Atoms

from ase_deepdensity.codes.ks1d.parameters import atom_types, check, grid, kpoints, shares_ranks
from ase_deepdensity.level import Level

if TYPE_CHECKING:
    from gpaw.mpi import MPIComm

    from ase_deepdensity.snapshot import Snapshot

__all__ = ['atom_types', 'calculate', 'check', 'grid', 'kpoints', 'shares_ranks']


def calculate(atoms: Atoms, level: Level, *, txt: str | Path | None = None, comm: MPIComm | None = None) -> Snapshot:
    """See :func:`.codes.ks1d.calculator.calculate`."""
    from ase_deepdensity.codes.ks1d import calculator  # and data sets, which nothing else here needs

    return calculator.calculate(atoms, level, txt=txt, comm=comm)
