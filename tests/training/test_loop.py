import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch
from ase import Atoms

from ase_deepdensity.analysis.scores import mean_scores, model_means, reference_spreads, score
from ase_deepdensity.cli.main import main
from ase_deepdensity.codes import code_of
from ase_deepdensity.collocation.superposition import superpose
from ase_deepdensity.dataset import Dataset, Snapshot, write_snapshot
from ase_deepdensity.level import Level
from ase_deepdensity.model import DensityModel
from ase_deepdensity.predict import Predictor
from ase_deepdensity.state import PAWDensity
from ase_deepdensity.training.checkpoint import CheckpointError
from ase_deepdensity.training.config import TrainingConfig
from ase_deepdensity.training.data import Cache, TrainingData
from ase_deepdensity.training.descent import relative_rate
from ase_deepdensity.training.loop import Trainer, TrainingError
from tests.scf.conftest import DZP
from tests.tiny import build_model, water_box
from tests.training.conftest import SETTINGS, curve, weights

pytestmark = pytest.mark.filterwarnings('ignore::ase_deepdensity.checks.UnfamiliarWarning')


def train(dataset, out, config, **kwargs) -> DensityModel:
    return Trainer(dataset, out, config, progress=False, **kwargs).run()


@pytest.fixture(scope='module')
def trained(dataset, tmp_path_factory):
    """A training from beginning to end: its model and its files."""
    folder = tmp_path_factory.mktemp('trained')
    config = TrainingConfig(steps=30, **SETTINGS)
    return train(dataset, folder / 'm.safetensors', config), folder


def test_it_learns(trained, dataset, config, tmp_path):
    model, folder = trained
    untrained = Trainer(dataset, tmp_path / 'u.safetensors', config, progress=False)
    start = untrained.score(untrained.network, untrained.validation)
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


def test_validation_on_other_snapshots(trained, dataset, config, tmp_path):
    """On those that would have been set aside it is the same training."""
    training, validation = dataset.split(1, seed=config.seed)
    config = replace(config, validation=None)
    model = train(training, tmp_path / 'm.safetensors', config, validate_on=validation)
    assert curve(tmp_path / 'm.csv') == curve(trained[1] / 'm.csv')
    assert torch.equal(weights(model), weights(trained[0]))
    with pytest.raises(CheckpointError, match=r'the last 1 to validate on\) then|the last 1 to validate on then'):
        Trainer(dataset, tmp_path / 'm.safetensors', config, progress=False)
    with pytest.raises(TrainingError, match=r'h5 is to be trained on and to validate on; it cannot be both'):
        Trainer(dataset, tmp_path / 'n.safetensors', config, validate_on=validation)
    with pytest.raises(TrainingError, match='validation: 2 snapshots, or a data set to validate on, not both'):
        Trainer(training, tmp_path / 'n.safetensors', replace(config, validation=2), validate_on=validation)
    assert not (tmp_path / 'n.safetensors').exists()


def test_elements_that_are_validated_on_only(dataset, config, fluorides, tmp_path):
    with pytest.raises(TrainingError, match='the data to validate on have F, which nothing is trained on'):
        Trainer(dataset, tmp_path / 'n.safetensors', replace(config, validation=None), validate_on=fluorides)


class KilledError(Exception):
    """Stands for a kill between two steps; ``test_kills.py`` has real ones."""


def dying_at(last: int, step):
    def dying(self, number):
        if number == last:
            raise KilledError
        return step(self, number)

    return dying


def test_continues_after_a_kill_along_the_same_curve(trained, dataset, config, tmp_path, monkeypatch):
    out = tmp_path / 'm.safetensors'
    monkeypatch.setattr(Trainer, '_step', dying_at(17, Trainer._step))
    with pytest.raises(KilledError):
        train(dataset, out, config)
    monkeypatch.undo()
    trainer = Trainer(dataset, out, config, progress=False)
    assert trainer.start == 10
    model = trainer.run()
    assert curve(tmp_path / 'm.csv') == curve(trained[1] / 'm.csv')
    assert torch.equal(weights(model), weights(trained[0]))


def test_what_is_missing_or_damaged_is_made_from_the_checkpoint(trained, dataset, config, tmp_path):
    for file in trained[1].iterdir():
        shutil.copy(file, tmp_path)
    (tmp_path / 'm.csv').write_text('step')
    (tmp_path / 'm.safetensors').write_bytes(b'half')
    model = train(dataset, tmp_path / 'm.safetensors', config)
    assert (tmp_path / 'm.csv').read_bytes() == (trained[1] / 'm.csv').read_bytes()
    assert torch.equal(weights(model), weights(trained[0]))
    model.card['measured'] = 'by someone'
    model.save(tmp_path / 'm.safetensors')
    assert train(dataset, tmp_path / 'm.safetensors', config).card['measured'] == 'by someone'


def test_evaluate_gives_the_figures_of_the_curve(trained, dataset, tmp_path):
    """On the validation snapshots: last row or best row, card, and ``deepdensity evaluate``."""
    model, folder = trained
    _, validation = dataset.split(1, seed=0)
    files = [str(file) for file in validation.files]
    assert main(['evaluate', str(folder / 'm.safetensors'), *files, '--json', str(tmp_path / 'e.json')]) == 0
    mean = json.loads((tmp_path / 'e.json').read_text())['mean']
    best = min(curve(folder / 'm.csv'), key=lambda row: row[3])
    assert mean['nmae'] == pytest.approx(best[3], rel=1e-4)
    assert mean['epsilon_D']['total'] == pytest.approx(best[4], rel=1e-4)
    assert model.card['validation'] == {'step': best[0], 'NMAE of ñ, %': best[3], 'ε_D': best[4]}


def test_score_of_several_snapshots_is_that_of_evaluate(trained, dataset, config, tmp_path):
    """Molecules between zero boundaries and periodic boxes, in torch and in NumPy."""
    model = trained[0]
    trainer = Trainer(dataset, tmp_path / 'm.safetensors', config, init=model, progress=False)
    reached = trainer.score(trainer.network, TrainingData(dataset, trainer.network, trainer.atom_types, Cache()))
    means = model_means(model)
    spreads = reference_spreads(dataset, means)
    predict = Predictor(model).predict
    mean = mean_scores([score(predict, snapshot, means, spreads=spreads) for snapshot in dataset])
    assert reached.nmae == pytest.approx(mean['nmae'], rel=1e-4)
    assert reached.matrix_error == pytest.approx(mean['epsilon_D']['total'], rel=1e-4)


def test_learning_rate_in_the_curve(trained, config):
    rates = [row[5] for row in curve(trained[1] / 'm.csv')]
    assert rates == pytest.approx([config.learning_rate * relative_rate(step, 5, step / 30) for step in (9, 19, 29)])
    assert config.learning_rate > rates[0] > rates[1] > rates[2]


def test_a_training_begins_near_the_means_of_the_elements(dataset, config, tmp_path):
    trainer = Trainer(dataset, tmp_path / 'm.safetensors', config, progress=False)
    reached = trainer.score(trainer.network, trainer.validation)
    for head in [*trainer.network.coefficients.readout_lsck, *trainer.network.matrices.parameters()]:
        head.data.zero_()
    means = trainer.score(trainer.network, trainer.validation)
    assert means.matrix_error == pytest.approx(1, abs=1e-5)
    assert reached.nmae < 2 * means.nmae
    assert reached.matrix_error < 2


def test_changed_data_are_another_training(trained, dataset, config, tmp_path):
    """The same names, one density scaled by a millionth of a millionth."""
    for file in [*trained[1].iterdir(), *dataset.files]:
        shutil.copy(file, tmp_path)
    snapshot = dataset[2]
    density = snapshot.density.new(nt_sR=snapshot.density.nt_sR * (1 + 1e-12))
    write_snapshot(tmp_path / dataset.files[2].name, replace(snapshot, density=density))
    with pytest.raises(CheckpointError, match=r'snapshots: 5 \(content \w+\) then, 5 \(content \w+\) now'):
        Trainer(Dataset(tmp_path), tmp_path / 'm.safetensors', config, progress=False)


def test_restart_forgets_the_checkpoint(trained, dataset, config, tmp_path):
    shutil.copy(trained[1] / 'm.checkpoint', tmp_path)
    settings = TrainingConfig(**config.to_dict() | {'validation': 9})
    with pytest.raises(ValueError, match='can be set aside'):
        Trainer(dataset, tmp_path / 'm.safetensors', settings, progress=False, restart=True)
    assert (tmp_path / 'm.checkpoint').exists(), 'an error loses nothing'
    trainer = Trainer(dataset, tmp_path / 'm.safetensors', config, progress=False, restart=True)
    assert trainer.start == 0 and not (tmp_path / 'm.checkpoint').exists()


def test_a_checkpoint_of_an_earlier_version(trained, dataset, config, tmp_path):
    content = torch.load(trained[1] / 'm.checkpoint')
    del content['version'], content['seconds']
    torch.save(content, tmp_path / 'm.checkpoint')
    with pytest.raises(CheckpointError, match=r'a checkpoint of version 1; .* continues version 3 only'):
        Trainer(dataset, tmp_path / 'm.safetensors', config, progress=False)


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
    assert start.score(start.network, start.validation).nmae < 1e-3, 'the model that made the data'
    assert scratch.score(scratch.network, scratch.validation).nmae > 0.1


@pytest.mark.parametrize('xc', ['PBE', 'RPBE'])
def test_fine_tuning_to_some_elements_keeps_the_others(dataset, config, tiny_model, tiny_file, tmp_path, xc):
    """Hydrogen alone: oxygen stays in the model with its superposition, its mean matrix and what is familiar.

    So it does at another level, whose superposition of oxygen's atom is its own.
    """
    level = code_of(tiny_model.level).check(replace(Level.load('dzp'), parameters=DZP | {'xc': xc}), [1])
    hydrogen = Atoms('H4', 1.4 * np.array([[0, 0, 0], [0.6, 0, 0], [0, 2, 0], [0, 2.6, 0.1]]), cell=[4, 5, 3], pbc=True)
    predictor = Predictor(tiny_model)
    (tmp_path / 'h').mkdir()
    for seed in range(3):
        hydrogen.rattle(0.05, seed=seed)
        density = predictor.density(predictor.coefficients(hydrogen), predictor.grid(hydrogen, h=0.35))
        snapshot = Snapshot(density.new(level=level), 0.0, np.zeros((4, 3)), np.zeros(3), 1, 1.0)
        write_snapshot(tmp_path / 'h' / f'{seed}.h5', snapshot)
    settings = TrainingConfig(**config.to_dict() | {'steps': 2})
    model = train(Dataset(tmp_path / 'h'), tmp_path / 'm.safetensors', settings, init=tiny_model)
    assert model.species == (1, 8)
    other = 0.0 if xc == 'PBE' else 1e-3
    np.testing.assert_allclose(model.superposition[8].table_xp, tiny_model.superposition[8].table_xp, other, other)
    torch.testing.assert_close(model.network.mean_zii[8], tiny_model.network.mean_zii[8])
    before, after = DensityModel.load(tiny_file).familiarity.state_dict(), model.familiarity.state_dict()
    assert all(torch.equal(after[name][1], before[name][1]) for name in before)
    assert not any(torch.equal(after[name][0], before[name][0]) for name in before)
    assert model.level.versions['datasets'].keys() == {'H', 'O'}
    assert model.level.parameters['xc'] == xc
    assert torch.equal(model.network.input_scale_lx, tiny_model.network.input_scale_lx)
    assert np.isfinite(Predictor(model, extrapolate=True).predict(water_box((1, 1, 1))).nt_sR).all()


def test_elements_that_the_first_network_cannot_take(dataset, config, tmp_path):
    hydrogen = build_model(Level.load('dzp'), species=(1,))
    with pytest.raises(
        TrainingError, match=r'the data set has O, which tiny does not know \(it knows H\).* \(equivariant\) cannot'
    ):
        Trainer(dataset, tmp_path / 'm.safetensors', config, init=hydrogen, progress=False)
    assert list(tmp_path.iterdir()) == [], 'no lock stays'


UNIVERSAL = {
    'cutoff': 3.5, 'lmax': 2, 'radial': 4, 'channels': 8, 'message_channels': 4, 'pseudo_channels': 4,
    'element_size': 8, 'neighbor_size': 4,
}  # fmt: skip


@pytest.fixture
def fluorides(tmp_path) -> Dataset:
    """Superpositions of the atoms of hydrogen fluoride."""
    level = code_of(Level.load('dzp')).check(Level.load('dzp'), [1, 9])
    (tmp_path / 'hf').mkdir()
    for seed in range(3):
        atoms = Atoms('HFHF', [[0, 0, 0], [0.9, 0.1, 0], [0, 2, 0], [0.1, 2.9, 0.2]], cell=[4, 4.5, 3.5], pbc=True)
        atoms.rattle(0.05, seed=seed)
        types = code_of(level).atom_types(level, atoms.numbers)
        grid = code_of(level).grid(level, atoms, h=0.35)
        tables = {atom_type.number: atom_type.nt for atom_type in types}
        nt_sR = superpose(grid, atoms.positions, atoms.numbers, tables)[np.newaxis]
        D_asii = [atom_type.D_ii[np.newaxis] for atom_type in types]
        density = PAWDensity(atoms, grid, nt_sR, D_asii, level, atom_types=types).normalized()
        snapshot = Snapshot(density, 0.0, np.zeros((4, 3)), np.zeros(3), 1, 1.0)
        write_snapshot(tmp_path / 'hf' / f'{seed}.h5', snapshot)
    return Dataset(tmp_path / 'hf')


def test_fine_tuning_to_new_elements(dataset, config, fluorides, tmp_path):
    """Water learns fluorine: what it says of water is the same at first, and oxygen stays in the model."""
    settings = config.to_dict() | {'network': 'universal', 'hypers': UNIVERSAL, 'steps': 3}
    water = train(dataset, tmp_path / 'w.safetensors', TrainingConfig(**settings))
    trainer = Trainer(fluorides, tmp_path / 'f.safetensors', TrainingConfig(**settings), init=water, progress=False)
    system = TrainingData(dataset, trainer.network, trainer.atom_types, Cache())[1].system
    with torch.no_grad():
        before, after = water.network(system), trainer.network(system)
    assert before.D_zesaii.keys() == after.D_zesaii.keys()
    assert all(torch.equal(after.D_zesaii[Z], before.D_zesaii[Z]) for Z in before.D_zesaii)
    model = trainer.run()
    assert model.species == (1, 8, 9) and set(model.atom_types) == {1, 8, 9}
    before, after = water.familiarity.state_dict(), model.familiarity.state_dict()
    assert all(torch.equal(after[name][1], before[name][1]) for name in before), 'oxygen'
    assert not torch.equal(after['mean_sc'][0], before['mean_sc'][0]), 'hydrogen'
    loaded = DensityModel.load(tmp_path / 'f.safetensors')
    assert np.isfinite(Predictor(loaded, extrapolate=True).predict(fluorides[0].atoms).nt_sR).all()


class SlowMachine:
    """A clock for a machine on which nothing takes the same time twice."""

    def __init__(self):
        self.time = 0.0

    def __call__(self) -> float:
        return self.time

    def step(self, trainer, number, step=Trainer._step):
        self.time += 1.0 if number < 40 else 4.0  # another program has started
        return step(trainer, number)

    def score(self, trainer, network, data, score=Trainer.score):
        self.time += 9.0
        return score(trainer, network, data)


@pytest.fixture
def machine(monkeypatch):
    machine = SlowMachine()
    monkeypatch.setattr('ase_deepdensity.training.clock.now', machine)
    monkeypatch.setattr(Trainer, '_step', lambda self, number: machine.step(self, number))
    monkeypatch.setattr(Trainer, 'score', lambda self, network, data: machine.score(self, network, data))
    return machine


@pytest.mark.parametrize('validate_every', [20, 1000])
def test_minutes_are_kept_on_a_machine_that_slows_down(dataset, config, tmp_path, machine, validate_every):
    settings = TrainingConfig(**config.to_dict() | {'minutes': 2.0, 'validate_every': validate_every})
    trainer = Trainer(dataset, tmp_path / 'm.safetensors', settings, progress=False)
    machine.time += 10  # as if reading the data took as long
    trainer.run()
    assert machine.time == pytest.approx(120, abs=13)
    rows = curve(tmp_path / 'm.csv')
    assert rows[-1][5] < 0.1 * config.learning_rate, 'the learning rate has fallen'
    assert 45 < rows[-1][0] < 70


def test_time_used_before_a_kill_counts(dataset, config, tmp_path, machine, monkeypatch):
    settings = TrainingConfig(**config.to_dict() | {'minutes': 1.0, 'validate_every': 10})
    step = Trainer._step
    monkeypatch.setattr(Trainer, '_step', dying_at(17, step))
    with pytest.raises(KilledError):
        train(dataset, tmp_path / 'm.safetensors', settings)
    assert machine.time == 17 + 9
    monkeypatch.setattr(Trainer, '_step', step)
    machine.time = 1000.0
    train(dataset, tmp_path / 'm.safetensors', settings)
    assert machine.time - 1000.0 == pytest.approx(60 - (10 + 9), abs=5)
    machine.time = 2000.0
    train(dataset, tmp_path / 'm.safetensors', settings)
    assert machine.time == 2000.0, 'a finished training goes no further'


def test_too_little_time_is_one_step(dataset, config, tmp_path, machine):
    settings = TrainingConfig(**config.to_dict() | {'minutes': 0.001})
    assert train(dataset, tmp_path / 'm.safetensors', settings).card['validation']['step'] == 1


def test_nan_stops_with_the_cause(dataset, config, tmp_path):
    trainer = Trainer(dataset, tmp_path / 'm.safetensors', config, progress=False)
    trainer.training.target(0).density_sR.fill_(np.nan)
    with pytest.raises(TrainingError, match=rf'loss is nan.*{trainer.training[0].name}'):
        trainer.run()
