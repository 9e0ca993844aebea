from dataclasses import replace

import pytest

from ase_deepdensity.cli.main import main
from ase_deepdensity.dataset import Dataset, write_snapshot
from ase_deepdensity.model import DensityModel
from tests.training.conftest import teacher  # noqa: F401  (a fixture)
from tests.training.test_adapt import snapshots_of

pytestmark = pytest.mark.filterwarnings('ignore::ase_deepdensity.checks.UnfamiliarWarning')


@pytest.fixture
def folder(tmp_path, teacher, tiny_file, monkeypatch):  # noqa: F811
    monkeypatch.chdir(tmp_path)
    (tmp_path / 'data').mkdir()
    for t, snapshot in enumerate(snapshots_of(teacher, 2)):
        normalized = replace(snapshot, density=snapshot.density.normalized())
        write_snapshot(tmp_path / 'data' / f'{t}.h5', normalized)
    (tmp_path / 'm.safetensors').symlink_to(tiny_file)
    return tmp_path


def test_adapt(folder, capsys):
    assert main(['adapt', 'm.safetensors', 'data', '--out', 'mine']) == 0
    assert 'mine.safetensors: NMAE' in capsys.readouterr().out
    assert DensityModel.load('mine.safetensors').name == 'mine'
    assert len(Dataset('data')) == 2


def test_errors(folder, capsys):
    before = (folder / 'm.safetensors').read_bytes()
    for arguments, message in (
        (['nobody', 'data', '--out', 'x'], "no model 'nobody'"),
        (['m.safetensors', 'none', '--out', 'x'], 'none: no such'),
        (['m.safetensors', 'data', '--out', 'm'], 'is the model itself'),
        (['m.safetensors', 'data', '--out', ''], '--out must be the name of a model file'),
    ):
        assert main(['adapt', *arguments]) == 2
        assert message in capsys.readouterr().err
    assert (folder / 'm.safetensors').read_bytes() == before
    assert not (folder / 'x.safetensors').exists()
