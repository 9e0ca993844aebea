"""One PAW density, one HDF5 file: the state of a snapshot without energy and forces (see :mod:`.files`)."""

from __future__ import annotations

import json
from pathlib import Path

from ase_deepdensity.dataset import files, hdf5
from ase_deepdensity.dataset.contents import STATE, check_geometry, geometry_hash, state, state_arrays
from ase_deepdensity.files import read_json
from ase_deepdensity.level import Level
from ase_deepdensity.state import PAWDensity

FORMAT, VERSION = 'ase-deepdensity density', 2


class DensityFileError(ValueError):
    """A file that holds no whole density."""


LAYOUT = hdf5.Layout(FORMAT, VERSION, STATE, 'density', DensityFileError)


def write_density(path: str | Path, density: PAWDensity) -> None:
    """Write ñ, D, atoms, grid and level without loss; the file appears whole or not at all."""
    attributes = {'level': json.dumps(density.level.to_dict()), 'geometry': geometry_hash(density.atoms)}
    hdf5.write(path, LAYOUT, state_arrays(density), attributes)


def read_density(path: str | Path) -> PAWDensity:
    """Read a density, from a file of its own or out of a snapshot.

    Raises
    ------
    DensityFileError
        The file is missing, truncated, foreign, changed since it was written, or of a later version; the message says
        which.
    """
    with hdf5.opened(path, LAYOUT, files.LAYOUT) as content:
        density = state(content.arrays(), Level.from_dict(read_json(content.text('level'))))
        if 'geometry' in content.file.attrs:  # not in a density of version 1
            check_geometry(density.atoms, content.text('geometry'))
        return density
