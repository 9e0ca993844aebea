"""Few snapshots: what belongs to their elements alone is trained, and all else stays as it is."""

from __future__ import annotations

import copy
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from ase import Atoms

from ase_deepdensity.cli.main import main
from ase_deepdensity.dataset import Dataset, Snapshot, write_snapshot
from ase_deepdensity.model import DensityModel
from ase_deepdensity.predict import Predictor
from ase_deepdensity.training.config import TrainingConfig
from ase_deepdensity.training.loop import Trainer, TrainingError
from ase_deepdensity.training.start import FEW_SNAPSHOTS, TUNING, level_for, tuning_defaults
from tests.tiny import build_model, water_box
from tests.training.conftest import curve, weights

pytestmark = pytest.mark.filterwarnings('ignore::ase_deepdensity.checks.UnfamiliarWarning')
SETTINGS = TrainingConfig(**TUNING | {'steps': 40, 'validate_every': 20, 'warmup': 5, 'averaging': 0.9})


def hydrogen(seed: int) -> Atoms:
    atoms = Atoms('H4', [[0, 0, 0], [0.8, 0, 0], [0, 2, 0], [0, 2.8, 0.1]], cell=[4, 4.5, 3.5], pbc=True)
    atoms.rattle(0.05, seed=seed)
    return atoms


@pytest.fixture(scope='module')
def universal(tiny_model) -> DensityModel:
    model = build_model(tiny_model.level, network='universal', element_size=8, neighbor_size=3)
    for name, buffer in model.network.named_buffers():
        if '.scale' in name and '.elements.1.' in name:
            buffer.fill_(0.1)
    return model


@pytest.fixture(scope='module')
def snapshots(universal, tmp_path_factory) -> Dataset:
    """Of hydrogen, by the same model with other weights that are hydrogen's own."""
    folder = tmp_path_factory.mktemp('hydrogen')
    network = copy.deepcopy(universal.network)
    torch.manual_seed(5)
    with torch.no_grad():
        for weight in network.parameters_of([1]):
            weight += 0.2 * torch.randn_like(weight)
    teacher = Predictor(replace(universal, network=network), extrapolate=True)
    for seed in range(3):
        atoms = hydrogen(seed)
        density = teacher.predict(atoms, teacher.grid(atoms, h=0.35))
        write_snapshot(folder / f'{seed}.h5', Snapshot(density, 0.0, np.zeros((4, 3)), np.zeros(3), 1, 1.0))
    return Dataset(folder)


@pytest.fixture(scope='module')
def tuned(universal, snapshots, tmp_path_factory):
    out = tmp_path_factory.mktemp('tuned') / 'm.safetensors'
    return Trainer(snapshots, out, SETTINGS, init=universal, progress=False).run(), out


def test_the_error_falls(universal, snapshots, tuned, tmp_path):
    start = Trainer(snapshots, tmp_path / 'm.safetensors', SETTINGS, init=universal, progress=False)
    before = start.score(start.network, start.validation)
    after = curve(tuned[1].with_suffix('.csv'))[-1]
    assert after[3] < 0.5 * before.nmae and after[4] < 0.5 * before.matrix_error
    assert tuned[0].card['training']['trained'] == 'elements'


def test_other_elements_stay_as_they_are(universal, tuned, tmp_path):
    """To the last bit: weights, tables, what is familiar, and predictions where hydrogen does not occur."""
    model = DensityModel.load(tuned[1])
    old, new = universal.network.state_dict(), model.network.state_dict()
    changed = {name for name in old if not torch.equal(old[name], new[name])}
    assert changed and all(name.startswith('heads.0.elements.1.own.') for name in changed), changed
    assert np.array_equal(model.superposition[8].table_xp, universal.superposition[8].table_xp)
    universal.save(tmp_path / 'u.safetensors')  # files hold distances in fewer digits
    first = DensityModel.load(tmp_path / 'u.safetensors')
    before, after = first.familiarity.state_dict(), model.familiarity.state_dict()
    assert all(torch.equal(after[name], before[name]) for name in before)
    oxygen = Atoms('O2', [[0, 0, 0], [0, 0, 1.3]], cell=[4, 4, 4], pbc=True)
    for atoms, same in (oxygen, True), (water_box((1, 1, 1)), False):
        predictors = [Predictor(m, extrapolate=True) for m in (first, model)]
        densities = [predictor.predict(atoms, predictor.grid(atoms, h=0.35)) for predictor in predictors]
        assert np.array_equal(densities[0].nt_sR, densities[1].nt_sR) == same
        assert np.array_equal(densities[0].D_asii[0], densities[1].D_asii[0]), 'of oxygen, in water too'


def test_a_new_element_gets_weights_and_is_familiar(snapshots, tiny_model, tmp_path):
    oxygen = build_model(tiny_model.level, network='universal', element_size=8, neighbor_size=3, species=(8,))
    settings = replace(SETTINGS, steps=4, validate_every=4)
    model = Trainer(snapshots, tmp_path / 'm.safetensors', settings, init=oxygen, progress=False).run()
    assert model.species == (1, 8)
    before, after = oxygen.familiarity.state_dict(), model.familiarity.state_dict()
    assert torch.equal(after['mean_sc'][1], before['mean_sc'][0])
    assert Predictor(model).unfamiliar(hydrogen(0)).max() < 10
    assert any(weight.any() for weight in model.network.parameters_of([1]))
    assert not any(weight.any() for weight in model.network.parameters_of([8]))


def test_a_killed_tuning_goes_on(universal, snapshots, tuned, tmp_path, monkeypatch):
    out = tmp_path / 'm.safetensors'
    step = Trainer._step

    def killed(trainer, number):
        if number == 30:
            raise KeyboardInterrupt
        return step(trainer, number)

    monkeypatch.setattr(Trainer, '_step', killed)
    with pytest.raises(KeyboardInterrupt):
        Trainer(snapshots, out, SETTINGS, init=universal, progress=False).run()
    monkeypatch.setattr(Trainer, '_step', step)
    again = Trainer(snapshots, out, SETTINGS, init=universal, progress=False)
    assert again.start == 20
    assert torch.equal(weights(again.run()), weights(tuned[0]))


def test_defaults_are_for_few_snapshots_of_a_model_with_weights_of_elements(universal, snapshots, tiny_model):
    assert tuning_defaults(snapshots, universal) == TUNING
    assert tuning_defaults(snapshots, tiny_model) == tuning_defaults(snapshots, None) == {}
    assert tuning_defaults(snapshots[[0, 1, 2] * FEW_SNAPSHOTS], universal) == {}


def test_from_the_command_line(universal, snapshots, tmp_path, capsys):
    """What the settings' file and the options say comes before the defaults for few snapshots."""
    universal.save(tmp_path / 'u.safetensors')
    (tmp_path / 'c.json').write_text('{"validate_every": 4}')
    command = ['train', *map(str, snapshots.files[:2]), '--init', str(tmp_path / 'u.safetensors'), '--quiet']
    command += ['--out', str(tmp_path / 'm'), '--config', str(tmp_path / 'c.json'), '--steps', '8']
    assert main(command) == 0
    out = capsys.readouterr().out
    assert 'only weights of H alone are trained' in out
    assert '1 snapshots to train on, 1 to validate on' in out
    told = DensityModel.load(tmp_path / 'm.safetensors').card['training']
    assert {name: told[name] for name in TUNING} == TUNING | {'steps': 8, 'validate_every': 4}


def test_refused(snapshots, tiny_model, tmp_path):
    with pytest.raises(TrainingError, match=r'is for fine-tuning: name a model to start from \(--init\)'):
        Trainer(snapshots, tmp_path / 'm.safetensors', SETTINGS, progress=False)
    with pytest.raises(TrainingError, match='the elements of EquivariantNetwork have no weights of their own'):
        Trainer(snapshots, tmp_path / 'm.safetensors', SETTINGS, init=tiny_model, progress=False)
    with pytest.raises(ValueError, match="trained must be all or elements, not 'some'"):
        TrainingConfig(trained='some')


def test_loosely_converged_data_make_no_loose_calculations(tiny_model):
    """What seeds are converged to is the model's, as far as it is at the level of the data."""
    loose = replace(
        tiny_model.level, parameters=tiny_model.level.parameters | {'convergence': {'density': 0.1}}, name='loose'
    )
    level = level_for(SimpleNamespace(level=loose), tiny_model)
    assert (level.parameters, level.name) == (tiny_model.level.parameters, tiny_model.level.name)
    assert level_for(SimpleNamespace(level=loose), None).parameters == loose.parameters
    coarser = replace(loose, parameters=loose.parameters | {'h': 0.3})
    assert level_for(SimpleNamespace(level=coarser), tiny_model).parameters == coarser.parameters
