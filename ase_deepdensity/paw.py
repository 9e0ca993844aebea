"""What a PAW dataset says of an element at a level of theory: all that a density needs of its atoms.

The dataset's formalism is that of doi:10.1103/PhysRevB.71.035109.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import isqrt, pi, sqrt
from typing import Any

import numpy as np
from ase.data import chemical_symbols
from ase.units import Bohr

from ase_deepdensity.basis import RadialTable

MAX_L = 4
"""Of projectors."""
MOST_PROJECTORS = 32
"""Of an element, counted without their 2l + 1 orientations."""
MOST_ELECTRONS = 1000
SAME = 1e-9
"""Relative and absolute: integrals of one dataset may differ so much between machines."""
FLOATS = 'nvalence', 'Delta0', 'core_charge', 'rcgauss'
SHELLS = 'l_j', 'n_j', 'f_j', 'eps_j'
ARRAYS = (*FLOATS, *SHELLS, 'Delta_iiL', 'D_ii', 'nt_step', 'nt_cutoff')
"""Names of the arrays of :meth:`AtomType.to_arrays` that there are always."""
TABLE, THINNED = 'nt_xp', 'nt_yk'
"""Names of those of which there is one: the table of ñ(r), or (2, nodes) what :meth:`.RadialTable.thinned` keeps of it,
where that is all of it."""
SAME_TABLE = 1e-13
"""Of the largest number in a table: so little is a matter of the order in which numbers are added."""
OPTIONAL = 'N0_ii'
"""Name of the one that there may be."""


@dataclass(frozen=True, eq=False)
class AtomType:
    """An element as a level of theory has it.

    Raises
    ------
    ValueError
        Values that do not fit each other, are not finite or have the wrong sign.
    """

    number: int
    """Atomic number."""
    nvalence: float
    """Valence electrons of the neutral atom."""
    l_j: tuple[int, ...]
    """Angular momenta of the projectors."""
    n_j: tuple[int, ...]
    """(nj,) principal quantum numbers of the partial waves; 0 for one that is no bound state."""
    f_j: tuple[float, ...]
    """(nj,) electrons in each bound state of the isolated atom; 0 for one that is no bound state."""
    eps_j: tuple[float, ...]
    """(nj,) eigenvalues of the isolated atom, eV; where there is no bound state, the energy of the partial wave."""
    Delta_iiL: np.ndarray
    """(ni, ni, nL) what density matrices add to the compensation charges, in atomic units as GPAW has it (bohr^l)."""
    Delta0: float
    """The compensation charge without a density matrix, as a coefficient of Y_00: electrons/√(4π)."""
    core_charge: float
    """Of a core hole, |e|: 0 for other datasets."""
    rcgauss: float | None
    """r_c of the compensation charges' shape, r^l exp(−r²/r_c²), Å; None: they have another."""
    nt: RadialTable
    """ñ(r) of the isolated, spin-paired and neutral atom, as superpositions of atoms have it, electrons/Å³."""
    D_ii: np.ndarray
    """(ni, ni) density matrix of the same atom."""
    fingerprint: str = ''
    """MD5 of the dataset's file; empty: there is none."""
    N0_ii: np.ndarray | None = None
    """(ni, ni) overlaps of the all-electron partial waves inside the augmentation sphere: what a density matrix holds
    there, in electrons.  None: not known, as in files from before there were spins."""

    def __post_init__(self) -> None:
        for name in 'Delta_iiL', 'D_ii', *([OPTIONAL] if self.N0_ii is not None else []):
            object.__setattr__(self, name, np.asarray(getattr(self, name), dtype=float))
        if not (type(self.number) is int and 0 < self.number < len(chemical_symbols)):
            raise ValueError(f'an atom type needs an atomic number, not {self.number!r}')
        if len(self.l_j) > MOST_PROJECTORS or not all(type(l) is int and 0 <= l <= MAX_L for l in self.l_j):
            raise ValueError(
                f'{self.symbol}: an element has at most {MOST_PROJECTORS} projectors with angular momenta of 0 to '
                f'{MAX_L}, not {self.l_j}'
            )
        self._check_shapes()
        self._check_values()

    def _check_shapes(self) -> None:
        nL = self.Delta_iiL.shape[2] if self.Delta_iiL.ndim == 3 else 0
        if self.Delta_iiL.shape != (self.ni, self.ni, nL) or nL == 0 or isqrt(nL) ** 2 != nL:
            raise ValueError(
                f'{self.symbol}: Delta_iiL must have the shape ({self.ni}, {self.ni}, 1, 4, 9 or 16 …), '
                f'not {self.Delta_iiL.shape}'
            )
        if self.D_ii.shape != (self.ni, self.ni):
            raise ValueError(f'{self.symbol}: D_ii must have the shape ({self.ni}, {self.ni}), not {self.D_ii.shape}')
        if self.N0_ii is not None and self.N0_ii.shape != (self.ni, self.ni):
            raise ValueError(f'{self.symbol}: N0_ii must have the shape ({self.ni}, {self.ni}), not {self.N0_ii.shape}')
        for name in SHELLS:
            if len(getattr(self, name)) != len(self.l_j):
                raise ValueError(f'{self.symbol}: {name} must have {len(self.l_j)} values, not {getattr(self, name)}')

    def _check_values(self) -> None:
        names = 'Delta0', 'core_charge', 'f_j', 'eps_j', 'Delta_iiL', 'D_ii'
        for name in names if self.N0_ii is None else (*names, OPTIONAL):
            if not np.isfinite(getattr(self, name)).all():
                raise ValueError(f'{self.symbol}: {name} must be finite, not {getattr(self, name)}')
        if not 0 <= self.nvalence <= MOST_ELECTRONS:
            raise ValueError(f'{self.symbol}: nvalence must be from 0 to {MOST_ELECTRONS}, not {self.nvalence!r}')
        if self.rcgauss is not None and not 0 < self.rcgauss < np.inf:
            raise ValueError(f'{self.symbol}: rcgauss must be positive, not {self.rcgauss!r}')

    def __repr__(self) -> str:
        return f'AtomType({self.symbol}, {self.nvalence:g} valence electrons, projectors of l = {self.l_j})'

    @property
    def symbol(self) -> str:
        """Of the element."""
        return chemical_symbols[self.number]

    @property
    def ni(self) -> int:
        """Projectors, their 2l + 1 orientations counted."""
        return sum(2 * l + 1 for l in self.l_j)

    def is_like(self, other: AtomType) -> bool:
        """Are both of the same element and dataset, whatever ñ they start from?"""
        same = (self.number, self.fingerprint, self.l_j) == (other.number, other.fingerprint, other.l_j)
        return same and all(
            np.allclose(mine, its, rtol=SAME, atol=SAME)
            for mine, its in ((self.Delta_iiL, other.Delta_iiL), (self.Delta0, other.Delta0))
        )

    def to_arrays(self) -> dict[str, np.ndarray]:
        """Everything but number and fingerprint as float64 arrays, for files: see :data:`ARRAYS`, :data:`OPTIONAL`.

        No shape of the compensation charges is ``rcgauss`` = 0.
        """
        arrays = {name: np.array(getattr(self, name) or 0.0, dtype=float) for name in FLOATS}
        arrays |= {name: np.array(getattr(self, name), dtype=float) for name in SHELLS}
        nt = {'nt_step': np.array(self.nt.x_step), 'nt_cutoff': np.array(self.nt.cutoff)} | self._table()
        known = {} if self.N0_ii is None else {OPTIONAL: self.N0_ii}
        return arrays | {'Delta_iiL': self.Delta_iiL, 'D_ii': self.D_ii} | known | nt

    def _table(self) -> dict[str, np.ndarray]:
        """The table of ñ(r); where it has been made of a thinned one, as from the files of a data set, the latter."""
        table_xp, nodes = self.nt.table_xp, self.nt.thinned()
        again_xp = RadialTable.from_nodes(self.nt.x_step, self.nt.cutoff, *nodes).table_xp
        if abs(again_xp - table_xp).max() <= SAME_TABLE * abs(table_xp).max():
            return {THINNED: np.array(nodes, dtype=float)}
        return {TABLE: table_xp}

    @classmethod
    def from_arrays(cls, number: int, arrays: Mapping[str, np.ndarray], fingerprint: str = '') -> AtomType:
        """What :meth:`to_arrays` has made.

        Raises
        ------
        ValueError
            Something else: names, shapes and values that do not fit.
        """
        if arrays.keys() - {OPTIONAL} not in ({*ARRAYS, TABLE}, {*ARRAYS, THINNED}):
            names = f'{", ".join(ARRAYS)} and {TABLE} or {THINNED}'
            raise ValueError(f'an atom type has the arrays {names}, not {", ".join(sorted(arrays))}')
        for name, array in arrays.items():
            naxes = {'Delta_iiL': 3, 'D_ii': 2, OPTIONAL: 2, TABLE: 2, THINNED: 2}.get(name, 1 if name in SHELLS else 0)
            if array.ndim != naxes or array.dtype != np.float64:
                raise ValueError(f'{name} of an atom type has {array.ndim} axes and the type {array.dtype}')
        step, cutoff = float(arrays['nt_step']), float(arrays['nt_cutoff'])
        if THINNED in arrays:
            nt = RadialTable.from_nodes(step, cutoff, *_pair(arrays[THINNED]))
        else:
            nt = RadialTable(step, cutoff, arrays[TABLE])
        values: dict[str, Any] = {name: float(arrays[name]) for name in FLOATS}
        values |= {name: _whole(arrays[name]) for name in ('l_j', 'n_j')}
        values |= {name: tuple(arrays[name].tolist()) for name in ('f_j', 'eps_j')}
        values |= {'rcgauss': values['rcgauss'] or None, 'nt': nt, OPTIONAL: arrays.get(OPTIONAL)}
        return cls(number, **values, Delta_iiL=arrays['Delta_iiL'], D_ii=arrays['D_ii'], fingerprint=fingerprint)


def _pair(nodes_yk: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    if len(nodes_yk) != 2 or not np.isfinite(nodes_yk).all():
        raise ValueError(f'{THINNED} needs finite values and slopes, not an array of the shape {nodes_yk.shape}')
    return nodes_yk[0], nodes_yk[1]


def _whole(array: np.ndarray) -> tuple[int, ...]:
    if not (array == array.round()).all() or not (abs(array) < 1000).all():
        raise ValueError(f'quantum numbers must be whole, not {array.tolist()}')
    return tuple(int(value) for value in array)


def compensation_charges(D_asii: Iterable[np.ndarray], atom_types: Iterable[AtomType]) -> list[np.ndarray]:
    """Coefficients of the compensation charges of each atom.

        Q^a_L = Σ_sij D^a_sij Δ^a_ijL + δ_L0 Δ0^a          (doi:10.1103/PhysRevB.71.035109, eq. 20)

    Parameters
    ----------
    D_asii
        For each atom (nspins, ni, ni).
    atom_types
        For each atom its type.

    Returns
    -------
    list
        For each atom (nL,), electrons · Å^l, L = 0, 1, 2 … in GPAW's order: 1; y, z, x; xy, yz, 3z²−r², zx, x²−y².
        √(4π) Q^a_0 is the charge of the atom's smooth nucleus, in electrons: negative where electrons are missing
        to neutralise.

    Raises
    ------
    ValueError
        A density matrix of another size than the atom's type has.
    """
    return [Q_sL.sum(axis=0) for Q_sL in spin_compensation_charges(D_asii, atom_types)]


def spin_compensation_charges(D_asii: Iterable[np.ndarray], atom_types: Iterable[AtomType]) -> list[np.ndarray]:
    """The same of each spin, (nspins, nL) for each atom; Δ0 is shared out equally."""
    Q_asL = []
    for a, (D_sii, atom_type) in enumerate(zip(D_asii, atom_types, strict=True)):
        Delta_iiL = atom_type.Delta_iiL
        if D_sii.shape[1:] != Delta_iiL.shape[:2]:
            raise ValueError(
                f'the density matrix of atom {a} ({atom_type.symbol}) has the shape {D_sii.shape[1:]}; '
                f'its dataset has {atom_type.ni} projectors'
            )
        Q_sL = np.einsum('sij, ijL -> sL', D_sii, Delta_iiL)
        Q_sL[:, 0] += atom_type.Delta0 / len(Q_sL)
        Q_asL.append(Q_sL * [Bohr ** isqrt(L) for L in range(Q_sL.shape[1])])
    return Q_asL


def total_compensation_charge(D_asii: Iterable[np.ndarray], atom_types: Iterable[AtomType]) -> float:
    """√(4π) Σ_a Q^a_00, electrons."""
    return sqrt(4 * pi) * float(sum(Q_L[0] for Q_L in compensation_charges(D_asii, atom_types)))


def pseudo_electrons(D_asii: Iterable[np.ndarray], atom_types: Sequence[AtomType], charge: float = 0.0) -> float:
    """What ∫ñ dr must be for the given density matrices and the total charge (|e|): GPAW's rule.

    ∫ñ dr = −(√(4π) Σ_a Q^a_00 + charge + charges of core holes)
    """
    holes = sum(atom_type.core_charge for atom_type in atom_types)
    return -(total_compensation_charge(D_asii, atom_types) + charge + holes)


def magnetic_moments(D_asii: Sequence[np.ndarray], atom_types: Sequence[AtomType]) -> np.ndarray:
    """(natoms,) magnetic moment inside the augmentation sphere of each atom, μB: GPAW's ``get_magnetic_moments()``.

        m_a = Σ_ij (D^a_↑ij − D^a_↓ij) ⟨φ_i|φ_j⟩ inside the sphere

    What lies between the spheres belongs to no atom, so that they do not add up to the moment of the cell.

    Parameters
    ----------
    D_asii
        For each atom (nspins, ni, ni); zeros come out of spin-paired ones.

    Raises
    ------
    ValueError
        An atom type that does not know the overlaps.
    """
    moment_a = np.zeros(len(D_asii))
    for a, (D_sii, atom_type) in enumerate(zip(D_asii, atom_types, strict=True)):
        if len(D_sii) == 1:
            continue
        if atom_type.N0_ii is None:
            raise ValueError(f'the moment of atom {a} needs overlaps of partial waves that its {atom_type} lacks')
        moment_a[a] = np.vdot(D_sii[0] - D_sii[1], atom_type.N0_ii)
    return moment_a


def pseudo_electrons_of_sums(matrices: Mapping[AtomType, tuple[int, np.ndarray]], charge: float = 0.0) -> float:
    """:func:`pseudo_electrons` of many atoms: for each type their number and the sum of their matrices (ni, ni).

    The matrices are those of both spins together.
    """
    total = charge
    for atom_type, (natoms, D_ii) in matrices.items():
        charges = np.vdot(D_ii, atom_type.Delta_iiL[:, :, 0]) + natoms * atom_type.Delta0
        total += sqrt(4 * pi) * float(charges) + natoms * atom_type.core_charge
    return -total
