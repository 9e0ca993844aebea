import numpy as np
import pytest
from ase import Atoms

from ase_deepdensity.grid import Grid
from tests.tolerances import EXACT

CELL = np.array([[3.0, 0.1, 0.0], [0.9, 2.8, 0.2], [0.3, -0.4, 3.5]])


def test_volume_and_points_of_a_skewed_cell():
    grid = Grid(CELL, (4, 5, 6))
    assert grid.shape == (4, 5, 6)
    assert grid.dv * 120 == pytest.approx(abs(np.linalg.det(CELL)), rel=EXACT)
    assert grid.points()[1, 2, 3] == pytest.approx((1 / 4, 2 / 5, 3 / 6) @ CELL, rel=EXACT)


def test_spacing_is_the_distance_between_planes():
    grid = Grid(CELL, (4, 5, 6))
    normal_v = np.cross(CELL[1], CELL[2])
    assert grid.spacing_c[0] == pytest.approx(abs(CELL[0] @ normal_v) / np.linalg.norm(normal_v) / 4, rel=EXACT)


def test_zero_boundary_leaves_out_the_first_point():
    grid = Grid.from_atoms(Atoms(cell=CELL, pbc=(True, False, True)), (4, 5, 6))
    assert grid.shape == (4, 4, 6)
    assert grid.points()[0, 0, 0] == pytest.approx(CELL[1] / 5, rel=EXACT)
    assert Grid(CELL, (4, 5, 6), (True, False, True), zerobc_c=(False,) * 3).shape == (4, 5, 6)


@pytest.mark.parametrize('pbc', [(True, True, True), (False, True, False)])
def test_slabs_are_the_grid_cut_in_order(pbc):
    grid = Grid(CELL, (7, 4, 5), pbc)
    slabs = list(grid.slabs(45))
    assert all(np.prod(slab.shape) <= 45 for slab in slabs)
    assert np.array_equal(np.concatenate([slab.points() for slab in slabs]), grid.points())
    assert not slabs[0].is_whole and grid.is_whole


def test_one_plane_is_the_least_slab():
    assert [slab.shape for slab in Grid(CELL, (2, 4, 5)).slabs(1)] == [(1, 4, 5)] * 2


def test_new_size_starts_from_the_whole_grid():
    block = Grid(CELL, (4, 5, 6), start_c=(1, 0, 0), stop_c=(2, 5, 6))
    assert block.new(size_c=(8, 10, 12)).shape == (8, 10, 12)
    assert block.new(start_c=(0, 0, 0)).shape == (2, 5, 6)


def test_differences_and_equality():
    grid = Grid(CELL, (4, 5, 6))
    assert grid == Grid(CELL + 1e-12, (4, 5, 6))
    assert grid.differences(grid.new(size_c=(4, 5, 7))) == ['size_c', 'stop_c']


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        ({'cell_cv': np.zeros((3, 3)), 'size_c': (4, 4, 4)}, 'three independent lattice vectors'),
        ({'cell_cv': CELL, 'size_c': (4, 0, 4)}, 'at least one point'),
        ({'cell_cv': CELL, 'size_c': (4, 4)}, 'size_c must have the shape'),
        ({'cell_cv': CELL, 'size_c': (4, 4, 4), 'stop_c': (5, 4, 4)}, 'outside'),
        ({'cell_cv': CELL, 'size_c': (4, 4, 4), 'pbc_c': (False,) * 3, 'start_c': (0, 1, 1)}, 'outside'),
    ],
)
def test_errors(arguments, message):
    with pytest.raises(ValueError, match=message):
        Grid(**arguments)
