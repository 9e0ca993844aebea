from dataclasses import replace

import numpy as np
import pytest

from ase_deepdensity.basis import RadialTable
from ase_deepdensity.collocation.superposition import superpose, superposition_gradient
from ase_deepdensity.grid import Grid

CUTOFF = 3.1


def bump(r: np.ndarray) -> np.ndarray:
    """A smooth function that ends with three zero derivatives."""
    return np.where(r < CUTOFF, np.exp(-1.5 * r**2) * (1 - (r / CUTOFF) ** 2) ** 4, 0.0)


@pytest.fixture
def table() -> RadialTable:
    r_g = np.linspace(0, CUTOFF, 1500)
    return RadialTable.fit(r_g, bump(r_g))


def test_table(table):
    r = np.random.default_rng(0).uniform(0, 1.2 * CUTOFF, 1000)
    np.testing.assert_allclose(table(r), bump(r), atol=1e-8)


@pytest.mark.parametrize('pbc', [(1, 1, 1), (1, 0, 1), (0, 0, 0)])
@pytest.mark.parametrize('skew', [0.0, 0.8])
@pytest.mark.parametrize(('dtype', 'tolerance'), [(np.float64, 1e-8), (np.float32, 1e-5)])
def test_sum_over_atoms_and_images(table, pbc, skew, dtype, tolerance):
    cell_cv = np.array([[2.5, 0.0, 0.0], [skew, 3.0, 0.0], [-skew, skew, 4.0]])
    grid = Grid(cell_cv, (9, 11, 14), pbc)
    position_av = np.random.default_rng(1).random((3, 3)) @ cell_cv
    numbers_a = np.array([1, 8, 1])
    half = RadialTable(table.x_step, table.cutoff, 0.5 * table.table_xp)
    n_R = superpose(grid, position_av, numbers_a, {1: table, 8: half}, dtype)
    assert n_R.dtype == dtype
    expected_R = np.zeros(grid.shape)
    images = [range(-3, 4) if periodic else [0] for periodic in pbc]
    for shift_c in np.stack(np.meshgrid(*images), -1).reshape(-1, 3):
        for p_v, number in zip(position_av, numbers_a, strict=True):
            r_R = np.linalg.norm(grid.points() - p_v - shift_c @ cell_cv, axis=-1)
            expected_R += bump(r_R) * (1.0 if number == 1 else 0.5)
    np.testing.assert_allclose(n_R, expected_R, rtol=0, atol=tolerance)


def test_slabs(table):
    grid = Grid(np.eye(3) * 4, (10, 10, 10))
    arguments = np.array([[0.1, 3.9, 2.0]]), np.array([1]), {1: table}
    slabs = [superpose(slab, *arguments) for slab in grid.slabs(300)]
    np.testing.assert_allclose(np.concatenate(slabs), superpose(grid, *arguments), atol=1e-14)


@pytest.mark.parametrize(
    ('changes', 'message'),
    [
        ({'x_step': -1e-9}, 'x_step of a radial table must be a number above 0'),
        ({'x_step': np.nan}, 'x_step of a radial table must be a number above 0'),
        ({'x_step': 1.0}, 'intervals of 1.0 Å² in a radial table end at 32.0 Å, not at its cutoff'),
        ({'cutoff': np.inf}, 'the cutoff of a radial table must be a number above 0 and up to 100'),
        ({'cutoff': 1e6, 'x_step': 1e12 / 1024}, 'the cutoff of a radial table must be a number above 0 and up to 100'),
        ({'table_xp': np.zeros((0, 4))}, 'not at its cutoff'),
        ({'table_xp': np.zeros((1024, 3))}, 'four finite numbers for each interval'),
        ({'table_xp': np.full((1024, 4), np.inf)}, 'four finite numbers for each interval'),
    ],
)
def test_what_is_no_table(table, changes, message):
    with pytest.raises(ValueError, match=message):
        replace(table, **changes)


@pytest.mark.parametrize('changes', [{'x_step': -1e-9}, {'x_step': 1e-300}, {'x_step': np.nan}])
def test_loops_stay_inside_the_table(table, changes):
    """Whatever gets past the checks: once this was a segmentation fault."""
    for name, value in changes.items():
        object.__setattr__(table, name, value)
    grid = Grid(np.eye(3) * 3, (12, 12, 12), (1, 1, 0))
    position_av = np.array([[0.1, 0.2, 0.3]])
    assert superpose(grid, position_av, np.array([1]), {1: table}).shape == grid.shape
    gradient_av = superposition_gradient(np.ones(grid.shape), grid, position_av, np.array([1]), {1: table})
    assert gradient_av.shape == (1, 3)
