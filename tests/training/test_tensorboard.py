"""What TensorBoard shows is the learning curve."""

import sys

import pytest

from ase_deepdensity.cli.main import main
from ase_deepdensity.training.config import TrainingConfig
from ase_deepdensity.training.loop import Trainer
from tests.training.conftest import SETTINGS, curve


def shown(folder) -> dict[str, list[tuple[int, float]]]:
    accumulator = pytest.importorskip('tensorboard.backend.event_processing.event_accumulator')
    events = accumulator.EventAccumulator(str(folder))
    events.Reload()
    return {tag: [(event.step, event.value) for event in events.Scalars(tag)] for tag in events.Tags()['scalars']}


def test_it_shows_the_curve_once_also_after_a_second_run(dataset, tmp_path):
    config = TrainingConfig(steps=20, **SETTINGS)
    for _ in range(2):
        out, board = tmp_path / 'm.safetensors', tmp_path / 'board'
        Trainer(dataset, out, config, progress=False, tensorboard=board).run()
        rows = curve(tmp_path / 'm.csv')
        found = shown(board)
        assert set(found) == {f'{e}/{p}' for e in ('nmae', 'matrix') for p in ('training', 'validation')} | {
            'learning_rate'
        }
        assert found['nmae/validation'] == [(row[0], pytest.approx(row[3])) for row in rows]
        assert found['learning_rate'] == [(row[0], pytest.approx(row[5])) for row in rows]


def test_without_the_package_nothing_begins(tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, 'tensorboard', None)
    monkeypatch.chdir(tmp_path)
    assert main(['train', 'data', '--out', 'm', '--tensorboard', 'board']) == 2
    assert 'pip install "ase_deepdensity[tensorboard]"' in capsys.readouterr().err
    assert not list(tmp_path.iterdir())
