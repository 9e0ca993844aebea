"""One PAW density, one HDF5 file: the state of a snapshot without energy and forces (see :mod:`.files`)."""

from __future__ import annotations

from pathlib import Path

from ase_deepdensity.dataset import files, hdf5
from ase_deepdensity.dataset.contents import SINCE, STATE, read_state, write_state
from ase_deepdensity.state import PAWDensity

FORMAT, VERSION = 'ase-deepdensity density', 4


class DensityFileError(ValueError):
    """A file that holds no whole density."""


LAYOUT = hdf5.Layout(FORMAT, VERSION, STATE, 'density', DensityFileError, SINCE)


def write_density(path: str | Path, density: PAWDensity) -> None:
    """Write ñ, D, atoms, grid, level, charge (without loss) and atom types; the file appears whole or not at all."""
    write_state(path, LAYOUT, density)


def read_density(path: str | Path) -> PAWDensity:
    """Read a density, from a file of its own or out of a snapshot.

    Raises
    ------
    DensityFileError
        The file is missing, truncated, foreign, changed since it was written, or of a later version; the message says
        which.
    """
    with hdf5.opened(path, LAYOUT, files.LAYOUT) as content:
        return read_state(content, content.arrays())
