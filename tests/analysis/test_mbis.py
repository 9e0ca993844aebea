"""Slater functions fitted to densities: what they must be exactly, and what another program finds."""

from math import pi

import numpy as np
import pytest
from ase import Atoms
from ase.units import Bohr

from ase_deepdensity import PAWDensity
from ase_deepdensity.analysis import mbis as module
from ase_deepdensity.analysis.mbis import Slaters, mbis
from ase_deepdensity.codes.gpaw.spheres import spheres
from ase_deepdensity.grid import Grid

CELL = [[5.0, 0.0, 0.0], [1.1, 5.2, 0.0], [-0.4, 0.9, 5.5]]


def test_a_superposition_of_slater_functions_is_taken_apart(monkeypatch):
    """Also across periodic boundaries of a skewed cell."""
    monkeypatch.setattr(module, 'TOLERANCE', 1e-7)
    atoms = Atoms('HHe', [[0.1, 0.2, 0.3], [2.1, 2.9, 2.4]], cell=CELL, pbc=True)
    grid = Grid(atoms.cell, (40, 42, 44), (True, True, True))
    n_R = np.zeros(40 * 42 * 44)
    given = [(1.4, 0.34), (1.6, 0.4)]
    for position_v, (N, sigma) in zip(atoms.positions, given, strict=True):
        index_p, vector_pv = grid.around(position_v, 9.0)
        r_p = np.linalg.norm(vector_pv, axis=1)
        np.add.at(n_R, index_p, N * np.exp(-r_p / sigma) / (8 * pi * sigma**3))
    found = mbis(grid, n_R.reshape(grid.shape), atoms)
    assert [slaters.N_i[0] for slaters in found] == pytest.approx([1.4, 1.6], abs=2e-3)
    assert [slaters.sigma_i[0] for slaters in found] == pytest.approx([0.34, 0.4], abs=2e-3)


@pytest.mark.parametrize(('number', 'electrons'), [(1, [1]), (8, [2, 6]), (13, [2, 8, 3]), (26, [2, 8, 8, 8])])
def test_shells(number, electrons):
    slaters = Slaters.of(number)
    assert slaters.N_i.tolist() == electrons
    r_g = np.linspace(0, 20, 200001)
    of_shells = np.trapezoid(4 * pi * r_g**2 * slaters(r_g), r_g, axis=1)
    assert of_shells == pytest.approx(slaters.N_i, rel=1e-4)


def test_points_of_grid_and_spheres_have_all_electrons(state):
    """In every mode, shape and spin."""
    electrons = state.nt_sR.sum() * state.grid.dv + sum(sphere.n_p @ sphere.weight_p for sphere in spheres(state))
    assert electrons == pytest.approx(state.atoms.numbers.sum() - state.charge, abs=3e-3)


def test_water_as_denspart_has_it(molecule_state):
    """Its charges (version of 2025, github.com/theochem/denspart) from the same density at the same points."""
    charge_a = molecule_state.mbis_charges()
    assert charge_a == pytest.approx([-0.80406, 0.40184, 0.40223], abs=3e-4)
    assert charge_a.sum() == pytest.approx(0, abs=1e-4)
    assert molecule_state.mbis_charges(gridrefinement=2) == pytest.approx(charge_a, abs=6e-3)


def test_where_the_cell_begins_does_not_matter(skewed_calc):
    state = PAWDensity.from_gpaw(skewed_calc)
    moved = state.atoms.copy()
    steps_c = np.array([3, 5, 2])
    moved.positions += steps_c @ state.grid.step_cv
    nt_sR = np.roll(state.nt_sR, steps_c, axis=(1, 2, 3))
    charge_a = state.mbis_charges()
    assert state.new(atoms=moved, nt_sR=nt_sR).mbis_charges() == pytest.approx(charge_a, abs=1e-6)
    assert charge_a.sum() == pytest.approx(0, abs=2e-3) and charge_a[1] < -0.3


def test_no_convergence_is_an_error(molecule_state, monkeypatch):
    monkeypatch.setattr(module, 'MOST_ITERATIONS', 3)
    with pytest.raises(ValueError, match='after 3 iterations'):
        molecule_state.mbis_charges()


def test_widths_are_lengths():
    assert Slaters.of(1).sigma_i == pytest.approx([Bohr / 2])
