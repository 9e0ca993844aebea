"""The universal network trained: with spin, members, and on an element that its first training lacked."""

from __future__ import annotations

import warnings

import numpy as np
import pytest

from ase_deepdensity.checks import UnfamiliarWarning
from ase_deepdensity.dataset import Dataset, Snapshot, write_snapshot
from ase_deepdensity.model import DensityModel
from ase_deepdensity.predict import Predictor
from ase_deepdensity.training.config import TrainingConfig
from ase_deepdensity.training.loop import Trainer
from tests.tiny import HYPERS, build_model, water_box
from tests.training.conftest import SETTINGS, curve

pytestmark = pytest.mark.filterwarnings('ignore::ase_deepdensity.checks.UnfamiliarWarning')
HYPERS = HYPERS | {'element_size': 8, 'neighbor_size': 3, 'magnetic': True, 'members': 2}


@pytest.fixture(scope='module')
def magnetic(tiny_model, tmp_path_factory) -> Dataset:
    """Densities of a random model with moments that follow the initial ones."""
    folder = tmp_path_factory.mktemp('magnetic')
    teacher = Predictor(build_model(tiny_model.level, network='universal', magnetic=True), extrapolate=True)
    for heads in teacher.network.heads[1:]:
        for name, buffer in heads.named_buffers():
            if '.scale' in name:
                buffer.fill_(0.05)
    for seed in range(5):
        atoms = water_box((1, 2, 2), seed=seed)
        atoms.set_initial_magnetic_moments(np.random.default_rng(seed).uniform(-1, 1, len(atoms)))
        with warnings.catch_warnings(action='ignore', category=UnfamiliarWarning):
            density = teacher.predict(atoms, teacher.grid(atoms, h=0.35))
        write_snapshot(folder / f'{seed}.h5', Snapshot(density, 0.0, np.zeros((len(atoms), 3)), np.zeros(3), 1, 1.0))
    return Dataset(folder)


def test_it_learns_magnetisations(magnetic, tmp_path):
    config = TrainingConfig(network='universal', steps=60, **(SETTINGS | {'hypers': HYPERS, 'averaging': 0.9}))
    model = Trainer(magnetic, tmp_path / 'm.safetensors', config, progress=False).run()
    rows = curve(tmp_path / 'm.csv')
    assert rows[-1][3] < 0.7 * rows[0][3], 'the error of the validation falls'
    reference = magnetic[0].density
    predictor = Predictor(DensityModel.load(tmp_path / 'm.safetensors'), extrapolate=True)
    density = predictor.predict(reference.atoms, reference.grid)
    m_R, wanted_R = (state.nt_sR[0] - state.nt_sR[1] for state in (density, reference))
    assert abs(m_R - wanted_R).sum() < 0.7 * abs(wanted_R).sum()
    assert model.network.members == 2
