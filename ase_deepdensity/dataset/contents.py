"""A PAW density as named arrays, and what must hold for it to be one."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from math import pi, sqrt
from typing import Any

import numpy as np
from ase import Atoms
from ase.data import chemical_symbols

from ase_deepdensity.grid import Grid
from ase_deepdensity.level import Level
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
}
"""name: kind of number as NumPy has it, number of axes; see :mod:`.files`."""
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


def state_arrays(density: PAWDensity) -> dict[str, np.ndarray]:
    """ñ, D, atoms and grid: the arrays of :data:`STATE`."""
    atoms, grid = density.atoms, density.grid
    flat = [D_sii.reshape(density.nspins, -1) for D_sii in density.D_asii]
    return {
        'nt_sR': density.nt_sR,
        'D_sI': np.concatenate(flat, axis=1) if flat else np.zeros((density.nspins, 0)),
        'ni_a': np.array([D_sii.shape[1] for D_sii in density.D_asii], dtype=int),
        'numbers': atoms.numbers,
        'positions': atoms.positions,
        'cell': atoms.cell.array,
        'pbc': atoms.pbc,
        'magmoms': atoms.get_initial_magnetic_moments(),
        **{name: getattr(grid, name) for name in GRID},
    }


def state(arrays: Mapping[str, np.ndarray], level: Level) -> PAWDensity:
    """The density that such arrays make.

    Raises
    ------
    ValueError
        They do not fit each other, or hold what cannot be.
    """
    atoms, grid, D_asii = outline(arrays)
    return PAWDensity(atoms, grid, arrays['nt_sR'], D_asii, level)


def outline(arrays: Mapping[str, np.ndarray]) -> tuple[Atoms, Grid, list[np.ndarray]]:
    """Atoms, grid and matrices, (nspins, ni, ni) for each atom: what there is without ``nt_sR``.

    Raises
    ------
    ValueError
        As :func:`state`.
    """
    atoms = _atoms(arrays)
    grid = Grid(atoms.cell.array, *(arrays[name] for name in GRID))
    D_sI, ni_a = arrays['D_sI'], arrays['ni_a'].tolist()
    if len(ni_a) != len(atoms):
        raise ValueError(f'{len(ni_a)} density matrices do not belong to {len(atoms)} atoms')
    ends = np.cumsum([ni**2 for ni in ni_a])
    if min(ni_a, default=0) < 0 or D_sI.shape[1] != sum(ni**2 for ni in ni_a):
        raise ValueError(f'{D_sI.shape[1]} matrix elements do not make square matrices of the sizes {ni_a}')
    blocks = np.split(D_sI, ends[:-1], axis=1)
    return atoms, grid, [block.reshape(len(block), ni, ni) for block, ni in zip(blocks, ni_a, strict=True)]


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

    ∫ ñ dr and the compensation charges must cancel but for the charge of the system, see
    :meth:`.PAWDensity.normalized`.  Where the datasets that its level names are not at hand, or it names none, ∫ ñ dr
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
    charges = _missing_electrons(density)
    if charges is None:
        return
    missing, valence = charges
    if not abs(missing) < MISSING * max(valence, 1):
        raise ValueError(f'its electrons do not add up: of {valence:g} valence electrons {missing:.6g} are missing')


def _missing_electrons(density: PAWDensity) -> tuple[float, float] | None:
    """Electrons that are missing, and all valence electrons; None where the level's datasets are not at hand."""
    setups_z = {int(Z): _setups(density.level, int(Z)) for Z in np.unique(density.atoms.numbers)}
    electrons, valence = density.integral() + density.level.charge, 0.0
    for a, (Z, D_sii) in enumerate(zip(density.atoms.numbers.tolist(), density.D_asii, strict=True)):
        setups = setups_z[Z]
        if setups is None:
            return None
        Delta_ii = setups[0].Delta_iiL[:, :, 0]
        if D_sii.shape[1:] != Delta_ii.shape:
            raise ValueError(
                f'the density matrix of atom {a} ({density.atoms.symbols[a]}) has the shape {D_sii.shape[1:]}; '
                f'its dataset has {len(Delta_ii)} projectors'
            )
        Q = np.einsum('sij, ij ->', D_sii, Delta_ii) + setups[0].Delta0
        electrons += sqrt(4 * pi) * Q + setups.core_charge
        valence += setups.nvalence
    return -electrons, valence


def _setups(level: Level, Z: int) -> Any:
    """The dataset of an element, None if it is not at hand or not known to be the same as then."""
    datasets = level.parameters.get('setups')
    if isinstance(datasets, dict) and any(key.isdigit() for key in datasets):
        return None  # atoms have datasets of their own
    try:
        setups = level.setups([Z])
    except Exception:  # whatever GPAW raises
        return None
    known = level.versions.get('datasets', {}).get(chemical_symbols[Z])
    return setups if known == getattr(setups[0], 'fingerprint', None) else None
