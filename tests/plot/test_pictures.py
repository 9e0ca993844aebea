import numpy as np
import pytest
from ase import Atoms
from matplotlib.backends.backend_agg import FigureCanvasAgg

from ase_deepdensity.grid import Grid
from ase_deepdensity.plot.pictures import plot_difference, plot_slice
from ase_deepdensity.state import PAWDensity

PLANE = 'bc', 'ac', 'ab'


def draw(figure):
    FigureCanvasAgg(figure).draw()
    return figure


@pytest.mark.parametrize('axis', [0, 1, 2])
def test_slice_of_each_calculation(state, axis):
    axes, colour_bar = draw(plot_slice(state, plane=PLANE[axis])).axes
    assert colour_bar.get_ylabel() == 'electrons/Å³'
    assert axes.get_aspect() == 1.0


@pytest.mark.parametrize(
    ('limits', 'labels'),
    [
        ((1e-3, 2.0), ['0.001', '0.01', '0.1', '1']),
        ((0.2, 0.9), ['0.2', '0.3', '0.4', '0.6']),
        ((0.5, 6.0), ['1']),
    ],
)
def test_colours_have_plain_labels_and_room_for_them(monkeypatch, limits, labels):
    """No formulas are typeset, which would take as long as the rest of the picture, and nothing is cut off."""
    from matplotlib.mathtext import MathTextParser

    monkeypatch.setattr(MathTextParser, 'parse', None)
    grid, n_R = Grid(np.diag([4.0, 3.0, 12.0]), (4, 5, 6)), np.linspace(0.1, 1, 120).reshape(4, 5, 6)
    for plane in PLANE:
        for size in (6, 5), (3.6, 2.8):
            figure = draw(plot_slice(n_R, grid=grid, plane=plane, limits=limits, size=size))
            shown = [text.get_text() for text in figure.axes[1].get_yticklabels(which='both')]
            assert set(labels) <= set(shown)
            box, inside = figure.get_tightbbox(), figure.bbox_inches
            assert box.x0 >= 0 and box.y0 >= 0 and box.x1 <= inside.x1 and box.y1 <= inside.y1
            c1, c2 = 'abc'.index(plane[0]), 'abc'.index(plane[1])
            window = figure.axes[0].get_window_extent()
            lengths = grid.cell_cv.diagonal()
            assert window.width / window.height == pytest.approx(lengths[c1] / lengths[c2], rel=0.02)


def test_points_lie_where_they_are_in_a_skewed_cell(skewed_calc):
    """Distances in the picture are distances in space, and the colours are the density's."""
    state = PAWDensity.from_gpaw(skewed_calc)
    mesh = plot_slice(state, plane=PLANE[1], position=0.25).axes[0].collections[0]
    points_ijx = mesh.get_coordinates()
    n0, n1, n2 = state.grid.shape
    assert points_ijx.shape == (n0 + 1, n2 + 1, 2)
    cell_cv = state.grid.cell_cv
    corner = points_ijx[-1, -1] - points_ijx[0, 0]
    assert np.linalg.norm(corner) == pytest.approx(np.linalg.norm(cell_cv[0] + cell_cv[2]))
    values_ij = np.asarray(mesh.get_array()).reshape(n0 + 1, n2 + 1)
    assert values_ij[:-1, :-1] == pytest.approx(state.nt_sR[0, :, round(0.25 * n1)])
    assert values_ij[-1, 0] == values_ij[0, 0], 'periodic directions are closed'


@pytest.mark.parametrize('axis', [0, 1, 2])
@pytest.mark.parametrize('height', [0.02, 0.55, 0.97])
def test_dots_lie_on_the_density_in_a_skewed_cell(axis, height):
    """A Gaussian around an atom: its dot is at the brightest point of the plane, whichever plane is cut."""
    grid = Grid([[4.0, 0.0, 0.0], [1.1, 3.8, 0.0], [0.9, -0.8, 4.2]], (40, 38, 42))
    relpos_c = np.insert([0.3, 0.6], axis, height)
    distance_Rc = grid.points() @ np.linalg.inv(grid.cell_cv) - relpos_c
    distance_Rv = (distance_Rc - np.round(distance_Rc)) @ grid.cell_cv
    atoms = Atoms('O', cell=grid.cell_cv, scaled_positions=[relpos_c], pbc=True)
    gaussian_R = np.exp(-3 * (distance_Rv**2).sum(axis=-1))
    figure = plot_slice(gaussian_R, grid=grid, atoms=atoms, plane=PLANE[axis], position=height, reach=0.2)
    mesh, *scatters = figure.axes[0].collections
    (dot_x,) = np.concatenate([np.asarray(scatter.get_offsets()) for scatter in scatters])
    points_ijx, values_ij = mesh.get_coordinates(), np.asarray(mesh.get_array())
    top_x = points_ijx[np.unravel_index(values_ij.argmax(), points_ijx.shape[:2])]
    assert np.linalg.norm(dot_x - top_x) < grid.spacing_c.max()


def test_atoms_are_drawn_near_the_plane_only(molecule_state):
    atoms = molecule_state.atoms
    step = molecule_state.grid.step_cv[2, 2]
    plane = step * round(atoms.positions[0, 2] / step)
    near_a = np.abs(atoms.positions[:, 2] - plane) < 0.3
    assert near_a[0] and not near_a.all(), 'the test needs an atom on each side of the limit'
    scatter = plot_slice(molecule_state, position=plane / atoms.cell[2, 2], reach=0.3).axes[0].collections[1]
    assert np.asarray(scatter.get_offsets()) == pytest.approx(atoms.positions[near_a, :2])


def test_zero_boundary_is_not_wrapped(molecule_state):
    n0, n1, _ = molecule_state.grid.shape
    assert plot_slice(molecule_state).axes[0].collections[0].get_coordinates().shape == (n0, n1, 2)


def test_array_with_its_grid():
    grid = Grid(np.eye(3) * 3, (4, 5, 6))
    assert len(draw(plot_slice(np.ones((4, 5, 6)), grid=grid)).axes) == 2
    with pytest.raises(ValueError, match=r'shape \(4, 5, 6\) needs its grid'):
        plot_slice(np.ones((4, 5, 6)))
    with pytest.raises(ValueError, match='nowhere positive'):
        plot_slice(np.zeros((4, 5, 6)), grid=grid)
    with pytest.raises(ValueError, match="plane must be one of ab, ac, bc, not 'xy'"):
        plot_slice(np.ones((4, 5, 6)), grid=grid, plane='xy')


def test_difference(molecule_state):
    figure = draw(plot_difference(molecule_state.new(nt_sR=1.02 * molecule_state.nt_sR), molecule_state))
    titles = [axes.get_title() for axes in figure.axes[:3]]
    assert titles == ['predicted', 'reference', 'difference (NMAE 2 %)']
    assert len(draw(plot_difference(molecule_state, molecule_state)).axes) == 6


def test_a_plane_goes_through_an_atom(molecule_state):
    """One atom: the nearest plane of points; three: all of them lie in it, where the density is the density there."""
    z = molecule_state.atoms.positions[2, 2]
    through = molecule_state.plot('ab', through=2, reach=0.2).axes[0].collections[1]
    assert np.abs(np.asarray(through.get_offsets()) - molecule_state.atoms.positions[2, :2]).sum(axis=1).min() < 1e-9
    assert z % molecule_state.grid.step_cv[2, 2] > 1e-3, 'the test needs an atom between planes'
    mesh, dots = molecule_state.plot(through=(0, 1, 2), reach=1e-6).axes[0].collections
    assert len(dots.get_offsets()) == 3
    distance_aa = np.linalg.norm(np.diff(np.asarray(dots.get_offsets()), axis=0), axis=1)
    assert distance_aa == pytest.approx(np.diag(molecule_state.atoms.get_all_distances(), 1), abs=1e-9)
    assert np.nanmax(mesh.get_array()) == pytest.approx(molecule_state.nt_sR.max(), rel=0.1)


def test_three_atoms_across_a_boundary(skewed_calc):
    """A Gaussian at each of two atoms: their dots are at the two brightest points, images included."""
    grid = Grid([[4.0, 0.0, 0.0], [1.1, 3.8, 0.0], [0.9, -0.8, 4.2]], (40, 38, 42))
    atoms = Atoms(
        'OHH', cell=grid.cell_cv, scaled_positions=[(0.05, 0.5, 0.5), (0.9, 0.6, 0.5), (0.1, 0.7, 0.6)], pbc=True
    )
    distance_Rc = grid.points() @ np.linalg.inv(grid.cell_cv) - atoms.get_scaled_positions()[1]
    distance_Rv = (distance_Rc - np.round(distance_Rc)) @ grid.cell_cv
    gaussian_R = np.exp(-3 * (distance_Rv**2).sum(axis=-1))
    axes = plot_slice(gaussian_R, grid=grid, atoms=atoms, through=(0, 1, 2), reach=0.01).axes[0]
    mesh, dots = axes.collections
    points_ijx, values_ij = mesh.get_coordinates(), np.asarray(mesh.get_array())
    top_x = points_ijx[np.unravel_index(values_ij.argmax(), points_ijx.shape[:2])]
    assert values_ij.max() == pytest.approx(1.0, abs=0.01)
    assert np.linalg.norm(np.asarray(dots.get_offsets()) - top_x, axis=1).min() < grid.spacing_c.max()


@pytest.mark.parametrize(
    ('keywords', 'message'),
    [
        ({'through': 3}, 'there is no atom 3: these are 3 atoms'),
        ({'through': (0, 1)}, r'through one atom or through three different ones, not \[0, 1\]'),
        ({'limits': (1.0, 0.1)}, 'the first of the limits must be the lower one'),
        ({'limits': (-1.0, 0.1)}, 'logarithmic: its limits must be positive'),
        ({'limits': (1.0,)}, 'limits must be two numbers'),
        (
            {'quantity': 'smoth'},
            "quantity must be one of pseudo, all-electron, smooth, spin, not 'smoth'; did you mean",
        ),
        ({'quantity': 'spin'}, 'spin-paired'),
        ({'difference_to': 'fragments'}, "difference_to must be 'atoms', a state or a list of states"),
        ({'difference_to': 'atoms', 'quantity': 'pseudo'}, 'the difference from atoms is one of smooth densities'),
    ],
)
def test_what_cannot_be_drawn_is_refused(molecule_state, keywords, message):
    with pytest.raises(ValueError, match=message):
        molecule_state.plot(**keywords)


def test_limits(molecule_state):
    assert molecule_state.plot(limits=(0.01, 2)).axes[0].collections[0].get_clim() == (0.01, 2)
    assert molecule_state.plot(difference_to='atoms', limits=(-0.2, 0.4)).axes[0].collections[0].get_clim() == (
        -0.2,
        0.4,
    )
    low, high = molecule_state.plot(difference_to='atoms').axes[0].collections[0].get_clim()
    assert low == -high < 0


def test_a_notebook_shows_a_picture(molecule_state):
    """Also where nothing has imported pyplot, which would tell the notebook how."""
    assert molecule_state.plot()._repr_png_().startswith(b'\x89PNG')
