"""The level of theory of one-dimensional chains: the parameters of :mod:`.reference.ks1d`.

A chain lies along z in a tube.  The two other axes of its grid have zero boundaries and a single point between them,
which stands for an area of 1 Å²: a density in electrons/Å³ has the values of one in electrons/Å, and everything that
works with grids works.  There is nothing inside the atoms that a grid would not show: their density matrices are empty,
and the charge of the ion is what elsewhere is the compensation charge.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import pi, sqrt
from typing import Any, ClassVar, NoReturn, Self

import numpy as np
from ase import Atoms
from ase.data import chemical_symbols
from ase.units import Bohr, Hartree
from numpy.typing import ArrayLike
from scipy.fft import next_fast_len

from ase_deepdensity.grid import Grid, check_size
from ase_deepdensity.level import Level, LevelError

TUBE = 2.0
"""Width of a chain's cell across z, Å."""

DEFAULTS: dict[str, Any] = {
    'atoms': {'He': {'charge': 2, 'width': 2.0}, 'Be': {'charge': 2, 'width': 6.0}},
    'ecut': 160.0,
    'temperature': 100.0,
    'epsilon': 10.0,
    'kappa': 0.01,
}
"""What the model is made of (see :class:`Level1D`)."""
NUMERICAL = {'convergence': 1e-8, 'maxiter': 200}
"""How it is driven to self-consistency: largest ∫|n_out − n_in| per electron, and iterations."""
VERSION = 1
"""Raised when :mod:`.reference.ks1d` gives other densities at the same parameters."""


@dataclass(frozen=True)
class Ion:
    """What the rest of the house asks of an atom; ``Delta…`` as GPAW's datasets have them, for no projectors."""

    symbol: str
    """Of the element."""
    nvalence: int
    """Charge of the ion, and electrons that neutralise it."""
    width: float
    """σ of the Gaussian charge, bohr."""
    l_j: tuple[int, ...] = ()
    """Angular momenta of the projectors: none."""

    @property
    def Delta_iiL(self) -> np.ndarray:
        """(0, 0, 1): no projectors."""
        return np.zeros((0, 0, 1))

    @property
    def Delta0(self) -> float:
        """−Z/√(4π): the compensation charge, electrons."""
        return -self.nvalence / sqrt(4 * pi)


class Ions(tuple[Ion, ...]):
    """The ions of all atoms."""

    core_charge = 0.0

    @property
    def nvalence(self) -> int:
        """Electrons of all atoms."""
        return sum(ion.nvalence for ion in self)


class Level1D(Level):
    """One-dimensional Kohn–Sham without exchange and correlation.

    Parameters, with their defaults in :data:`DEFAULTS`: ``ecut`` of the plane waves (eV), ``temperature`` of the
    electrons (K), and in atomic units, as the model is written: ``kappa`` (bohr⁻¹) and ``epsilon`` of the interaction,
    and for each element the ``charge`` and the ``width`` (bohr) of its Gaussian ion.  Narrow ions (He) bind their two
    electrons and make an insulator, wide ones (Be) a metal.

    Raises
    ------
    LevelError
        Unknown parameters, or values that are not positive.
    """

    code: ClassVar[str] = 'ks1d'

    def __post_init__(self) -> None:
        if unknown := sorted(self.parameters.keys() - {'mode', *DEFAULTS, *NUMERICAL}):
            raise LevelError(
                f'ks1d has no parameter {", ".join(map(repr, unknown))}; allowed are {", ".join(DEFAULTS | NUMERICAL)}'
            )
        for name, value in self.parameters.items():
            if name not in ('mode', 'atoms') and not (isinstance(value, int | float) and value > 0):
                raise LevelError(f'ks1d: {name} must be a positive number, not {value!r}')
        for symbol, ion in self.parameter('atoms').items():
            if symbol not in chemical_symbols or ion.keys() != {'charge', 'width'} or min(ion.values()) <= 0:
                raise LevelError(f'ks1d: an element needs a positive charge and width, not {symbol}: {ion}')

    def parameter(self, name: str) -> Any:
        """The value of a parameter, or its default."""
        return (DEFAULTS | NUMERICAL | self.parameters)[name]

    def _canonical(self) -> dict[str, Any]:
        return {'mode': 'ks1d'} | {name: self.parameter(name) for name in DEFAULTS}

    def check(self, numbers: ArrayLike) -> Self:
        return self.with_versions(numbers)

    @property
    def shares_ranks(self) -> bool:
        return False

    def gpaw_parameters(self, **changes: Any) -> NoReturn:
        raise LevelError('this needs GPAW, but the density is one of a one-dimensional model')

    def setups(self, numbers: ArrayLike) -> Ions:  # type: ignore[override]
        atoms = self.parameter('atoms')
        symbols = [chemical_symbols[int(number)] for number in np.asarray(numbers)]
        if unknown := sorted(set(symbols) - atoms.keys()):
            raise LevelError(f'ks1d: no ions for {", ".join(unknown)}; there are {", ".join(atoms)}')
        return Ions(Ion(symbol, atoms[symbol]['charge'], atoms[symbol]['width']) for symbol in symbols)

    def with_versions(self, numbers: ArrayLike) -> Self:
        self.setups(np.unique(np.asarray(numbers, int)))
        return type(self)(self.parameters, self.name, {'ks1d': VERSION})

    def waves(self, length: float) -> int:
        """Number m of plane waves in a cell of ``length`` (bohr) is 2m + 1: |G| ≤ √(2 ecut)."""
        return int(sqrt(2 * self.parameter('ecut') / Hartree) * length / (2 * pi))

    def grid(self, atoms: Atoms, *, gpts: ArrayLike | None = None, h: float | None = None) -> Grid:
        """By default the coarsest grid that holds every density of these plane waves exactly.

        ``gpts``: three numbers of intervals, the first two of which are 2.

        Raises
        ------
        LevelError
            Atoms that are no chain along z.
        ValueError
            Values that are no grid.
        """
        check_chain(atoms)
        length = float(atoms.cell[2, 2])
        gpts, h = check_size(gpts, h, length)
        if gpts is not None:
            size_c: Sequence[int] = gpts
            if list(size_c[:2]) != [2, 2]:
                raise LevelError(f'the grid of a chain has 2 intervals (one point) across z, not {list(size_c)}')
        else:
            size_c = (2, 2, next_fast_len(int(np.ceil(length / h)) if h else 4 * self.waves(length / Bohr) + 2, True))
        return Grid(atoms.cell.array, np.array(size_c), atoms.pbc)


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
