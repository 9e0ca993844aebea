"""What is printed of an object is short, and shows numbers of numpy like those of Python."""

import numpy as np
import pytest

from ase_deepdensity.analysis.compare import compare
from ase_deepdensity.analysis.scores import score
from ase_deepdensity.dataset import Snapshot
from ase_deepdensity.grid import Grid


@pytest.fixture(scope='module')
def snapshot(molecule_calc):
    from ase_deepdensity.state import PAWDensity

    density = PAWDensity.from_gpaw(molecule_calc)
    return Snapshot(density, np.float64(-12.5), np.zeros((3, 3)), np.zeros(3), np.int64(9), np.float32(1.5))


def test_state_and_snapshot(snapshot):
    density = snapshot.density
    size = '×'.join(map(str, density.grid.shape))
    assert repr(density) == f'PAWDensity(OH2, {size} grid points, level gpaw)'
    assert repr(snapshot) == 'Snapshot(OH2, -12.500000 eV, 9 iterations in 1.5 s, level gpaw)'
    assert [type(x) for x in (snapshot.energy, snapshot.niter, snapshot.seconds)] == [float, int, float]


def test_grid():
    grid = Grid(np.eye(3) * 4.0, np.array([8, 8, 9]), (True, True, False))
    assert repr(grid) == (
        'Grid(8×8×9 intervals, cell [[4.0, 0.0, 0.0], [0.0, 4.0, 0.0], [0.0, 0.0, 4.0]] Å, pbc [True, True, False], '
        'zero boundaries [False, False, True])'
    )
    slab = next(grid.slabs(8 * 8 * 4))
    assert repr(slab).endswith(', block [0, 0, 1] to [4, 8, 9])')


def test_model(tiny_model):
    assert repr(tiny_model) == "DensityModel('tiny', H O, level dzp)"


def test_reports(snapshot):
    density = snapshot.density
    scores = score(lambda *_: density, snapshot, name='one')
    for report in compare(density, density), scores:
        assert 'np.' not in repr(report)
    assert type(scores.electrons) is float
