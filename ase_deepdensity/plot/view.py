"""An isosurface that one can turn: in a notebook, and as a page of its own that needs no network."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from ase import Atoms

from ase_deepdensity.arguments import formula, real
from ase_deepdensity.files import replacing
from ase_deepdensity.plot.lines import line_axis
from ase_deepdensity.plot.shown import Other, has_sign, shown_density
from ase_deepdensity.plot.surfaces import Mesh, balls, bonds, default_isovalue, edges, isosurface
from ase_deepdensity.state import PAWDensity

if TYPE_CHECKING:
    from plotly.graph_objects import Figure as PlotlyFigure

    from ase_deepdensity.plot.figure import Picture

MORE, LESS = 'firebrick', 'royalblue'
"""Colours of surfaces where a difference is positive and negative."""
ONE_SIGN = 'mediumseagreen'
OPACITY = 0.5
DECIMALS = 3
"""Of coordinates in files, Å."""
COARSE = 36
"""Grid points along a lattice vector behind a still picture."""


class View:
    """A density in space: its isosurface, its atoms and their cell.

    The last line of a notebook's cell shows it, and it can be turned there; where scripts do not run, as on the web
    page of a repository, there is a picture instead.

    Parameters
    ----------
    state
        Its pseudo density, or what ``quantity`` and ``difference_to`` say: see :func:`.shown_density`.
    isovalue
        Value of the surface, electrons/Å³.  Default: that around 80 % of the electrons; of a difference the one around
        40 % of its size, drawn for more electrons (red) and fewer (blue).

    Raises
    ------
    ValueError
        No such value, a density on a line, or what :func:`.shown_density` refuses.
    """

    def __init__(
        self,
        state: PAWDensity,
        isovalue: float | None = None,
        *,
        quantity: str = 'smooth',
        difference_to: Other = None,
    ) -> None:
        if line_axis(state.grid) is not None:
            raise ValueError('a density on a line has no surface; use plot()')
        self.n_R = shown_density(state, quantity, difference_to)
        """(n0, n1, n2) what is shown, electrons/Å³."""
        self.atoms: Atoms = state.atoms
        """The atoms."""
        signed = has_sign(quantity, difference_to)
        if isovalue is None:
            isovalue = default_isovalue(self.n_R, signed=signed)
        self.isovalue = real('isovalue', isovalue, above=0, unit='electrons/Å³')
        """Of the surface, electrons/Å³; the surface for fewer electrons has its negative."""
        self._colours = {1: MORE, -1: LESS} if signed else {1: ONE_SIGN}
        self._surfaces = self._isosurfaces()

    def __repr__(self) -> str:
        corners = sum(len(mesh.corner_kv) for mesh in self._surfaces)
        return (
            f'View of {formula(self.atoms)}: surface of {self.isovalue:.4g} electrons/Å³, {corners} corners; '
            "a notebook shows it, .save('FILE.html') writes a page"
        )

    def _isosurfaces(self, **finest: int) -> list[Mesh]:
        """Those that exist: a difference may have one sign only at this value."""
        meshes, problems = [], []
        for sign, colour in self._colours.items():
            try:
                meshes.append(isosurface(self.n_R, self.atoms.cell.array, sign * self.isovalue, colour, **finest))
            except ValueError as error:
                problems.append(error)
        if not meshes:
            raise problems[0]
        return meshes

    def plotly(self) -> PlotlyFigure:
        """The figure, which plotly's own functions can change."""
        import plotly.graph_objects as go

        figure = go.Figure()
        for mesh in self._surfaces:
            figure.add_trace(_trace(mesh, opacity=OPACITY, hoverinfo='skip'))
        if len(self.atoms):
            figure.add_trace(_trace(balls(self.atoms), hoverinfo='skip'))
            figure.add_trace(_lines(bonds(self.atoms), 'dimgray', 6))
            figure.add_trace(_names(self.atoms))
        figure.add_trace(_lines(edges(self.atoms.cell.array), 'darkgray', 1))
        hidden = {'visible': False}
        camera = _camera(self.atoms.cell.array)
        figure.update_layout(
            scene={'xaxis': hidden, 'yaxis': hidden, 'zaxis': hidden, 'aspectmode': 'data', 'camera': camera},
            margin={'l': 0, 'r': 0, 't': 30, 'b': 0},
            title={'text': f'{formula(self.atoms)}, {self.isovalue:.3g} electrons/Å³', 'font': {'size': 14}},
            showlegend=False,
            height=480,
        )
        return figure

    def save(self, path: str | Path) -> None:
        """Write a page (HTML) that holds all it needs, about 5 MB, or a still picture (PNG, PDF, SVG).

        Raises
        ------
        ValueError
            Another kind of file.
        OSError
            It cannot be written.
        """
        suffix = Path(path).suffix
        if suffix in ('.html', '.htm'):
            page = self.plotly().to_html(include_plotlyjs=True, config={'displaylogo': False})
            with replacing(path) as file:
                file.write(page)
        elif suffix in ('.png', '.pdf', '.svg'):
            with replacing(path, 'wb') as file:
                self.still().savefig(file, format=suffix[1:], dpi=150)
        else:
            raise ValueError(f'{path}: use a name that ends in .html, .png, .pdf or .svg')

    def still(self) -> Picture:
        """A picture of it."""
        from mpl_toolkits.mplot3d.art3d import Line3DCollection, Poly3DCollection

        from ase_deepdensity.plot.figure import Picture

        figure = Picture(figsize=(5, 5))
        axes: Any = figure.add_axes((0, 0, 1, 1), projection='3d')
        atoms_mesh = balls(self.atoms, 10)
        meshes = [*((mesh, OPACITY) for mesh in self._isosurfaces(finest=COARSE)), (atoms_mesh, 1.0)]
        corners_tkv = np.concatenate([mesh.corner_kv[mesh.triangle_tk] for mesh, _ in meshes])
        colours_tx = np.concatenate([_shaded(mesh, opacity) for mesh, opacity in meshes])
        axes.add_collection3d(Poly3DCollection(corners_tkv, facecolors=colours_tx, linewidths=0))
        lines = edges(self.atoms.cell.array)
        axes.add_collection3d(Line3DCollection(lines, colors='darkgray', linewidths=0.8))
        if len(chemical := bonds(self.atoms)):
            axes.add_collection3d(Line3DCollection(chemical, colors='dimgray', linewidths=2))
        low_v, high_v = lines.min(axis=(0, 1)), lines.max(axis=(0, 1))
        axes.set(xlim=(low_v[0], high_v[0]), ylim=(low_v[1], high_v[1]), zlim=(low_v[2], high_v[2]))
        axes.set_box_aspect(high_v - low_v, zoom=1.0)
        axes.set_axis_off()
        axes.view_init(elev=18, azim=-60)
        return figure

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> dict[str, Any]:
        """For notebooks: plotly's own kind of content, and a PNG for where that is not known."""
        import json

        return {
            'application/vnd.plotly.v1+json': json.loads(self.plotly().to_json()),
            'image/png': self.still().png(),
            'text/plain': repr(self),
        }


def _camera(cell_cv: np.ndarray) -> dict[str, Any]:
    """One that sees the whole cell.  Plotly's lengths are such that the box around what is drawn has the volume one."""
    extent_v = np.ptp(edges(cell_cv).reshape(-1, 3), axis=0)
    far = (
        np.linalg.norm(extent_v) / (np.sqrt(3) * np.cbrt(extent_v.prod()))
    ) ** 1.2  # the near end of a long cell is large
    return {'eye': {'x': 1.15 * far, 'y': -1.65 * far, 'z': 0.75 * far}, 'center': {'x': 0, 'y': 0, 'z': -0.05}}


def _trace(mesh: Mesh, **options: Any) -> Any:
    import plotly.graph_objects as go

    x, y, z = mesh.corner_kv.round(DECIMALS).astype(np.float32).T
    i, j, k = mesh.triangle_tk.astype(np.uint32).T
    first = mesh.colour_kx[0]
    if (mesh.colour_kx == first).all():
        options['color'] = _css(first)
    else:
        options['vertexcolor'] = [_css(colour) for colour in mesh.colour_kx]
    light = {'ambient': 0.5, 'diffuse': 0.8, 'specular': 0.2}
    return go.Mesh3d(x=x, y=y, z=z, i=i, j=j, k=k, flatshading=False, lighting=light, **options)


def _lines(segment_bkv: np.ndarray, colour: str, width: float) -> Any:
    """Segments as one line that is interrupted."""
    import plotly.graph_objects as go

    gap_bkv = np.full((len(segment_bkv), 1, 3), np.nan)
    x, y, z = np.concatenate([segment_bkv, gap_bkv], axis=1).reshape(-1, 3).round(DECIMALS).T
    line = {'color': colour, 'width': width}
    return go.Scatter3d(x=x, y=y, z=z, mode='lines', line=line, hoverinfo='skip')


def _names(atoms: Atoms) -> Any:
    """Invisible points that tell symbol and index of an atom under the pointer."""
    import plotly.graph_objects as go

    x, y, z = atoms.get_positions(wrap=True).round(DECIMALS).T
    names = [f'{symbol} {a}' for a, symbol in enumerate(atoms.symbols)]
    return go.Scatter3d(x=x, y=y, z=z, mode='markers', marker={'opacity': 0}, text=names, hoverinfo='text')


def _css(colour_x: np.ndarray) -> str:
    red, green, blue = (round(255 * float(part)) for part in colour_x)
    return f'rgb({red},{green},{blue})'


def _shaded(mesh: Mesh, opacity: float) -> np.ndarray:
    """(triangles, 4) colours as under a lamp above the shoulder of the onlooker."""
    a_tv, b_tv, c_tv = (mesh.corner_kv[mesh.triangle_tk[:, k]] for k in range(3))
    normal_tv = np.cross(b_tv - a_tv, c_tv - a_tv)
    length_t = np.linalg.norm(normal_tv, axis=1)
    lamp_v = np.array([0.3, -0.6, 0.74])
    bright_t = 0.45 + 0.55 * np.abs(normal_tv @ lamp_v) / np.where(length_t > 0, length_t, 1)
    colour_tx = mesh.colour_kx[mesh.triangle_tk[:, 0]] * bright_t[:, np.newaxis]
    return np.column_stack([colour_tx, np.full(len(colour_tx), opacity)])
