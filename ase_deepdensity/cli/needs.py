"""What a prediction will take of memory and disk: said before it begins, and refused where it cannot be had."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ase_deepdensity.cli.outputs import file_kind

if TYPE_CHECKING:
    from ase import Atoms

    from ase_deepdensity.grid import Grid
    from ase_deepdensity.predict import Predictor

WORTH_SAYING = 2**27
"""Bytes."""
LINE = {'cube': 13, 'chgcar': 18}
"""Bytes of a number in a text file, without a sign."""
NUMBER = {'h5': 8, 'zarr': 4}
"""Of one in a file that is compressed, before it is; files that are written slab by slab have 4 as well."""


@dataclass(frozen=True)
class Needs:
    """Bytes."""

    memory: float
    """At one time, besides the program itself."""
    text: float
    """On the disk, of files that are as large as their numbers are many."""
    packed: float
    """Of files that are compressed: at most."""

    @classmethod
    def of(
        cls,
        predictor: Predictor,
        frames: Sequence[Atoms],
        grids: Sequence[Grid],
        outputs: Sequence[str],
        *,
        streamed: bool,
        ranks: int = 1,
    ) -> Needs:
        """Of some frames, one after the other, on their grids, into such files.

        Parameters
        ----------
        streamed
            Is one slab of the grid held at a time?
        ranks
            That share each.
        """
        from ase_deepdensity.geometry import grid_memory
        from ase_deepdensity.slabs import SLAB_POINTS

        memory = text = packed = 0.0
        kinds = [file_kind(name) for name in outputs]
        for atoms, grid in zip(frames, grids, strict=True):
            of_grid = grid_memory(grid, max_points=SLAB_POINTS if streamed else None)
            memory = max(memory, of_grid + predictor.memory(-(-len(atoms) // ranks)))
            nspins = 2 if atoms.get_initial_magnetic_moments().any() else 1
            points = float(grid.size_c.prod())
            text += points * sum(LINE.get(kind, 0) for kind in kinds)
            packed += nspins * points * sum(4 if streamed else NUMBER[kind] for kind in kinds if kind in NUMBER)
            packed += 8 * predictor.matrix_elements(atoms) * sum(kind in NUMBER for kind in kinds)
        return cls(memory, text, packed)

    def check(self, folder: Path, *, streamed: bool) -> None:
        """Say what it is, if it is much, and refuse what there is not.

        Parameters
        ----------
        folder
            Where the files will be.

        Raises
        ------
        TooLargeError
            The message tells what it would take and what there is.
        """
        from ase_deepdensity.memory import TooLargeError, check_memory

        free = shutil.disk_usage(folder).free
        if max(self.memory, self.text + self.packed) > WORTH_SAYING:
            print(f'needs      {_gib(self.memory)} of memory{self._on_disk(free)}', flush=True)
        less = '' if streamed else ' (--out FILE.zarr, or --stream, holds one slab of the grid at a time)'
        check_memory(self.memory, f'this prediction{less}')
        if self.text > free:
            raise TooLargeError(
                f'the files would take {_gib(self.text)} and {folder} has {_gib(free)} left; FILE.zarr and FILE.h5 '
                'are smaller'
            )

    def _on_disk(self, free: float) -> str:
        total = self.text + self.packed
        if not total:
            return ''
        return f', {"up to " if self.packed else ""}{_gib(total)} of the disk, where {_gib(free)} are left'


def _gib(nbytes: float) -> str:
    return f'{nbytes / 2**30:.3g} GiB'
