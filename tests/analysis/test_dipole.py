"""When a dipole moment is a property of the atoms, and when it depends on where the cell begins."""

import numpy as np
import pytest
from ase import Atoms
from ase.build import molecule

from ase_deepdensity.analysis.dipole import depends_on_origin_c, dipole_moment, drift_c, origin_caveat
from ase_deepdensity.grid import Grid
from ase_deepdensity.level import Level
from ase_deepdensity.predict import Predictor
from ase_deepdensity.state import PAWDensity

pytestmark = pytest.mark.filterwarnings('ignore::ase_deepdensity.checks.UnfamiliarWarning')


def predicted(model, vacuum, pbc=True, shift=0.0, turned=0.0):
    atoms = molecule('H2O')
    atoms.rotate(turned, 'x')
    atoms.center(vacuum=vacuum)
    atoms.pbc = pbc
    atoms.translate((0, 0, shift))
    return Predictor(model, extrapolate=True).predict(atoms, Grid.from_atoms(atoms, (36, 36, 36)))


def test_drift_is_the_derivative(tiny_model):
    """Moving the atoms against the cell: the density at the boundary tells how fast the moment changes."""
    before, at, after = (predicted(tiny_model, 1.5, shift=shift) for shift in (-0.01, 0.0, 0.01))
    slope_v = (dipole_moment(after) - dipole_moment(before)) / 0.02
    assert abs(slope_v[2]) == pytest.approx(drift_c(at)[2], rel=0.1) and drift_c(at)[2] > 0.1


def test_number_of_electrons_in_a_homogeneous_medium():
    cell = np.array([[5.0, 0, 0], [1.0, 4.0, 0], [0.5, -0.5, 6.0]])
    atoms = Atoms(cell=cell, pbc=True)
    state = PAWDensity(
        atoms, Grid.from_atoms(atoms, (10, 12, 14)), np.full((1, 10, 12, 14), 0.1), [], Level.load('dzp')
    )
    length_c, height_c = np.linalg.norm(cell, axis=1), 1 / np.linalg.norm(np.linalg.inv(cell), axis=0)
    assert drift_c(state) == pytest.approx(state.integral() * length_c / height_c, rel=1e-12)


@pytest.mark.parametrize(
    ('vacuum', 'pbc', 'shift', 'axes'),
    [
        (3.5, True, 0.0, []),
        (3.5, True, 3.5, [2]),
        (3.5, (True, True, False), 0.0, []),
        (1.0, True, 0.0, [0, 1, 2]),
        (1.0, (True, False, False), 0.0, [0]),
        (1.0, False, 0.0, []),
    ],
)
def test_matter_across_the_boundary(tiny_model, vacuum, pbc, shift, axes):
    state = predicted(tiny_model, vacuum, pbc, shift, turned=90 if vacuum == 1.0 else 0)
    assert np.flatnonzero(depends_on_origin_c(state)).tolist() == axes
    caveat = origin_caveat(state)
    assert ('where the cell begins' in caveat) == bool(axes)
    assert caveat.endswith(', '.join(str(c + 1) for c in axes))


def test_charged_cells_have_no_dipole_moment_of_their_own(molecule_state):
    assert origin_caveat(molecule_state) == ''
    ion = molecule_state.new(charge=-1.0)
    assert 'depends on the origin: the cell has a charge of -1' in origin_caveat(ion)
