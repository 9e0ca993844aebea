"""A data set that costs no GPAW run: states of a known model, which another one can learn."""

from __future__ import annotations

import copy
import csv
import socket
import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from ase_deepdensity.checks import UnfamiliarWarning
from ase_deepdensity.dataset import Dataset, Snapshot, write_snapshot
from ase_deepdensity.model import DensityModel
from ase_deepdensity.predict import Predictor
from ase_deepdensity.training.config import TrainingConfig
from tests.tiny import HYPERS, water_box

SETTINGS = {
    'hypers': HYPERS,
    'basis_cutoff': 2.5,
    'basis_functions': 4,
    'lmax': 2,
    'validate_every': 10,
    'warmup': 5,
    'learning_rate': 0.01,
    'validation': 1,
}


@pytest.fixture
def config() -> TrainingConfig:
    return TrainingConfig(steps=30, **SETTINGS)


@pytest.fixture(scope='session')
def dataset(tiny_model, tmp_path_factory) -> Dataset:
    """Four boxes of four molecules, and a molecule between zero boundaries."""
    folder = tmp_path_factory.mktemp('dataset')
    predictor = Predictor(tiny_model, extrapolate=True)  # the molecule reaches beyond its cell
    for seed in range(5):
        atoms = water_box((1, 2, 2), seed=seed) if seed else water_box((1, 1, 1))
        atoms.pbc = seed > 0
        with warnings.catch_warnings(action='ignore', category=UnfamiliarWarning):
            density = predictor.predict(atoms, predictor.grid(atoms, h=0.35))
        write_snapshot(folder / f'{seed}.h5', Snapshot(density, 0.0, np.zeros((len(atoms), 3)), np.zeros(3), 1, 1.0))
    return Dataset(folder)


def curve(path: Path) -> list[list[float]]:
    with open(path) as file:
        return [[float(x) for x in row] for row in list(csv.reader(file))[1:]]


def weights(model: DensityModel) -> torch.Tensor:
    return torch.cat([p.flatten() for p in model.network.parameters()])


def free_port() -> int:
    """Of this machine, for processes that meet there."""
    with socket.socket() as free:
        free.bind(('127.0.0.1', 0))
        return int(free.getsockname()[1])


def other(model: DensityModel, *, seed: int, size: float = 0.5) -> DensityModel:
    """A model with another last layer."""
    torch.manual_seed(seed)
    result = replace(model, network=copy.deepcopy(model.network))
    layer = result.network.last_layer()
    layer.add({key: size * torch.randn_like(zeros) for key, zeros in layer.zeros().items()})
    return result


@pytest.fixture(scope='module')
def teacher(tiny_model) -> DensityModel:
    """The tiny model with another last layer: the truth that it misses."""
    return other(tiny_model, seed=3)
