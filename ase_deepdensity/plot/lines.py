"""Pictures of one-dimensional densities: lines instead of slices."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
from ase import Atoms
from ase.data.colors import jmol_colors

from ase_deepdensity.grid import Grid

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from ase_deepdensity.plot.figure import Picture


def line_axis(grid: Grid) -> int | None:
    """The axis of a grid whose points are all on one line, None for other grids."""
    long = [c for c, n in enumerate(grid.shape) if n > 1]
    return long[0] if len(long) == 1 else None


def plot_lines(
    n_R_by_label: Mapping[str, np.ndarray], grid: Grid, atoms: Atoms, difference: np.ndarray | None = None
) -> Picture:
    """Densities along the line of a grid, with dots for the atoms.

    Parameters
    ----------
    n_R_by_label
        Arrays of the grid's shape, electrons/Å³; labels other than '' are shown.
    difference
        Another array of that shape, electrons/Å³, for a panel of its own.
    """
    from ase_deepdensity.plot.figure import Picture

    figure = Picture(figsize=(8, 4 if difference is None else 5), layout='constrained')
    rows = [3] if difference is None else [3, 1]
    panels = np.atleast_1d(figure.subplots(len(rows), 1, sharex=True, height_ratios=rows))
    for i, (label, n_R) in enumerate(n_R_by_label.items()):
        _line(panels[0], n_R, grid, '--' if i else '-', label)
    panels[0].set_ylabel('electrons/Å³')
    if any(n_R_by_label):
        figure.legend(loc='outside upper center', ncols=len(n_R_by_label))
    if difference is not None:
        _line(panels[1], difference, grid, '-', '')
        panels[1].set_ylabel('difference')
    _dots(panels[0], grid, atoms)
    panels[-1].set_xlabel('Å')
    return figure


def _line(axes: Axes, n_R: np.ndarray, grid: Grid, style: str, label: str) -> None:
    """One density; a periodic line is closed by a copy of its first point."""
    c = line_axis(grid)
    if c is None or n_R.shape != grid.shape:
        raise ValueError(f'a line needs a grid with one long axis and values of its shape, not {grid.shape}')
    index_i = np.arange(grid.start_c[c], grid.stop_c[c] + int(grid.is_whole and not grid.zerobc_c[c]))
    n_i = np.resize(n_R.ravel(), len(index_i))
    axes.plot(index_i * np.linalg.norm(grid.step_cv[c]), n_i, style, label=label or None, linewidth=1.2)


def _dots(axes: Axes, grid: Grid, atoms: Atoms) -> None:
    """The atoms, where zero would be."""
    c = line_axis(grid)
    if len(atoms) == 0 or c is None:
        return
    length = float(np.linalg.norm(grid.cell_cv[c]))
    x_a = atoms.positions @ grid.cell_cv[c] / length
    x_a = x_a % length if grid.pbc_c[c] else x_a
    axes.scatter(x_a, np.zeros(len(x_a)), s=30, c=jmol_colors[atoms.numbers], edgecolors='black', zorder=3)
