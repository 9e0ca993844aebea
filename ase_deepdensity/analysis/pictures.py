"""Pictures of a density: a slice through the cell, and a prediction beside its reference."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from ase import Atoms
from ase.data import covalent_radii
from ase.data.colors import jmol_colors

from ase_deepdensity.analysis.lines import line_axis, plot_lines
from ase_deepdensity.grid import Grid
from ase_deepdensity.state import PAWDensity

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

DECADES = 4
"""The colour scale of a density spans this many powers of ten."""


def plot_slice(
    density: PAWDensity | np.ndarray,
    *,
    grid: Grid | None = None,
    atoms: Atoms | None = None,
    axis: int = 2,
    position: float = 0.5,
    reach: float = 1.0,
) -> Figure:
    """A plane of points of a density, with the atoms near it; a line where the grid is one.

    Parameters
    ----------
    density
        A state, whose pseudo density is shown, or an array (n0, n1, n2), electrons/Å³, with its ``grid`` (and
        ``atoms``, which may be left out).
    axis
        The plane holds the two other lattice vectors.
    position
        Where it cuts lattice vector ``axis``, in units of that vector; the nearest plane of points is taken.
    reach
        Atoms within this distance of the plane are drawn, Å.
    """
    from matplotlib.figure import Figure

    n_R, grid, atoms = _unpack(density, grid, atoms)
    if line_axis(grid) is not None:
        return plot_lines({'': n_R}, grid, atoms)
    figure = Figure(figsize=(6, 5), layout='constrained')
    axes = figure.add_subplot()
    mesh = _draw(axes, n_R, grid, atoms, axis, position, reach, _density_scale(n_R))
    figure.colorbar(mesh, ax=axes, label='electrons/Å³', extend='min')
    return figure


def plot_difference(
    predicted: PAWDensity, reference: PAWDensity, *, axis: int = 2, position: float = 0.5, reach: float = 1.0
) -> Figure:
    """The predicted pseudo density, the reference, and predicted − reference: three slices, or lines in one picture."""
    from matplotlib.figure import Figure

    from ase_deepdensity.analysis.compare import nmae

    error = nmae(predicted, reference)  # checks that the grids are alike
    n_R, ref_R = predicted.nt_sR.sum(axis=0), reference.nt_sR.sum(axis=0)
    if line_axis(reference.grid) is not None:
        labels = {'reference': ref_R, f'predicted (NMAE {error:.3g} %)': n_R}
        return plot_lines(labels, reference.grid, reference.atoms, n_R - ref_R)
    figure = Figure(figsize=(15, 4.5), layout='constrained')
    panels = figure.subplots(1, 3)
    scale = _density_scale(ref_R)
    limit = float(np.abs(_plane(n_R - ref_R, reference.grid, axis, position)).max()) or 1.0
    for axes, values, colours, title in (
        (panels[0], n_R, scale, 'predicted'),
        (panels[1], ref_R, scale, 'reference'),
        (panels[2], n_R - ref_R, {'cmap': 'RdBu_r', 'vmin': -limit, 'vmax': limit}, f'difference (NMAE {error:.3g} %)'),
    ):
        mesh = _draw(axes, values, reference.grid, reference.atoms, axis, position, reach, colours)
        figure.colorbar(mesh, ax=axes, label='electrons/Å³')
        axes.set_title(title)
    return figure


def _unpack(density: PAWDensity | np.ndarray, grid: Grid | None, atoms: Atoms | None) -> tuple[np.ndarray, Grid, Atoms]:
    if isinstance(density, PAWDensity):
        return density.nt_sR.sum(axis=0), density.grid, density.atoms
    if grid is None or density.shape != grid.shape:
        raise ValueError(
            f'an array of shape {density.shape} needs its grid, of the same shape, not {grid and grid.shape}'
        )
    return density, grid, Atoms(cell=grid.cell_cv, pbc=grid.pbc_c) if atoms is None else atoms


def _density_scale(n_R: np.ndarray) -> dict[str, Any]:
    from matplotlib.colors import LogNorm

    top = float(n_R.max())
    if top <= 0.0:
        raise ValueError(f'a density that is nowhere positive (its maximum is {top}) cannot be drawn')
    return {'cmap': 'viridis', 'norm': LogNorm(top * 10**-DECADES, top, clip=True)}


def _plane(n_R: np.ndarray, grid: Grid, axis: int, position: float) -> np.ndarray:
    """The plane of points nearest to ``position``, its periodic directions closed by a copy of their first line."""
    if axis not in (0, 1, 2):
        raise ValueError(f'axis must be 0, 1 or 2, not {axis}')
    if not grid.is_whole:
        raise ValueError('a picture needs the density on the whole grid')
    index = _plane_index(grid, axis, position)
    plane_ij = np.take(n_R, index - int(grid.start_c[axis]), axis=axis)
    closed = [(0, int(not grid.zerobc_c[c])) for c in range(3) if c != axis]
    return np.pad(plane_ij, closed, mode='wrap')


def _plane_index(grid: Grid, axis: int, position: float) -> int:
    index = round(position * int(grid.size_c[axis])) % int(grid.size_c[axis])
    return max(index, int(grid.start_c[axis]))


def _draw(
    axes: Axes,
    n_R: np.ndarray,
    grid: Grid,
    atoms: Atoms,
    axis: int,
    position: float,
    reach: float,
    colours: dict[str, Any],
) -> Any:
    """Colours on the plane and dots for atoms, in Å in the plane's own orthogonal axes: skewed cells look skewed."""
    plane_ij = _plane(n_R, grid, axis, position)
    c1, c2 = (c for c in range(3) if c != axis)
    frame_vx = _plane_frame(grid.cell_cv, c1, c2)
    i, j = (np.arange(n) + grid.start_c[c] for n, c in zip(plane_ij.shape, (c1, c2), strict=True))
    origin_v = _plane_index(grid, axis, position) * grid.step_cv[axis]
    point_ijv = origin_v + i[:, None, None] * grid.step_cv[c1] + j[None, :, None] * grid.step_cv[c2]
    x_ij, y_ij = np.moveaxis(point_ijv @ frame_vx[:, :2], -1, 0)
    mesh = axes.pcolormesh(x_ij, y_ij, plane_ij, shading='gouraud', rasterized=True, **colours)
    _draw_atoms(axes, grid, atoms, frame_vx, origin_v, axis, reach)
    axes.set_aspect('equal')
    axes.set_xlabel('Å')
    axes.set_ylabel('Å')
    return mesh


def _plane_frame(cell_cv: np.ndarray, c1: int, c2: int) -> np.ndarray:
    """(3, 3) columns: along lattice vector c1, in the plane across it, and normal to the plane."""
    x_v = cell_cv[c1] / np.linalg.norm(cell_cv[c1])
    y_v = cell_cv[c2] - (cell_cv[c2] @ x_v) * x_v
    y_v /= np.linalg.norm(y_v)
    return np.stack([x_v, y_v, np.cross(x_v, y_v)], axis=1)


def _draw_atoms(
    axes: Axes, grid: Grid, atoms: Atoms, frame_vx: np.ndarray, origin_v: np.ndarray, axis: int, reach: float
) -> None:
    """Dots for the atoms, and for their images across the plane's own faces of the cell, within ``reach`` of the plane.

    In-plane, an image is chosen so that the dot lies on the drawn piece of the plane.
    """
    if len(atoms) == 0:
        return
    normal_v = frame_vx[:, 2]
    inverse_vc = np.linalg.inv(grid.cell_cv)
    in_plane_c = np.arange(3) != axis
    for shift in (-1, 0, 1) if grid.pbc_c[axis] else (0,):
        position_av = atoms.positions + shift * grid.cell_cv[axis]
        height_a = (position_av - origin_v) @ normal_v
        on_plane_av = position_av - height_a[:, np.newaxis] * normal_v
        relpos_ac = (on_plane_av - origin_v) @ inverse_vc
        wrap_ac = np.floor(relpos_ac) * (grid.pbc_c & in_plane_c)
        x_a, y_a = ((on_plane_av - wrap_ac @ grid.cell_cv) @ frame_vx[:, :2]).T
        near_a = np.abs(height_a) <= reach
        numbers_a = atoms.numbers[near_a]
        axes.scatter(
            x_a[near_a],
            y_a[near_a],
            s=60 * covalent_radii[numbers_a],
            c=jmol_colors[numbers_a],
            edgecolors='black',
            linewidths=0.8,
        )
