"""The symmetries that GPAW sees in a cell and in its atoms.  Here they decide about grids."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import cache
from typing import Any

import numpy as np
from ase import Atoms
from ase.units import Bohr

TOLERANCE = 1e-7
"""GPAW's default, of metrics in bohr² and of positions in units of the lattice vectors."""
SAME_MOMENT = 1e-3
"""Magnetic moments that differ by less (μB) make no difference between atoms."""
MAX_DENOMINATOR = 50
"""Of the fractions of a lattice vector that a symmetry moves atoms by."""


@dataclass(frozen=True)
class Symmetries:
    """Operations s ↦ s·U + t on positions s in units of the lattice vectors."""

    rotation_scc: np.ndarray
    """(nsymmetries, 3, 3) U: rotations, reflections, inversions; whole numbers."""
    translation_sc: np.ndarray
    """(nsymmetries, 3) t."""

    def suit(self, size_c: np.ndarray) -> bool:
        """Does each operation map a grid of ``size_c`` intervals onto itself?"""
        shift_sc = self.translation_sc * size_c
        return bool(suits(size_c, self.rotation_scc).all() and np.allclose(shift_sc, shift_sc.round()))

    def denominators_c(self) -> np.ndarray:
        """(3,) least numbers of intervals that all translations are whole numbers of, along each axis."""
        lcm_c = [
            np.lcm.reduce([Fraction(float(t)).limit_denominator(MAX_DENOMINATOR).denominator for t in translation_s])
            for translation_s in self.translation_sc.T
        ]
        return np.array(lcm_c)


NO_SYMMETRIES = Symmetries(np.eye(3, dtype=int)[np.newaxis], np.zeros((1, 3)))
"""The identity alone."""


def suits(size_c: np.ndarray, rotation_scc: np.ndarray) -> np.ndarray:
    """(nrotations,) does the rotation map a grid of ``size_c`` intervals onto itself?"""
    ok_s: np.ndarray = (rotation_scc * size_c % size_c[:, np.newaxis] == 0).all(axis=(1, 2))
    return ok_s


def lattice_rotations(cell_cv: np.ndarray, pbc_c: np.ndarray, tolerance: float = TOLERANCE) -> np.ndarray:
    """(nrotations, 3, 3) rotations and reflections that map a lattice onto itself, in units of its vectors.

    Those with elements −1, 0 and 1 that keep the metric, Σ |U g Uᵀ − g| ≤ ``tolerance``, and do not mix periodic axes
    with others.

    Parameters
    ----------
    cell_cv
        (3, 3) lattice vectors as rows, Å.
    tolerance
        In bohr².
    """
    metric_cc = cell_cv @ cell_cv.T / Bohr**2
    row_rc = _rows()
    length_r = np.einsum('rc, cd, rd -> r', row_rc, metric_cc, row_rc)
    rows_c = [np.flatnonzero(np.abs(length_r - metric) <= tolerance) for metric in np.diag(metric_cc)]
    rotation_scc = row_rc[np.stack(np.meshgrid(*rows_c, indexing='ij'), axis=-1).reshape(-1, 3)]  # a handful
    rotation_scc = rotation_scc[np.abs(np.linalg.det(rotation_scc)).round() == 1]
    change_scc = np.einsum('sij, jk, slk -> sil', rotation_scc, metric_cc, rotation_scc, optimize=True) - metric_cc
    rotation_scc = rotation_scc[np.abs(change_scc).sum(axis=(1, 2)) <= tolerance]
    mixed_cc = np.not_equal.outer(pbc_c, pbc_c)
    return rotation_scc[~rotation_scc[:, mixed_cc].any(axis=1)]


@cache
def _rows() -> np.ndarray:
    """(27, 3) of −1, 0 and 1."""
    return np.moveaxis(np.indices((3,) * 3).reshape(3, -1), -1, 0) - 1


def symmetries_of(
    relpos_ac: np.ndarray,
    kind_a: Sequence[Hashable],
    rotation_scc: np.ndarray,
    *,
    tolerance: float = TOLERANCE,
    symmorphic: bool = True,
) -> Symmetries:
    """Those rotations of a lattice that map atoms onto atoms of the same kind.

    Parameters
    ----------
    relpos_ac
        (natoms, 3) positions in units of the lattice vectors.
    symmorphic
        Without translations.  With them each rotation that needs one counts, if the cell is primitive.
    """
    atoms_k = [np.flatnonzero([kind == k for kind in kind_a]) for k in dict.fromkeys(kind_a)]
    relpos_kac = sorted((relpos_ac[a_i] for a_i in atoms_k), key=len)
    first_ac = relpos_ac[atoms_k[0]]

    def maps(rotation_cc: np.ndarray, translation_c: np.ndarray) -> bool:
        return all(_maps(kind_ac @ rotation_cc + translation_c, kind_ac, tolerance) for kind_ac in relpos_kac)

    zero_c = np.zeros(3)
    if not symmorphic:
        symmorphic = any(maps(np.eye(3), shift_c) for shift_c in first_ac[0] - first_ac[1:])
    found = []
    for rotation_cc in rotation_scc:
        if maps(rotation_cc, zero_c):
            found.append((rotation_cc, zero_c))
        elif not symmorphic:
            shift_ac = first_ac[0] - first_ac @ rotation_cc
            shift_ac -= shift_ac.round()
            found += [(rotation_cc, shift_c) for shift_c in shift_ac if maps(rotation_cc, shift_c)]
    return Symmetries(np.array([rotation for rotation, _ in found]), np.array([shift for _, shift in found]))


def _maps(image_ac: np.ndarray, relpos_ac: np.ndarray, tolerance: float) -> bool:
    """Is each image one of the positions, up to lattice vectors?  One after the other: most symmetries fail at once."""
    for image_c in image_ac:
        difference_ac = image_c - relpos_ac
        difference_ac -= difference_ac.round()
        if not (np.abs(difference_ac).max(axis=1) < tolerance).any():
            return False
    return True


def atom_kinds(atoms: Atoms, parameters: Mapping[str, Any]) -> list[Hashable]:
    """What GPAW tells atoms apart by: element, type of dataset, basis, magnetic moment, and ``extra_ids``.

    Parameters
    ----------
    parameters
        GPAW's keywords.
    """
    symbols = atoms.get_chemical_symbols()
    type_a = per_atom(symbols, parameters.get('setups') or 'paw', 'paw')
    basis_a = per_atom(symbols, parameters.get('basis') or {}, None)
    symmetry = parameters.get('symmetry')
    extra_a = (symmetry.get('extra_ids') if isinstance(symmetry, dict) else None) or [0] * len(atoms)
    return list(zip(symbols, type_a, basis_a, _moment_kinds(atoms, parameters), extra_a, strict=True))


def per_atom(symbols: Sequence[str], types: Any, default: Any) -> list[Any]:
    """One item per atom of a keyword of GPAW's such as ``'dzp'`` or ``{'default': 'dzp', 'H': 'szp', 7: 'tzp'}``.

    The number of an atom counts before its element, and that before ``'default'``.
    """
    if not isinstance(types, dict):
        return [types] * len(symbols)
    usual = types.get('default', default)
    return [types.get(a, types.get(symbol, usual)) for a, symbol in enumerate(symbols)]


def _moment_kinds(atoms: Atoms, parameters: Mapping[str, Any]) -> list[int]:
    """For each atom the first one with the same initial magnetic moment."""
    moment_av = np.zeros((len(atoms), 3))
    given = parameters.get('magmoms')
    if not parameters.get('hund'):  # then atoms of one kind have one moment
        given = atoms.get_initial_magnetic_moments() if given is None else np.asarray(given, float)
        if np.ndim(given) == 2:
            moment_av[:] = given
        else:
            moment_av[:, 2] = given
    kind_a: list[int] = []
    for moment_v in moment_av:
        near_a = np.linalg.norm(moment_av[: len(kind_a) + 1] - moment_v, axis=1) < SAME_MOMENT
        kind_a.append(int(np.argmax(near_a)))
    return kind_a
