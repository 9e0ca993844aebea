"""Where reference densities come from: one folder per program, all behind the same few functions (:class:`Code`)."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from ase import Atoms
from numpy.typing import ArrayLike

from ase_deepdensity.grid import Grid
from ase_deepdensity.level import Level
from ase_deepdensity.paw import AtomType

if TYPE_CHECKING:
    from gpaw.mpi import MPIComm

    from ase_deepdensity.snapshot import Snapshot


class Code(Protocol):
    """What the package of a program must have.

    The grid and the k-points are found without the program.  Where something else needs it and it is not installed, an
    ImportError says how to install it.
    """

    def check(self, level: Level, numbers: ArrayLike) -> Level:
        """The level with its versions for the elements (atomic numbers), before any work.

        Raises
        ------
        LevelError
            Values that the program would refuse, or elements that it lacks.
        """

    def grid(self, level: Level, atoms: Atoms, *, gpts: ArrayLike | None = None, h: float | None = None) -> Grid:
        """The grid that the program would choose for ``atoms``, or one of ``gpts`` intervals or of spacing ``h`` (Å).

        Raises
        ------
        LevelError
            Parameters that it would refuse, or atoms that it cannot treat.
        ValueError
            Values that are no grid.
        """

    def kpoints(self, level: Level, atoms: Atoms) -> np.ndarray:
        """(K, 3) all k-points of the Brillouin zone, scaled.

        Raises
        ------
        LevelError
            The level has none, or the program would refuse them.
        """

    def atom_types(self, level: Level, numbers: ArrayLike) -> list[AtomType]:
        """What the datasets of the level say of atoms with these atomic numbers (natoms,); cached.

        Raises
        ------
        LevelError
            The program lacks an element.
        """

    def calculate(
        self, atoms: Atoms, level: Level, *, txt: str | Path | None = None, comm: MPIComm | None = None
    ) -> Snapshot:
        """The self-consistent ground state, from the program's default start.

        ``txt``: its log file; ``comm``: the MPI ranks that work on it, all of which get the snapshot.
        """

    def shares_ranks(self, level: Level) -> bool:
        """Can several MPI ranks work on one calculation?"""


def code_of(level: Level) -> Code:
    """The program of a level."""
    module: Any = import_module(f'ase_deepdensity.codes.{level.code}')
    return module
