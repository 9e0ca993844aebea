"""What makes the content of a model file of one version that of the next, so that all can still be read."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from ase.data import chemical_symbols

from ase_deepdensity.basis import RadialTable
from ase_deepdensity.codes import code_of
from ase_deepdensity.level import Level, LevelError, without_charge
from ase_deepdensity.model_files import ModelError
from ase_deepdensity.model_packing import rounded
from ase_deepdensity.paw import OPTIONAL, THINNED, AtomType

Content = tuple[dict[str, Any], dict[str, np.ndarray]]
"""Header and arrays."""
Upgrade = Callable[[dict[str, Any], dict[str, np.ndarray]], Content]


def _sealed(header: dict[str, Any], arrays: dict[str, np.ndarray]) -> Content:
    """Version 3 has a checksum beside the same content."""
    return header, arrays


def _with_atom_types(header: dict[str, Any], arrays: dict[str, np.ndarray]) -> Content:
    """Version 4 has atom types instead of the superposition of atoms and of the projectors, and a charge of its own.

    Raises
    ------
    ModelError
        The atom types cannot be had: the level's code is not installed, or has other datasets.
    """
    header = dict(header)
    header['level'], header['charge'] = without_charge(header['level'])
    tables = header.pop('superposition')
    architecture = dict(header['architecture'])
    projectors = architecture.pop('projectors')
    species = architecture['species']
    if not species or not all(type(Z) is int and 0 < Z < len(chemical_symbols) for Z in species):
        raise ValueError(f'the species of a model must be atomic numbers, not {species}')
    if tables.keys() != {str(Z) for Z in species}:
        raise ValueError(f'tables of the elements {list(tables)}, not {species}')
    kept = {name: array for name, array in arrays.items() if not name.startswith('superposition.')}
    if len(arrays) != len(kept) + len(species):
        raise ValueError(f'{len(arrays) - len(kept)} tables for {len(species)} species')
    for atom_type, l_j in zip(_same_types(Level.from_dict(header['level']), species), projectors, strict=True):
        name = str(atom_type.number)
        if list(atom_type.l_j) != list(l_j):
            raise ValueError(f'its projectors of {atom_type.symbol}, {l_j}, are not those of the dataset')
        step, cutoff = tables[name]
        nt = RadialTable(step, cutoff, arrays[f'superposition.{name}'].astype(float))
        upgraded = replace(atom_type, nt=nt, N0_ii=None).to_arrays()
        kept |= {f'atom_types.{name}.{key}': array for key, array in upgraded.items()}
    return header | {'architecture': architecture}, kept


def _same_types(level: Level, species: Sequence[int]) -> list[AtomType]:
    """From the level's code, if it has the datasets that the model was made with."""
    symbols = ' '.join(chemical_symbols[number] for number in species)
    try:
        atom_types = code_of(level).atom_types(level, species)
    except (ImportError, LevelError) as error:
        raise ModelError(
            f'a model file from before version 4 does not hold the PAW datasets of {symbols}, which {level.code} must '
            f'supply once: {error}.  Where that works, DensityModel.load(FILE).save(FILE) makes a file of this version'
        ) from None
    others = [t.symbol for t in atom_types if t.fingerprint != level.fingerprint(t.number)]
    if others:
        raise ModelError(
            f'a model file from before version 4 does not hold the PAW datasets of {symbols}, and those of '
            f'{" ".join(others)} that are installed are not those that it was made with ({level.versions}): install '
            'these, or use a file of this version'
        )
    return atom_types


def _with_overlaps(header: dict[str, Any], arrays: dict[str, np.ndarray]) -> Content:
    """Atom types of version 5 may hold overlaps of partial waves; those of earlier files do not know them."""
    if strange := [name for name in arrays if name.startswith('atom_types.') and name.endswith(f'.{OPTIONAL}')]:
        raise ValueError(f'arrays that there were not yet: {", ".join(strange)}')
    return header, arrays


def _with_error_bars(header: dict[str, Any], arrays: dict[str, np.ndarray]) -> Content:
    """Models of version 6 may hold error bars; earlier files do not know them."""
    if strange := [name for name in arrays if name.startswith('error_bars.')]:
        raise ValueError(f'arrays that there were not yet: {", ".join(strange)}')
    return header, arrays


def _thinned(header: dict[str, Any], arrays: dict[str, np.ndarray]) -> Content:
    """Tables of version 7 may be thinned, and some matrices are rounded."""
    if strange := [name for name in arrays if name.startswith('atom_types.') and name.endswith(f'.{THINNED}')]:
        raise ValueError(f'arrays that there were not yet: {", ".join(strange)}')
    return header, rounded(arrays)


UPGRADES: dict[int, Upgrade] = {2: _sealed, 3: _with_atom_types, 4: _with_overlaps, 5: _with_error_bars, 6: _thinned}
"""version → what makes a file of that version one of the next."""
