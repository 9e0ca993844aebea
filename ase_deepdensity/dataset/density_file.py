"""One PAW density, one HDF5 file: the state of a snapshot without energy and forces (see :mod:`.files`)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np
from ase import Atoms

from ase_deepdensity.dataset import files, hdf5
from ase_deepdensity.dataset.contents import (
    SINCE,
    STATE,
    beside_density,
    flat_matrices,
    read_state,
    split_matrices,
    write_state,
)
from ase_deepdensity.dataset.volumetric import in_order
from ase_deepdensity.grid import Grid
from ase_deepdensity.level import Level
from ase_deepdensity.paw import AtomType
from ase_deepdensity.state import PAWDensity

FORMAT, VERSION = 'ase-deepdensity density', 6
WITHOUT_SIGMA, OF_DENSITY = 4, 5
"""Versions of files that tell nothing of σ, and of σ of ñ alone, as programs before there was more read them."""
SIGMA = {'sigma_sR': ('f', 4)}
"""σ of ñ, which files have besides the state from :data:`OF_DENSITY` on."""
BEYOND = {'sigma_D_sI': ('f', 2), 'sigma_dipole_v': ('f', 1)}
"""σ of D as ``D_sI`` and of the dipole, (0,) if that is not known: in files of the newest version."""
UNITS = 'electron/angstrom^3'


class DensityFileError(ValueError):
    """A file that holds no whole density."""


LATER = SINCE | dict.fromkeys(SIGMA, OF_DENSITY) | dict.fromkeys(BEYOND, VERSION)
LAYOUT = hdf5.Layout(FORMAT, VERSION, STATE | SIGMA | BEYOND, 'density', DensityFileError, LATER)
WITH_SIGMA = hdf5.Layout(FORMAT, OF_DENSITY, STATE | SIGMA, 'density', DensityFileError, LATER)
"""Of what is written with σ of ñ alone."""
PLAIN = hdf5.Layout(FORMAT, WITHOUT_SIGMA, STATE, 'density', DensityFileError, SINCE)
"""Of what is written without σ."""


def write_density(path: str | Path, density: PAWDensity, origin: str = '') -> None:
    """Write ñ, D, atoms, grid, level, charge (without loss), atom types and, as far as they are known, their σ.

    σ of D and of the dipole go with that of ñ.
    The file appears whole or not at all.

    ``origin``: what :func:`read_origin` gives back, to tell whether it is what would be made again.
    """
    attributes = {'origin': origin} if origin else {}
    if density.sigma_sR is None:
        write_state(path, PLAIN, density, attributes=attributes)
    else:
        of_sigma = {'sigma_sR': density.sigma_sR}
        layout = WITH_SIGMA
        if density.sigma_D_asii is not None:
            layout, dipole_v = LAYOUT, density.sigma_dipole_v
            of_sigma |= {
                'sigma_D_sI': flat_matrices(density.sigma_D_asii, density.nspins),
                'sigma_dipole_v': np.empty(0) if dipole_v is None else dipole_v,
            }
        write_state(path, layout, density, of_sigma, attributes | {'sigma_sR_units': UNITS})


def read_origin(path: str | Path) -> tuple[str, str]:
    """The origin that a density was written with, '' if none, and the :func:`.geometry_hash` of its atoms.

    Raises
    ------
    DensityFileError
        As :func:`read_density`, of what can be told without reading all of the file.
    """
    with hdf5.opened(path, LAYOUT, whole=False) as content:
        return content.text('origin') if 'origin' in content.file.attrs else '', content.text('geometry')


def write_density_slabs(
    path: str | Path,
    atoms: Atoms,
    grid: Grid,
    slabs: Iterable[tuple[Grid, np.ndarray]],
    D_zsaii: Mapping[int, np.ndarray],
    *,
    planes: int,
    level: Level,
    charge: float,
    atom_types: Mapping[int, AtomType],
) -> None:
    """The same slab by slab, of which one is held at a time.

    Parameters
    ----------
    grid
        The whole grid.
    slabs
        That follow each other along its first axis, with ñ (1 or 2, n0, n1, n2) there, electrons/Å³.
    D_zsaii
        By atomic number the density matrices (1 or 2, natoms of it, ni, ni).
    planes
        Of a chunk, which is compressed as one.
    atom_types
        By atomic number.

    Raises
    ------
    ValueError
        The slabs are not the grid.
    OSError
        A full disk.
    """
    D_sI, ni_a = _flat(atoms.numbers, D_zsaii)
    arrays, attributes = beside_density(
        atoms, grid, D_sI, ni_a, level, charge, [atom_types[Z] for Z in atoms.numbers.tolist()]
    )
    shape = (len(D_sI), *grid.shape)
    chunks = (1, min(planes, shape[1]), *shape[2:])
    with hdf5.writing(path, PLAIN) as file:
        file.put_parts('nt_sR', shape, chunks, in_order(grid, slabs))
        for name, array in arrays.items():
            file.put(name, array)
        file.describe(attributes)


def _flat(number_a: np.ndarray, D_zsaii: Mapping[int, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Matrices one after the other in the order of the atoms, (nspins, Σ ni²), and their sizes, (natoms,)."""
    ni_a = np.zeros(len(number_a), int)
    for Z, D_saii in D_zsaii.items():
        ni_a[number_a == Z] = D_saii.shape[2]
    end_a = np.cumsum(ni_a**2)
    nspins = max((len(D_saii) for D_saii in D_zsaii.values()), default=1)
    D_sI = np.zeros((nspins, int(end_a[-1]) if len(end_a) else 0))
    for Z, D_saii in D_zsaii.items():
        numbers = D_saii.shape[2] ** 2
        place_ai = (end_a[number_a == Z] - numbers)[:, None] + np.arange(numbers)
        D_sI[:, place_ai] = D_saii.reshape(*D_saii.shape[:2], numbers)
    return D_sI, ni_a


def read_density(path: str | Path) -> PAWDensity:
    """Read a density, from a file of its own or out of a snapshot.

    Raises
    ------
    DensityFileError
        The file is missing, truncated, foreign, changed since it was written, or of a later version; the message says
        which.
    """
    with hdf5.opened(path, LAYOUT, files.LAYOUT) as content:
        arrays = content.arrays()
        density = read_state(content, arrays)
        if 'sigma_sR' not in arrays:
            return density
        density = density.new(sigma_sR=arrays['sigma_sR'])
        if 'sigma_D_sI' not in arrays:
            return density
        dipole_v = arrays['sigma_dipole_v']
        sigma_D_asii = split_matrices(arrays['sigma_D_sI'], arrays['ni_a'])
        return density.new(sigma_D_asii=sigma_D_asii, sigma_dipole_v=dipole_v if len(dipole_v) else None)
