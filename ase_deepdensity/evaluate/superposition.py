"""The superposition of atoms: one spherical function per element, summed over atoms and their images."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, DTypeLike
from scipy.interpolate import CubicHermiteSpline, CubicSpline

from ase_deepdensity.arguments import real
from ase_deepdensity.basis import MAX_CUTOFF
from ase_deepdensity.evaluate import sums
from ase_deepdensity.evaluate.collocation import block, frame, index
from ase_deepdensity.grid import Grid


@dataclass(frozen=True, eq=False)
class RadialTable:
    """A spherical function, piecewise cubic in r².

    Parameters
    ----------
    x_step
        Width of an interval in r², Å².
    cutoff
        Where the function ends, Å.
    table_xp
        (intervals, 4) polynomial coefficients of t = r²/x_step − interval, highest power first, electrons/Å³.

    Raises
    ------
    ValueError
        Intervals that do not end at the cutoff, or numbers that are not positive or not finite where they must be.
    """

    x_step: float
    cutoff: float
    table_xp: np.ndarray

    def __post_init__(self) -> None:
        step = real('x_step of a radial table', self.x_step, above=0, unit='Å²')
        cutoff = real('the cutoff of a radial table', self.cutoff, above=0, most=MAX_CUTOFF, unit='Å')
        table_xp = self.table_xp
        if table_xp.ndim != 2 or table_xp.shape[1] != 4 or not np.isfinite(table_xp).all():
            raise ValueError(f'a radial table needs four finite numbers for each interval, not {table_xp.shape}')
        if abs(len(table_xp) * step - cutoff**2) > 1e-6 * cutoff**2:
            raise ValueError(
                f'{len(table_xp)} intervals of {step!r} Å² in a radial table end at {(len(table_xp) * step) ** 0.5} Å, '
                f'not at its cutoff, {cutoff!r} Å'
            )

    @classmethod
    def fit(cls, r_g: ArrayLike, n_g: ArrayLike, intervals: int = 1024) -> RadialTable:
        """From samples of a smooth function of r (Å) with zero slope at r=0; it ends at the last of them.

        Value and slope are continuous, and go to zero at the end: what the samples may lack there is made up for
        within the last interval.

        Raises
        ------
        ValueError
            Fewer than four samples, distances that do not rise from 0, or numbers that are not finite.
        """
        r_g, n_g = np.asarray(r_g, float), np.asarray(n_g, float)
        if len(r_g) < 4 or r_g[0] != 0 or (np.diff(r_g) <= 0).any() or not (np.isfinite(r_g) & np.isfinite(n_g)).all():
            raise ValueError(f'a table needs at least four finite samples at distances rising from 0, not {r_g}, {n_g}')
        function = CubicSpline(r_g, n_g, bc_type=((1, 0.0), 'not-a-knot'))
        cutoff = float(r_g[-1])
        x_x = np.linspace(0, cutoff**2, intervals + 1)
        r_x = np.sqrt(x_x[1:-1])
        value_x = np.array([n_g[0], *function(r_x), 0.0])
        slope_x = np.array([function(0.0, 2) / 2, *function(r_x, 1) / (2 * r_x), 0.0])  # df/d(r²) = f'(r) / 2r
        x_step = float(x_x[1])
        table_xp = CubicHermiteSpline(x_x, value_x, slope_x).c.T * x_step ** np.arange(3, -1, -1)
        return cls(x_step, cutoff, np.ascontiguousarray(table_xp))

    def __call__(self, r: ArrayLike) -> np.ndarray:
        """The function at distances r, Å."""
        x = np.asarray(r, float) ** 2 / self.x_step
        i = np.minimum(x.astype(int), len(self.table_xp) - 1)
        p = self.table_xp[i]
        t = x - i
        value = ((p[..., 0] * t + p[..., 1]) * t + p[..., 2]) * t + p[..., 3]
        return np.where(np.asarray(r) < self.cutoff, value, 0.0)


def superpose(
    grid: Grid,
    positions_av: np.ndarray,
    numbers_a: np.ndarray,
    tables: Mapping[int, RadialTable],
    dtype: DTypeLike = np.float64,
) -> np.ndarray:
    """Σ_a n_Z(a)(|r − R_a|) on the grid, images included: (n0, n1, n2), in the unit of the tables.

    Parameters
    ----------
    positions_av, numbers_a
        (natoms, 3) Å, and (natoms,) atomic numbers.
    tables
        By atomic number.
    """
    n_R = np.zeros(grid.shape, dtype)
    for number, s_ac, table, arguments in _of_each_element(grid, positions_av, numbers_a, tables):
        sums.add_radial(n_R, table.table_xp, table.x_step, table.cutoff, s_ac[numbers_a == number], *arguments)
    return n_R


def superposition_gradient(
    v_R: np.ndarray, grid: Grid, positions_av: np.ndarray, numbers_a: np.ndarray, tables: Mapping[int, RadialTable]
) -> np.ndarray:
    """Derivatives of Σ_R v_R n_R with respect to the positions, n the superposition of atoms: (natoms, 3), per Å.

    ``v_R``: (n0, n1, n2) on the grid; the other arguments are those of :func:`superpose`.
    """
    gradient_av = np.zeros((len(positions_av), 3))
    for number, s_ac, table, arguments in _of_each_element(grid, positions_av, numbers_a, tables):
        chosen_a = numbers_a == number
        gradient_av[chosen_a] = sums.radial_gradients(
            v_R, table.table_xp, table.x_step, table.cutoff, s_ac[chosen_a], *arguments
        )
    return gradient_av @ frame(grid)


def _of_each_element(
    grid: Grid, positions_av: np.ndarray, numbers_a: np.ndarray, tables: Mapping[int, RadialTable]
) -> Iterator[tuple[int, np.ndarray, RadialTable, tuple[Any, ...]]]:
    """Atomic number, all fractional indices, table, and what the sums are told of grid and threads."""
    s_ac = index(grid, positions_av)
    arguments = block(grid), torch.get_num_threads()
    for number in np.unique(numbers_a):
        yield number, s_ac, tables[int(number)], arguments
