"""Trainings in processes of their own that get a real SIGKILL, between steps and while files are written."""

from __future__ import annotations

import multiprocessing
import os
import signal
from pathlib import Path

import numpy as np
import pytest
import torch

from ase_deepdensity.dataset import Dataset
from ase_deepdensity.model import DensityModel
from ase_deepdensity.training.config import TrainingConfig
from ase_deepdensity.training.lock import LockedError
from ase_deepdensity.training.loop import Trainer
from tests.training.conftest import SETTINGS, curve, weights

CONFIG = TrainingConfig(steps=6, **SETTINGS | {'validate_every': 3})
DEATHS = {
    2: 'before there is a checkpoint',
    4: 'while the first checkpoint is written',
    5: 'before the model is',
    3: 'while the curve is written that the checkpoint knows of',
    10: 'between the last checkpoint and its model',
}
"""After how many events each process dies: a step, or a file that is to get its name or has just got it."""

PRELOAD = ['ase_deepdensity.training.loop', 'gpaw.new.ase_interface', 'gpaw.setup', 'e3nn.o3', 'matplotlib.figure']


def start(*arguments: object) -> multiprocessing.process.BaseProcess:
    """:func:`mortal` in a process that is forked from one in which neither torch nor numba has worked yet."""
    context = multiprocessing.get_context('forkserver')
    context.set_forkserver_preload(PRELOAD)
    process = context.Process(target=mortal, args=arguments)
    process.start()
    return process


def mortal(folder: Path, out: Path, death: int | None) -> None:
    """Train, and die at an event."""
    torch.set_num_threads(1)
    events = 0

    def survive() -> None:
        nonlocal events
        events += 1
        if events == death:
            os.kill(os.getpid(), signal.SIGKILL)

    replace, step = os.replace, Trainer._step

    def moving(temporary, path, **kwargs):
        survive()
        replace(temporary, path, **kwargs)
        survive()

    def stepping(self, number):
        survive()
        return step(self, number)

    os.replace, Trainer._step = moving, stepping
    Trainer(Dataset(folder), out, CONFIG, progress=False).run()


def test_same_curve_and_model_whenever_it_is_killed(dataset, tmp_path):
    """Five kills, each of the training that goes on after the one before."""
    folder, out = dataset.files[0].parent, tmp_path / 'killed' / 'm.safetensors'
    out.parent.mkdir()
    whole = Trainer(dataset, tmp_path / 'm.safetensors', CONFIG, progress=False).run()
    expected = curve(tmp_path / 'm.csv')
    for death, when in DEATHS.items():
        process = start(folder, out, death)
        process.join()
        assert process.exitcode == -signal.SIGKILL, when
        if out.with_suffix('.csv').exists():
            steps = [row[0] for row in curve(out.with_suffix('.csv'))]
            assert steps == [3, 6][: len(steps)], f'rows are lost or twice there: killed {when}'
        if out.exists():
            DensityModel.load(out)
    trainer = Trainer(dataset, out, CONFIG, progress=False)
    assert trainer.start == 6
    model = trainer.run()
    np.testing.assert_allclose(curve(out.with_suffix('.csv')), expected, rtol=1e-4)
    torch.testing.assert_close(weights(model), weights(whole), rtol=1e-3, atol=1e-4)
    left = {path.name for path in out.parent.iterdir()}
    assert left == {'m.safetensors', 'm.csv', 'm.png', 'm.checkpoint'}, 'lock or temporaries stay'


def waiting(folder: Path, out: Path, ready) -> None:
    def hold(self, number):
        ready.set()
        signal.pause()

    Trainer._step = hold
    Trainer(Dataset(folder), out, CONFIG, progress=False).run()


def test_two_trainings_of_one_model(dataset, tmp_path):
    context = multiprocessing.get_context('forkserver')
    ready, out = context.Event(), tmp_path / 'm.safetensors'
    process = context.Process(target=waiting, args=(dataset.files[0].parent, out, ready))
    process.start()
    assert ready.wait(120)
    with pytest.raises(LockedError, match=rf'm\.lock: process {process.pid} on \S+ trains this model'):
        Trainer(dataset, out, CONFIG, progress=False)
    assert process.is_alive()
    os.kill(process.pid, signal.SIGKILL)
    process.join()
    assert (tmp_path / 'm.lock').exists()
    Trainer(dataset, out, CONFIG, progress=False).run()
    assert not (tmp_path / 'm.lock').exists()
