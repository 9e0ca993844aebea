import csv

import numpy as np
import pytest
import torch

from ase_deepdensity.model import DensityModel
from ase_deepdensity.training.checkpoint import CheckpointError
from ase_deepdensity.training.config import TrainingConfig
from ase_deepdensity.training.loop import Trainer, TrainingError


def train(dataset, out, config, **kwargs) -> DensityModel:
    return Trainer(dataset, out, config, progress=False, **kwargs).run()


def curve(path) -> list[list[float]]:
    with open(path) as file:
        return [[float(x) for x in row] for row in list(csv.reader(file))[1:]]


def weights(model: DensityModel) -> torch.Tensor:
    return torch.cat([p.flatten() for p in model.network.parameters()])


@pytest.fixture(scope='module')
def trained(dataset, tmp_path_factory):
    """A training from beginning to end: its model and its files."""
    from tests.training.conftest import SETTINGS

    folder = tmp_path_factory.mktemp('trained')
    config = TrainingConfig(steps=30, **SETTINGS)
    return train(dataset, folder / 'm.safetensors', config), folder


def test_it_learns(trained, dataset, config, tmp_path):
    model, folder = trained
    untrained = Trainer(dataset, tmp_path / 'u.safetensors', config, progress=False)
    start = untrained.score(untrained.validation)
    rows = curve(folder / 'm.csv')
    assert [row[0] for row in rows] == [10, 20, 30]
    assert rows[-1][3] < 0.5 * start.nmae, 'validation NMAE does not fall'
    assert rows[-1][4] < 0.5 * start.matrix_error, 'validation ε_D does not fall'
    assert (folder / 'm.png').read_bytes()[:4] == b'\x89PNG'
    assert model.card['validation']['NMAE of ñ, %'] == min(row[3] for row in rows)


def test_several_snapshots_in_a_step_make_the_mean_of_their_gradients(dataset, config, tmp_path):
    gradients = []
    for batch, steps in (1, 4), (4, 1):
        settings = config.to_dict() | {'batch': batch, 'clip': 1e9, 'stride': 1, 'matrix_weight': 0.0, 'averaging': 0.0}
        trainer = Trainer(dataset, tmp_path / f'{batch}.safetensors', TrainingConfig(**settings), progress=False)
        gradients.append(sum(_gradient(trainer, step) for step in range(steps)) / steps)
    torch.testing.assert_close(gradients[1], gradients[0], rtol=1e-4, atol=1e-4 * float(gradients[0].abs().max()))


def _gradient(trainer: Trainer, step: int) -> torch.Tensor:
    """Of one step, whose change of the weights is taken back."""
    before = {k: v.clone() for k, v in trainer.network.state_dict().items()}
    trainer._step(step)
    trainer.network.load_state_dict(before)
    return torch.cat([p.grad.flatten() for p in trainer.network.parameters() if p.grad is not None])


def test_same_seed_same_model(trained, dataset, config, tmp_path):
    again = train(dataset, tmp_path / 'm.safetensors', config)
    assert torch.equal(weights(again), weights(trained[0]))
    other = train(dataset, tmp_path / 'o.safetensors', TrainingConfig(**config.to_dict() | {'seed': 1}))
    assert not torch.equal(weights(other), weights(trained[0]))


class KilledError(Exception):
    """Stands for kill -9: nothing is tidied up."""


def test_continues_after_a_kill_along_the_same_curve(trained, dataset, config, tmp_path, monkeypatch):
    out = tmp_path / 'm.safetensors'
    step = Trainer._step

    def killed_at_17(self, number):
        if number == 17:
            raise KilledError
        return step(self, number)

    monkeypatch.setattr(Trainer, '_step', killed_at_17)
    with pytest.raises(KilledError):
        train(dataset, out, config)
    monkeypatch.undo()
    trainer = Trainer(dataset, out, config, progress=False)
    assert trainer.start == 10
    model = trainer.run()
    assert curve(tmp_path / 'm.csv') == curve(trained[1] / 'm.csv')
    assert torch.equal(weights(model), weights(trained[0]))


def test_a_checkpoint_of_another_training_is_refused(trained, dataset, config):
    changed = TrainingConfig(**config.to_dict() | {'learning_rate': 0.02})
    with pytest.raises(CheckpointError, match=r'learning_rate: 0.01 then, 0.02 now'):
        Trainer(dataset, trained[1] / 'm.safetensors', changed, progress=False)


def test_a_damaged_checkpoint_is_refused(dataset, config, tmp_path):
    (tmp_path / 'm.checkpoint').write_bytes(b'PK nothing')
    with pytest.raises(CheckpointError, match='damaged'):
        Trainer(dataset, tmp_path / 'm.safetensors', config, progress=False)


def test_fine_tuning_starts_from_the_model(dataset, config, tiny_model, tmp_path):
    start = Trainer(dataset, tmp_path / 'f.safetensors', config, init=tiny_model, progress=False)
    assert torch.equal(weights(tiny_model), torch.cat([p.detach().flatten() for p in start.network.parameters()]))
    scratch = Trainer(dataset, tmp_path / 's.safetensors', config, progress=False)
    assert start.score(start.validation).nmae < 1e-3, 'the model that made the data'
    assert scratch.score(scratch.validation).nmae > 0.1


def test_minutes_choose_the_steps(dataset, config, tmp_path):
    short = TrainingConfig(**config.to_dict() | {'minutes': 0.05, 'validate_every': 1000})
    model = train(dataset, tmp_path / 'm.safetensors', short)
    assert 41 <= model.card['training']['steps'] < 10000
    assert model.card['validation']['step'] == model.card['training']['steps']


def test_nan_stops_with_the_cause(dataset, config, tmp_path):
    trainer = Trainer(dataset, tmp_path / 'm.safetensors', config, progress=False)
    trainer.training[0].target_R.fill_(np.nan)
    with pytest.raises(TrainingError, match=rf'loss is nan.*{trainer.training[0].name}'):
        trainer.run()
