"""What the levels of theory of one-dimensional chains mean: the parameters of :mod:`.codes.ks1d.solver`.

    ecut         eV, of the plane waves
    temperature  K, of the electrons
    kappa        bohr⁻¹, of the interaction, and epsilon, its dielectric constant
    atoms        for each element the charge and the width (bohr) of its Gaussian ion

Narrow ions (He) bind their two electrons and make an insulator, wide ones (Be) a metal.

A chain lies along z in a tube.  The two other axes of its grid have zero boundaries and a single point between them,
which stands for an area of 1 Å²: a density in electrons/Å³ has the values of one in electrons/Å, and everything that
works with grids works.  There is nothing inside the atoms that a grid would not show: their density matrices are empty,
and the charge of the ion is what elsewhere is the compensation charge.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache
from math import pi, sqrt
from typing import Any

import numpy as np
from ase import Atoms
from ase.data import chemical_symbols
from ase.units import Bohr, Hartree
from numpy.typing import ArrayLike
from scipy.fft import next_fast_len

from ase_deepdensity.basis import RadialTable
from ase_deepdensity.grid import Grid, check_size
from ase_deepdensity.level import Level, LevelError
from ase_deepdensity.paw import AtomType
from ase_deepdensity.spelling import KS1D_NUMERICAL, KS1D_PHYSICAL

TUBE = 2.0
"""Width of a chain's cell across z, Å."""
VERSION = 1
"""Raised when :mod:`.codes.ks1d.solver` gives other densities at the same parameters."""
REACH = 7.0
"""Where the density of an isolated atom ends, in widths of its ion."""


def parameter(level: Level, name: str) -> Any:
    """The value of a parameter, or its default.

    Raises
    ------
    LevelError
        A level of another code.
    """
    if level.code != 'ks1d':
        raise LevelError(f'the {level.label} is one of {level.code}, not one-dimensional')
    return (KS1D_PHYSICAL | KS1D_NUMERICAL | level.parameters)[name]


def check(level: Level, numbers: ArrayLike) -> Level:
    """See :meth:`.Code.check`."""
    ions(level, np.unique(np.asarray(numbers, int)))
    return replace(level, versions={'ks1d': VERSION})


def shares_ranks(level: Level) -> bool:
    """See :meth:`.Code.shares_ranks`: one rank does all of it."""
    return False


def ions(level: Level, numbers: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    """Charges (natoms,) in electrons and widths (natoms,) in bohr of the ions of atoms with these numbers."""
    known = parameter(level, 'atoms')
    symbols = [chemical_symbols[int(number)] for number in np.asarray(numbers)]
    if unknown := sorted(set(symbols) - known.keys()):
        raise LevelError(f'ks1d: no ions for {", ".join(unknown)}; there are {", ".join(known)}')
    charges, widths = ([known[symbol][name] for symbol in symbols] for name in ('charge', 'width'))
    return np.array(charges, float), np.array(widths, float)


def atom_types(level: Level, numbers: ArrayLike) -> list[AtomType]:
    """See :meth:`.Code.atom_types`.  An atom has no projectors; ñ of an isolated one is a Gaussian that neutralises its
    ion, which is what :func:`.codes.ks1d.solver.solve` starts from."""
    charge_a, width_a = ions(level, numbers)
    number_a = np.asarray(numbers).tolist()
    return [_atom_type(*values) for values in zip(number_a, charge_a.tolist(), width_a.tolist(), strict=True)]


@lru_cache(maxsize=64)
def _atom_type(number: int, charge: float, width: float) -> AtomType:
    sigma = width * Bohr
    r_g = np.linspace(0, REACH * sigma, 1001)
    n_g = charge * np.exp(-0.5 * (r_g / sigma) ** 2) / sqrt(2 * pi) / sigma
    return AtomType(
        number=number,
        nvalence=charge,
        l_j=(),
        n_j=(),
        f_j=(),
        eps_j=(),
        Delta_iiL=np.zeros((0, 0, 1)),
        Delta0=-charge / sqrt(4 * pi),
        core_charge=0.0,
        rcgauss=sqrt(2) * sigma,
        nt=RadialTable.fit(r_g, n_g),
        D_ii=np.zeros((0, 0)),
    )


def waves(level: Level, length: float) -> int:
    """Number m of plane waves in a cell of ``length`` (bohr) is 2m + 1: |G| ≤ √(2 ecut)."""
    return int(sqrt(2 * parameter(level, 'ecut') / Hartree) * length / (2 * pi))


def grid(level: Level, atoms: Atoms, *, gpts: ArrayLike | None = None, h: float | None = None) -> Grid:
    """See :meth:`.Code.grid`.  By default the coarsest grid that holds every density of these plane waves exactly.

    ``gpts``: three numbers of intervals, the first two of which are 2.
    """
    check_chain(atoms)
    length = float(atoms.cell[2, 2])
    gpts, h = check_size(gpts, h, length)
    if gpts is not None:
        size_c: Sequence[int] = gpts
        if list(size_c[:2]) != [2, 2]:
            raise LevelError(f'the grid of a chain has 2 intervals (one point) across z, not {list(size_c)}')
    else:
        size = int(np.ceil(length / h)) if h else 4 * waves(level, length / Bohr) + 2
        size_c = (2, 2, next_fast_len(size, True))
    return Grid(atoms.cell.array, np.array(size_c), atoms.pbc)


def kpoints(level: Level, atoms: Atoms) -> np.ndarray:
    """See :meth:`.Code.kpoints`: chains have none but the origin."""
    return np.zeros((1, 3))


def check_chain(atoms: Atoms) -> None:
    """Refuse atoms that are not a chain along z in the middle of its tube."""
    cell_cv = np.diag([TUBE, TUBE, atoms.cell[2, 2]])
    if (
        not np.allclose(atoms.cell.array, cell_cv, atol=1e-6)
        or atoms.pbc.tolist() != [False, False, True]
        or not np.allclose(atoms.positions[:, :2], TUBE / 2, atol=1e-6)
    ):
        raise LevelError(
            f'a chain lies at x = y = {TUBE / 2} Å in a cell of {TUBE} × {TUBE} Å × its length that is periodic along '
            f'z only, not in {atoms.cell.array.tolist()} with pbc {atoms.pbc.tolist()}: '
            'make it with "deepdensity sample chain"'
        )
