"""A PAW density as named arrays, and what must hold for it to be one."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from ase import Atoms
from ase.data import chemical_symbols

from ase_deepdensity.codes import code_of
from ase_deepdensity.dataset import hdf5
from ase_deepdensity.dataset.atom_types import distinct, packed, unpacked
from ase_deepdensity.files import read_json
from ase_deepdensity.grid import Grid
from ase_deepdensity.level import Level, without_charge
from ase_deepdensity.paw import AtomType, pseudo_electrons
from ase_deepdensity.state import PAWDensity

GRID = 'size_c', 'pbc_c', 'zerobc_c', 'start_c', 'stop_c'
STATE = {
    'nt_sR': ('f', 4),
    'D_sI': ('f', 2),
    'ni_a': ('i', 1),
    'numbers': ('i', 1),
    'positions': ('f', 2),
    'cell': ('f', 2),
    'pbc': ('b', 1),
    'magmoms': ('f', 1),
    'size_c': ('i', 1),
    'pbc_c': ('b', 1),
    'zerobc_c': ('b', 1),
    'start_c': ('i', 1),
    'stop_c': ('i', 1),
    'type_a': ('i', 1),
    'atom_types': ('f', 1),
}
"""name: kind of number as NumPy has it, number of axes; see :mod:`.files`."""
SINCE = {'type_a': 3, 'atom_types': 3}
"""Versions from which on there are these."""
FARTHEST = 1e9
"""Å: positions and cells beyond it have no :func:`geometry_hash`."""
MISSING = 1e-4
"""Electrons per valence electron that may be missing; GPAW misses 1e-7."""


def geometry_hash(atoms: Atoms) -> str:
    """SHA-256 of elements, positions, cell (to 1e-9 Å), boundary conditions and initial magnetic moments."""
    digest = hashlib.sha256(atoms.numbers.astype('<i4').tobytes())
    for array in atoms.positions, atoms.cell.array, atoms.get_initial_magnetic_moments():
        digest.update(np.round(array / 1e-9).astype('<i8').tobytes())
    digest.update(atoms.pbc.tobytes())
    return digest.hexdigest()


def check_geometry(atoms: Atoms, expected: str) -> None:
    """Refuse atoms of another hash.

    Raises
    ------
    ValueError
        They are not those that it belongs to.
    """
    if geometry_hash(atoms) != expected:
        raise ValueError('its atoms are not those that it was made for (their hash is another one)')


def write_state(
    path: str | Path,
    layout: hdf5.Layout,
    density: PAWDensity,
    arrays: Mapping[str, np.ndarray] | None = None,
    attributes: Mapping[str, str | int | float] | None = None,
) -> None:
    """Write a density, and what else the layout has, as a sealed file; it appears whole or not at all.

    Atom types are left out where :func:`known_types` knows none.
    """
    D_sI = flat_matrices(density.D_asii, density.nspins)
    ni_a = np.array([D_sii.shape[1] for D_sii in density.D_asii], dtype=int)
    small, described = beside_density(
        density.atoms, density.grid, D_sI, ni_a, density.level, density.charge, known_types(density) or []
    )
    hdf5.write(
        path,
        layout,
        {'nt_sR': density.nt_sR} | small | dict(arrays or {}),
        described | dict(attributes or {}),
    )


def beside_density(
    atoms: Atoms,
    grid: Grid,
    D_sI: np.ndarray,
    ni_a: np.ndarray,
    level: Level,
    charge: float,
    atom_types: Sequence[AtomType],
) -> tuple[dict[str, np.ndarray], dict[str, str | int | float]]:
    """What stands in a file besides ñ: arrays and attributes.

    Parameters
    ----------
    D_sI, ni_a
        (nspins, Σ ni²) and (natoms,): density matrices of the atoms one after the other, and their sizes.
    atom_types
        Of each atom, or none at all.
    """
    types, type_a = distinct(atom_types)
    text, numbers = packed(types)
    arrays = {
        'D_sI': D_sI,
        'ni_a': ni_a,
        'numbers': atoms.numbers,
        'positions': atoms.positions,
        'cell': atoms.cell.array,
        'pbc': atoms.pbc,
        'magmoms': atoms.get_initial_magnetic_moments(),
        **{name: getattr(grid, name) for name in GRID},
        'type_a': type_a,
        'atom_types': numbers,
    }
    attributes: dict[str, str | int | float] = {
        'level': json.dumps(level.to_dict()),
        'charge': charge,
        'geometry': geometry_hash(atoms),
        'atom_types': text,
    }
    return arrays, attributes


def read_state(content: hdf5.Content, arrays: Mapping[str, np.ndarray]) -> PAWDensity:
    """The density that a file of the given arrays holds.

    Raises
    ------
    ValueError
        They do not fit each other, or hold what cannot be.
    """
    atoms, grid, D_asii = outline(content, arrays)
    level, charge = read_level_and_charge(content)
    return PAWDensity(atoms, grid, arrays['nt_sR'], D_asii, level, charge, read_types(content))


def outline(content: hdf5.Content, arrays: Mapping[str, np.ndarray]) -> tuple[Atoms, Grid, list[np.ndarray]]:
    """Atoms, grid and matrices, (nspins, ni, ni) for each atom: what there is without ``nt_sR``.

    Raises
    ------
    ValueError
        As :func:`read_state`.
    """
    atoms = _atoms(arrays)
    grid = Grid(atoms.cell.array, *(arrays[name] for name in GRID))
    if 'geometry' in content.file.attrs or content.version > 1:  # not in a density of version 1
        check_geometry(atoms, content.text('geometry'))
    if len(arrays['ni_a']) != len(atoms):
        raise ValueError(f'{len(arrays["ni_a"])} density matrices do not belong to {len(atoms)} atoms')
    return atoms, grid, split_matrices(arrays['D_sI'], arrays['ni_a'])


def flat_matrices(D_asii: Sequence[np.ndarray], nspins: int) -> np.ndarray:
    """Matrices of atoms one after the other, (nspins, Σ ni²)."""
    flat = [D_sii.reshape(nspins, -1) for D_sii in D_asii]
    return np.concatenate(flat, axis=1) if flat else np.zeros((nspins, 0))


def split_matrices(D_sI: np.ndarray, ni_a: np.ndarray) -> list[np.ndarray]:
    """What :func:`flat_matrices` was given, of matrices of the sizes ``ni_a``.

    Raises
    ------
    ValueError
        They are of other sizes.
    """
    sizes = ni_a.tolist()
    ends = np.cumsum([ni**2 for ni in sizes])
    if min(sizes, default=0) < 0 or D_sI.shape[1] != sum(ni**2 for ni in sizes):
        raise ValueError(f'{D_sI.shape[1]} matrix elements do not make square matrices of the sizes {sizes}')
    blocks = np.split(D_sI, ends[:-1], axis=1)
    return [block.reshape(len(block), ni, ni) for block, ni in zip(blocks, sizes, strict=True)]


def read_types(content: hdf5.Content) -> list[AtomType] | None:
    """The type of each atom; None in a file that has none."""
    if content.version < SINCE['type_a']:
        return None
    types, type_a = unpacked(content.text('atom_types'), content.array('atom_types')), content.array('type_a')
    if not ((type_a >= 0) & (type_a < len(types))).all():
        raise ValueError(f'atoms have the types {type_a.tolist()}, of which there are {len(types)}')
    return [types[i] for i in type_a] or None


def read_level_and_charge(content: hdf5.Content) -> tuple[Level, float]:
    """The level of theory of a file, and the charge of its system; in files before version 3 the level had it."""
    dictionary, charge = without_charge(read_json(content.text('level')))
    return Level.from_dict(dictionary), content.number('charge') if content.version >= SINCE['type_a'] else charge


def _atoms(arrays: Mapping[str, np.ndarray]) -> Atoms:
    number_a, magmom_a = arrays['numbers'], arrays['magmoms']
    if not ((number_a > 0) & (number_a < len(chemical_symbols))).all():
        raise ValueError(f'its atomic numbers, {number_a.tolist()}, are not all those of elements')
    for name in 'positions', 'cell', 'magmoms':
        if not (abs(arrays[name]) < FARTHEST).all():  # NaN neither
            raise ValueError(f'its {name} are not all finite and below {FARTHEST:g}')
    return Atoms(
        numbers=number_a,
        positions=arrays['positions'],
        cell=arrays['cell'],
        pbc=arrays['pbc'],
        magmoms=magmom_a if magmom_a.any() else None,
    )


def check_electrons(density: PAWDensity) -> None:
    """Refuse a density that is not whole, whose electrons do not add up, or whose matrices do not belong to its atoms.

    ∫ ñ dr and the compensation charges must cancel but for the charge of the system, see :func:`.pseudo_electrons`.
    Where it has no atom types, and the datasets that its level names are not at hand either, or it names none, ∫ ñ dr
    must at least be positive.

    Raises
    ------
    ValueError
        The message says how many are missing.
    """
    if not density.grid.is_whole:
        raise ValueError('its pseudo density is given on a part of the grid only')
    integral = density.integral()
    if integral <= 0:
        raise ValueError(f'its pseudo density holds {integral:.6g} electrons')
    types = known_types(density)
    if types is None:
        return
    missing = pseudo_electrons(density.D_asii, types, density.charge) - integral
    valence = sum(atom_type.nvalence for atom_type in types)
    if not abs(missing) < MISSING * max(valence, 1):
        raise ValueError(f'its electrons do not add up: of {valence:g} valence electrons {missing:.6g} are missing')


def known_types(density: PAWDensity) -> Sequence[AtomType] | None:
    """The type of each atom: the density's, or that of its level's code if its datasets are those that the level names.

    None where they are not, or not known to be.
    """
    if density.atom_types is not None:
        return density.atom_types
    level = density.level
    try:
        types = code_of(level).atom_types(level, density.atoms.numbers)
    except Exception:  # whatever a code raises of parameters from a file
        return None
    return types if all(t.fingerprint == level.fingerprint(t.number) for t in types) else None
