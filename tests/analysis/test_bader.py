"""Basins of the weight method where they are known, and of real densities."""

import numpy as np
import pytest
from ase.build import bulk
from scipy.optimize import minimize_scalar

from ase_deepdensity.analysis.bader import bader_charges, basin_sums, voronoi_faces
from ase_deepdensity.grid import Grid

HEXAGONAL = [[1, 0, 0], [-0.5, 0.75**0.5, 0], [0, 0, 1]]
LATTICES = [(np.eye(3), 6), (bulk('Al').cell.array, 12), (bulk('Fe').cell.array, 14), (HEXAGONAL, 8)]


@pytest.mark.parametrize(('cell', 'faces'), LATTICES)
def test_faces_of_lattices(cell, faces):
    """As many as the Voronoi cell has, and Σ A/|r| r r = 2 V 1, which makes differences a gradient."""
    cell = np.asarray(cell, float)
    step_dc, weight_d = voronoi_faces(cell)
    assert len(step_dc) == faces
    step_dv = step_dc @ cell
    moment_vw = np.einsum('d, dv, dw -> vw', weight_d, step_dv, step_dv)
    assert moment_vw == pytest.approx(2 * abs(np.linalg.det(cell)) * np.eye(3), abs=1e-9)


def wells(x: np.ndarray) -> np.ndarray:
    """Two unequal maxima in a period of 1."""
    return np.cos(2 * np.pi * x) + 0.9 * np.cos(4 * np.pi * x + 0.5) + 3


@pytest.mark.parametrize('skew', [0, 1])
def test_sums_of_functions_of_one_coordinate(skew):
    """Surfaces between basins are planes at the minima of each; a skewed cell of the same lattice gives the same."""
    lengths = np.array([4.0, 3.0, 3.5])
    cell = np.diag(lengths)
    cell[1] += skew * cell[0]
    grid = Grid(cell, np.array([40, 24, 24]))
    x_Rc = grid.points() / lengths
    n_R = wells(x_Rc[..., 0]) + np.cos(2 * np.pi * x_Rc[..., 1]) + np.cos(2 * np.pi * x_Rc[..., 2])
    sums = np.sort(basin_sums(n_R, grid)[basin_sums(n_R, grid) > 1e-9])
    minima = [minimize_scalar(wells, bounds=bounds, method='bounded').x for bounds in ((0.1, 0.45), (0.55, 0.9))]
    x_i = np.linspace(*minima, 2001)
    share = np.trapezoid(wells(x_i), x_i) / 3
    assert len(sums) == 2 and sums.sum() == pytest.approx(n_R.sum())
    assert sums / n_R.sum() == pytest.approx(np.sort([share, 1 - share]), abs=2e-3)


def test_charges_of_every_calculation(state):
    charge_a = state.bader_charges(gridrefinement=2)
    assert charge_a.sum() == pytest.approx(0, abs=2e-5)
    assert len(set(state.atoms.numbers)) > 1 or abs(charge_a).max() < 1e-5


def test_water(molecule_state):
    """Hydrogen atoms are alike; the figure of finer grids is near."""
    O, H, other_H = bader_charges(molecule_state)
    assert -1.3 < O < -1.0 and pytest.approx(other_H, abs=0.03) == H
