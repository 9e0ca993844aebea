import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, fcc111, molecule

from ase_deepdensity import geometry, memory
from ase_deepdensity.geometry import GeometryError, atoms_outside, check_geometry, check_grid_memory
from ase_deepdensity.grid import Grid
from ase_deepdensity.memory import TooLargeError, physical_memory


@pytest.mark.parametrize(
    'atoms', [bulk('Al'), molecule('C6H6', vacuum=3), fcc111('Al', (2, 2, 3), vacuum=4, periodic=True)]
)
def test_geometries(atoms):
    check_geometry(atoms)


@pytest.mark.parametrize(
    ('atoms', 'message'),
    [
        (Atoms(cell=[3] * 3), 'there are no atoms'),
        (Atoms('H2', [[0, 0, 0], [0, np.inf, 0]], cell=[3] * 3), r'positions of atoms \[1\] are not finite'),
        (Atoms('H'), 'three independent lattice vectors.*center'),
        (Atoms('H', cell=[3, 3, np.nan]), 'three independent lattice vectors'),
        (Atoms('H', cell=[1e-9] * 3, pbc=True), r'at least 0.1 Å high .* the heights of .* are \[1e-09'),
        (Atoms('H', cell=[1e3, 1e3, 0.05], pbc=True), 'at least 0.1 Å high'),
        (Atoms('H', cell=[3, 3, 1e7]), r'vectors of at most 1e\+06 Å'),
        (Atoms('H2', [[0, 0, 0], [0, 0, 0.02]], cell=[3] * 3), r'0 \(H\) and 1 \(H\) overlap: they are 0.020 Å apart'),
        (Atoms('H2', [[0, 0, 0], [0, 0, 2.98]], cell=[3] * 3, pbc=True), r'0 \(H\) and 1 \(H\) overlap'),
        (Atoms('Al', cell=[3, 3, 1], pbc=True), r'atom 0 \(Al\) overlaps its own image: they are 1.000 Å apart'),
    ],
)
def test_what_is_no_geometry(atoms, message):
    with pytest.raises(GeometryError, match=message):
        check_geometry(atoms)


def test_outside_by_rounding_and_by_more():
    atoms = Atoms('H3', [[0, 0, -1e-18], [1, 0, 4 + 1e-12], [9, 1, 2]], cell=[[4, 0, 0], [1, 4, 0], [0, 2, 4]])
    atoms.pbc = (True, False, False)
    atoms.positions[0] -= 1e-17
    assert atoms_outside(atoms) == [1], 'atom 1 is beyond the second vector'
    atoms.positions[0, 2] = -1e-4
    assert atoms_outside(atoms) == [0, 1]
    atoms.pbc = True
    assert atoms_outside(atoms) == []


def test_memory(monkeypatch):
    grid = Grid(4 * np.eye(3), (100, 50, 40))
    monkeypatch.setattr(memory, 'physical_memory', lambda: 2 * 2**20)
    with pytest.raises(
        TooLargeError, match='density on 100 × 50 × 40 grid points would take 0.00596 GiB .* has 0.00195 GiB'
    ):
        check_grid_memory(grid)
    check_grid_memory(grid, max_points=1)
    check_grid_memory(grid, max_points=60000)
    with pytest.raises(TooLargeError):
        check_grid_memory(grid, max_points=70000)
    with pytest.raises(TooLargeError, match='on 1000 × 500 × 400 grid points'):
        check_grid_memory(grid, refinement=10)
    monkeypatch.setattr(memory, 'physical_memory', lambda: None)
    check_grid_memory(grid, refinement=10**6)
    assert geometry.BYTES_PER_POINT == 32


def test_this_machine_has_memory():
    there = physical_memory()
    assert there is None or 2**28 < there < 2**50
