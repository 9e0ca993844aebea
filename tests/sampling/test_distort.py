import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk

from ase_deepdensity.sampling.distort import dilated, displaced, overlaps, rattled, strained, supercell, with_vacancy

pytestmark = pytest.mark.filterwarnings('ignore:Set OLD_ERROR_HANDLING:DeprecationWarning')  # spglib's


def rng() -> np.random.Generator:
    return np.random.default_rng(3)


def test_the_same_seed_gives_the_same_geometry():
    crystal = bulk('NaCl', 'rocksalt', 5.6)
    for distortion in strained, rattled, dilated, with_vacancy:
        first, second = distortion(crystal, rng()), distortion(crystal, rng())
        assert first == second and first != crystal, distortion.__name__


def test_rattling_keeps_the_centre_and_the_size_asked_for():
    crystal = bulk('Cu', cubic=True).repeat(4)
    displacement_av = rattled(crystal, rng(), size=0.05).positions - crystal.positions
    assert displacement_av.mean(axis=0) == pytest.approx(0, abs=1e-12)
    assert displacement_av.std() == pytest.approx(0.05, rel=0.05)


def test_straining_keeps_relative_positions_and_leaves_no_rotation():
    crystal = bulk('NaCl', 'rocksalt', 5.6, cubic=True)
    new = strained(crystal, rng())
    assert new.get_scaled_positions() == pytest.approx(crystal.get_scaled_positions())
    assert np.ptp(new.cell.lengths()) > 0.01 and np.abs(new.cell.angles() - 90).min() > 0.05


def test_displacing_keeps_the_symmetry_about_the_main_axis():
    spglib = pytest.importorskip('spglib')
    crystal = bulk('NaCl', 'rocksalt', 5.6)
    new = displaced(crystal, rng())
    displacement_av = new.positions - crystal.positions @ np.linalg.solve(crystal.cell.array, new.cell.array)
    assert np.abs(displacement_av[:, :2]).max() < 1e-12 and np.ptp(displacement_av[:, 2]) > 0.01
    cell = (new.cell.array, new.get_scaled_positions(), new.numbers)
    assert len(spglib.get_symmetry(cell)['rotations']) == 8  # C4v


@pytest.mark.parametrize(('max_atoms', 'natoms'), [(1, 1), (2, 2), (7, 4), (8, 8), (12, 12)])
def test_supercells(max_atoms, natoms):
    crystal = Atoms('Po', cell=[3, 3.1, 3.2], pbc=True)
    assert len(supercell(crystal, max_atoms)) == natoms
    lengths_c = supercell(crystal, 8).cell.lengths()
    assert lengths_c == pytest.approx([6, 6.2, 6.4])


def test_overlaps():
    assert not overlaps(bulk('Al')) and not overlaps(Atoms('H2', [[0, 0, 0], [0, 0, 0.74]]))
    assert overlaps(bulk('Al', a=2.2)), 'with its own images'
