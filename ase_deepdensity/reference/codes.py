"""The programs that references come from: each level of theory names one."""

from __future__ import annotations

from collections.abc import Iterable
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from ase import Atoms

from ase_deepdensity.dataset.files import Snapshot
from ase_deepdensity.level import Level

if TYPE_CHECKING:
    from gpaw.mpi import MPIComm


class Code(Protocol):
    """What a module ``reference/<code>.py`` must have."""

    def calculate(
        self, atoms: Atoms, level: Any, *, txt: str | Path | None = None, comm: MPIComm | None = None
    ) -> Snapshot:
        """The self-consistent ground state, from the program's default start."""

    def atomic_tables(self, level: Any, numbers: Iterable[int]) -> dict[int, tuple[np.ndarray, np.ndarray]]:
        """Density of the isolated atoms, by atomic number: r_g (Å, from 0) and n_g (electrons/Å³)."""


def code(level: Level) -> Code:
    """The program of a level."""
    module: Any = import_module(f'ase_deepdensity.reference.{level.code}')
    return module
