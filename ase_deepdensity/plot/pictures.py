"""Pictures of a density: a slice through the cell, and a prediction beside its reference."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from ase import Atoms
from ase.data import covalent_radii
from ase.data.colors import jmol_colors

from ase_deepdensity.arguments import real, shown, whole
from ase_deepdensity.dataset.volumetric import without_boundaries
from ase_deepdensity.grid import Grid
from ase_deepdensity.plot.lines import line_axis, plot_lines
from ase_deepdensity.plot.planes import PLANES, Plane, index_of, lattice_plane, plane_through
from ase_deepdensity.plot.shown import Other, has_sign, shown_density
from ase_deepdensity.state import PAWDensity

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from ase_deepdensity.plot.figure import Picture

DECADES = 4
"""The colour scale of a density spans this many powers of ten."""


def plot_slice(
    density: PAWDensity | np.ndarray,
    *,
    grid: Grid | None = None,
    atoms: Atoms | None = None,
    plane: str = 'ab',
    position: float = 0.5,
    through: int | Sequence[int] | None = None,
    limits: Sequence[float] | None = None,
    reach: float = 1.0,
    signed: bool = False,
    size: tuple[float, float] = (6, 5),
) -> Picture:
    """A plane of a density, with the atoms near it; a line where the grid is one.

    Parameters
    ----------
    density
        A state, whose pseudo density is shown, or an array (n0, n1, n2), electrons/Å³, with its ``grid`` (and
        ``atoms``, which may be left out).
    plane
        The two lattice vectors in the plane: 'ab', 'ac' or 'bc'.
    position
        Where it cuts the third lattice vector, in units of that vector; the nearest plane of points is taken.
    through
        An atom through which the plane goes instead; or three of them, which need neither ``plane`` nor ``position``.
    limits
        Densities at the ends of the colour scale, electrons/Å³.  Default: from 10⁻⁴ of the largest value to this; of
        ``signed`` densities, of the same size on both sides of zero.
    reach
        Atoms within this distance of the plane are drawn, Å.
    signed
        The density has two signs, as a difference: colours are linear, red for positive values and blue for others.
    size
        Of the figure, inches.

    Raises
    ------
    ValueError
        A plane, atoms or limits that cannot be; a density that is not positive anywhere.
    """
    from ase_deepdensity.plot.figure import Picture, beside_a_bar, plain_powers

    n_R, grid, atoms = _unpack(density, grid, atoms)
    if line_axis(grid) is not None:
        return plot_lines({'': n_R}, grid, atoms)
    cut = _cut(n_R, grid, atoms, plane, position, through)
    scale = _signed_scale(cut.n_ij, limits) if signed else _density_scale(n_R, limits)
    figure = Picture(figsize=size)
    axes, bar_axes = beside_a_bar(figure, cut.extent())
    mesh = _draw(axes, cut, atoms, reach, scale)
    bar = figure.colorbar(mesh, cax=bar_axes, label='electrons/Å³', extend='neither' if signed else 'min')
    if not signed:
        plain_powers(bar.ax.yaxis)
    return figure


def plot_state(density: PAWDensity, quantity: str, difference_to: Other, **of_the_plane: Any) -> Picture:
    """A slice of what :func:`.shown_density` makes of a state; keywords are those of :func:`plot_slice`."""
    n_R = without_boundaries(density.grid, shown_density(density, quantity, difference_to))
    signed = has_sign(quantity, difference_to)
    return plot_slice(n_R, grid=density.grid, atoms=density.atoms, signed=signed, **of_the_plane)


def plot_difference(
    predicted: PAWDensity,
    reference: PAWDensity,
    *,
    plane: str = 'ab',
    position: float = 0.5,
    through: int | Sequence[int] | None = None,
    reach: float = 1.0,
) -> Picture:
    """The predicted pseudo density, the reference, and predicted − reference: three slices, or lines in one picture.

    The parameters are those of :func:`plot_slice`.
    """
    from ase_deepdensity.analysis.compare import nmae
    from ase_deepdensity.plot.figure import Picture

    error = nmae(predicted, reference)  # checks that the grids are alike
    n_R, ref_R = predicted.nt_sR.sum(axis=0), reference.nt_sR.sum(axis=0)
    grid, atoms = reference.grid, reference.atoms
    if line_axis(grid) is not None:
        labels = {'reference': ref_R, f'predicted (NMAE {error:.3g} %)': n_R}
        return plot_lines(labels, grid, atoms, n_R - ref_R)
    figure = Picture(figsize=(15, 4.5), layout='constrained')
    scale = _density_scale(ref_R, None)
    panels = (n_R, scale, 'predicted'), (ref_R, scale, 'reference'), (n_R - ref_R, None, 'difference')
    for axes, (values_R, colours, title) in zip(figure.subplots(1, 3), panels, strict=True):
        cut = _cut(values_R, grid, atoms, plane, position, through)
        mesh = _draw(axes, cut, atoms, reach, colours or _signed_scale(cut.n_ij, None))
        figure.colorbar(mesh, ax=axes, label='electrons/Å³')
        axes.set_title(title if colours else f'{title} (NMAE {error:.3g} %)')
    return figure


def plot_uncertainty(
    density: PAWDensity,
    *,
    plane: str = 'ab',
    position: float = 0.5,
    through: int | Sequence[int] | None = None,
    limits: Sequence[float] | None = None,
    reach: float = 1.0,
) -> Picture:
    """The pseudo density, and beside it the standard deviation of its likely error: two slices, or two lines.

    The parameters are those of :func:`plot_slice`, ``limits`` those of the density.

    Raises
    ------
    ValueError
        As :func:`plot_slice`; a density of which no σ is known.
    """
    from ase_deepdensity.plot.figure import Picture

    if density.sigma_sR is None:
        raise ValueError('nothing is known of the σ of this density: predict it with uncertainty=True')
    grid, atoms = density.grid, density.atoms
    n_R, sigma_R = density.nt_sR.sum(axis=0), density.sigma_sR.sum(axis=0)
    if line_axis(grid) is not None:
        return plot_lines({'density': n_R, 'σ': sigma_R}, grid, atoms)
    figure = Picture(figsize=(11, 4.5), layout='constrained')
    panels = (n_R, limits, 'density'), (sigma_R, None, 'σ of its likely error')
    for axes, (values_R, ends, title) in zip(figure.subplots(1, 2), panels, strict=True):
        cut = _cut(values_R, grid, atoms, plane, position, through)
        mesh = _draw(axes, cut, atoms, reach, _density_scale(values_R, ends))
        figure.colorbar(mesh, ax=axes, label='electrons/Å³', extend='min')
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


def _cut(
    n_R: np.ndarray, grid: Grid, atoms: Atoms, plane: str, position: float, through: int | Sequence[int] | None
) -> Plane:
    position = real('position', position)
    if through is None:
        return lattice_plane(n_R, grid, plane, position)
    chosen = [whole('an atom of through', a) for a in np.atleast_1d(np.array(through, dtype=object))]
    if len(chosen) != 1:
        return plane_through(n_R, grid, atoms, chosen)
    if plane in PLANES:
        position = atoms.cell.scaled_positions(atoms.positions)[index_of(atoms, chosen[0]), PLANES[plane]]
    return lattice_plane(n_R, grid, plane, position)


def _density_scale(n_R: np.ndarray, limits: Sequence[float] | None) -> dict[str, Any]:
    from matplotlib.colors import LogNorm

    top = float(n_R.max())
    if top <= 0.0:
        raise ValueError(f'a density that is nowhere positive (its maximum is {top}) cannot be drawn')
    low, high = (top * 10**-DECADES, top) if limits is None else check_limits(limits)
    if low <= 0.0:
        raise ValueError(f'the scale of a density is logarithmic: its limits must be positive, not {shown(limits)}')
    return {'cmap': 'viridis', 'norm': LogNorm(low, high, clip=True)}


def _signed_scale(n_ij: np.ndarray, limits: Sequence[float] | None) -> dict[str, Any]:
    largest = float(np.nanmax(np.abs(n_ij))) or 1.0
    low, high = (-largest, largest) if limits is None else check_limits(limits)
    return {'cmap': 'RdBu_r', 'vmin': low, 'vmax': high}


def check_limits(limits: Sequence[float]) -> tuple[float, float]:
    """The two ends of a scale, the lower one first.

    Raises
    ------
    ValueError
        Not two numbers, or in another order.
    """
    if np.shape(limits) != (2,):
        raise ValueError(f'limits must be two numbers, not {shown(limits)}')
    low, high = (real('a limit', limit) for limit in limits)
    if low >= high:
        raise ValueError(f'the first of the limits must be the lower one, not {shown(limits)}')
    return low, high


def _draw(axes: Axes, cut: Plane, atoms: Atoms, reach: float, colours: dict[str, Any]) -> Any:
    """Colours on the plane and dots for atoms, in Å in the plane's own orthogonal axes: skewed cells look skewed."""
    x_ij, y_ij = np.moveaxis(cut.coordinates(cut.point_ijv)[..., :2], -1, 0)
    n_ij = np.ma.masked_invalid(cut.n_ij)
    mesh = axes.pcolormesh(x_ij, y_ij, n_ij, shading='gouraud', rasterized=True, **colours)
    if len(atoms):
        x_ax, number_a = cut.images(atoms, reach)
        x_a, y_a = x_ax.T
        axes.scatter(
            x_a, y_a, s=60 * covalent_radii[number_a], c=jmol_colors[number_a], edgecolors='black', linewidths=0.8
        )
    axes.set_aspect('equal')
    axes.set_xlabel('Å')
    axes.set_ylabel('Å')
    return mesh
