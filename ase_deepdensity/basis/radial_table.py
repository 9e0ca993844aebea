"""A spherical function of the distance from an atom, as a table."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy.interpolate import CubicHermiteSpline, CubicSpline

from ase_deepdensity.arguments import real, whole
from ase_deepdensity.basis.splines import MAX_CUTOFF

SPACING = 0.01
"""Å, of the nodes of a thinned table."""
MOST_INTERVALS = 2**16


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

    def thinned(self) -> tuple[np.ndarray, np.ndarray]:
        """Value (electrons/Å³) and slope (electrons/Å⁵) in r² at some ends of intervals, in single precision.

        These are the first, the last, and about one every :data:`SPACING` in between, or all where they are wider;
        at the last one both are 0.  The table that :meth:`from_nodes` makes of them differs by 1e-6 of the largest
        value and 1e-7 electrons; it is thinned to the same numbers again.
        """
        node_k = _nodes(len(self.table_xp), self.cutoff)
        slope, value = self.table_xp[node_k[:-1], 2:].T
        value_k, slope_k = (np.append(x, 0.0).astype(np.float32) for x in (value, slope / self.x_step))
        return value_k, slope_k

    @classmethod
    def from_nodes(cls, x_step: float, cutoff: float, value_k: np.ndarray, slope_k: np.ndarray) -> RadialTable:
        """From what :meth:`thinned` has made.

        Raises
        ------
        ValueError
            Another number of nodes than a table of such intervals has.
        """
        intervals = _intervals(x_step, cutoff)
        node_k = _nodes(intervals, cutoff)
        if not value_k.shape == slope_k.shape == node_k.shape:
            raise ValueError(
                f'a table of {intervals} intervals up to {cutoff} Å has {len(node_k)} nodes, not '
                f'{value_k.shape} values and {slope_k.shape} slopes'
            )
        x_x = np.arange(intervals + 1) * x_step
        through = CubicHermiteSpline(x_x[node_k], value_k, slope_k)
        fine = CubicHermiteSpline(x_x, through(x_x), through(x_x, 1))
        return cls(x_step, cutoff, np.ascontiguousarray(fine.c.T * x_step ** np.arange(3, -1, -1)))

    def __call__(self, r: ArrayLike) -> np.ndarray:
        """The function at distances r, Å."""
        x = np.asarray(r, float) ** 2 / self.x_step
        i = np.minimum(x.astype(int), len(self.table_xp) - 1)
        p = self.table_xp[i]
        t = x - i
        value = ((p[..., 0] * t + p[..., 1]) * t + p[..., 2]) * t + p[..., 3]
        return np.where(np.asarray(r) < self.cutoff, value, 0.0)


def _intervals(x_step: float, cutoff: float) -> int:
    """How many intervals a table has that a file tells of.

    Raises
    ------
    ValueError
        Numbers that are not positive, or more intervals than :data:`MOST_INTERVALS`.
    """
    step = real('nt_step of an atom type', x_step, above=0)
    end = real('nt_cutoff of an atom type', cutoff, above=0)
    return whole('intervals of an atom type', round(min(end**2 / step, 1e9)), least=1, most=MOST_INTERVALS)


def nodes_of(x_step: float, cutoff: float) -> int:
    """How many nodes the thinned table has."""
    return len(_nodes(_intervals(x_step, cutoff), cutoff))


def _nodes(intervals: int, cutoff: float) -> np.ndarray:
    wanted = np.append((np.arange(0, cutoff, SPACING) / cutoff) ** 2, 1.0) * intervals
    return np.unique(wanted.round().astype(int))
