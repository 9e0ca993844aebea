"""What is printed of an object is short, and shows numbers of numpy like those of Python."""

import base64
import re

import numpy as np
import pytest

from ase_deepdensity.analysis.compare import compare
from ase_deepdensity.analysis.scores import score
from ase_deepdensity.calculator import DeepDensity
from ase_deepdensity.dataset import Dataset, Snapshot
from ase_deepdensity.dataset.files import write_snapshot
from ase_deepdensity.grid import Grid
from ase_deepdensity.model import DensityModel


@pytest.fixture(scope='module')
def snapshot(molecule_calc):
    from ase_deepdensity.state import PAWDensity

    density = PAWDensity.from_gpaw(molecule_calc)
    return Snapshot(density, np.float64(-12.5), np.zeros((3, 3)), np.zeros(3), np.int64(9), np.float32(1.5))


def test_state_and_snapshot(snapshot):
    density = snapshot.density
    size = '×'.join(map(str, density.grid.shape))
    head, *lines = repr(density).splitlines()
    assert head == f'PAWDensity(OH2, {size} grid points, level gpaw)'
    assert '  electrons  8.0000 (valence)' in lines and lines[-1] == '  to see it  .plot(), .view()'
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
    head, network, _ = repr(tiny_model).splitlines()
    assert head == "DensityModel('tiny', H O, level dzp)"
    assert network == f'  network    equivariant, {tiny_model.number_of_parameters()} parameters'
    html = tiny_model._repr_html_()
    assert html.count('<span') == 2 and '>H</span>' in html


def test_shipped_model_tells_its_errors():
    model = DensityModel.load('water-pbe-dzp')
    lines = repr(model).splitlines()
    assert '  trained    on 128 snapshots' in lines
    assert sum(line.startswith('  error ') for line in lines) == len(model.card['measured'])
    assert lines[-1] == "  to use it  DeepDensity('water-pbe-dzp')"


def test_calculator_and_its_picture(tiny_model, water):
    calc = DeepDensity(tiny_model, gpts=(16, 16, 16))
    assert repr(calc).startswith(
        "DeepDensity('tiny', gpts=(16, 16, 16))\n  elements   H O, level dzp\n  atoms      none yet"
    )
    assert '<img' not in calc._repr_html_()
    water.calc = calc
    water.get_dipole_moment()
    assert f'  atoms      {water.symbols}' in repr(calc)
    assert is_png(calc._repr_html_())


def test_dataset(snapshot, tmp_path):
    write_snapshot(tmp_path / 'one.h5', snapshot)
    dataset = Dataset(tmp_path)
    assert repr(dataset).splitlines() == [
        f'Dataset(1 snapshots in {tmp_path})',
        '  level      gpaw (gpaw)',
        '  the first  OH2',
        '  to see it  dataset[0].density.plot(), .view()',
    ]
    assert is_png(dataset._repr_html_())
    (tmp_path / 'one.h5').write_bytes(b'spoiled')
    assert 'unreadable' in repr(dataset) and '<img' not in dataset._repr_html_()


def test_a_block_of_a_grid_has_no_picture(snapshot):
    density = snapshot.density
    block = next(density.grid.slabs(1))
    part = density.new(grid=block, nt_sR=density.nt_sR[:, :1])
    assert 'electrons  ' not in repr(part) and '<img' not in part._repr_html_()
    assert is_png(density._repr_html_())


def is_png(html: str) -> bool:
    return base64.b64decode(re.search(r'src="data:image/png;base64,([^"]*)"', html)[1]).startswith(b'\x89PNG')


def test_reports(snapshot):
    density = snapshot.density
    scores = score(lambda *_: density, snapshot, name='one')
    for report in compare(density, density), scores:
        assert 'np.' not in repr(report)
    assert type(scores.electrons) is float
