import numpy as np
import pytest
from ase import Atoms
from matplotlib.backends.backend_agg import FigureCanvasAgg

from ase_deepdensity.analysis.pictures import plot_difference, plot_slice
from ase_deepdensity.grid import Grid
from ase_deepdensity.state import PAWDensity


def draw(figure):
    FigureCanvasAgg(figure).draw()
    return figure


@pytest.mark.parametrize('axis', [0, 1, 2])
def test_slice_of_each_calculation(state, axis):
    axes, colour_bar = draw(plot_slice(state, axis=axis)).axes
    assert colour_bar.get_ylabel() == 'electrons/Å³'
    assert axes.get_aspect() == 1.0


def test_points_lie_where_they_are_in_a_skewed_cell(skewed_calc):
    """Distances in the picture are distances in space, and the colours are the density's."""
    state = PAWDensity.from_gpaw(skewed_calc)
    mesh = plot_slice(state, axis=1, position=0.25).axes[0].collections[0]
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
    figure = plot_slice(gaussian_R, grid=grid, atoms=atoms, axis=axis, position=height, reach=0.2)
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
    with pytest.raises(ValueError, match='axis must be 0, 1 or 2, not 3'):
        plot_slice(np.ones((4, 5, 6)), grid=grid, axis=3)


def test_difference(molecule_state):
    figure = draw(plot_difference(molecule_state.new(nt_sR=1.02 * molecule_state.nt_sR), molecule_state))
    titles = [axes.get_title() for axes in figure.axes[:3]]
    assert titles == ['predicted', 'reference', 'difference (NMAE 2 %)']
    assert len(draw(plot_difference(molecule_state, molecule_state)).axes) == 6
