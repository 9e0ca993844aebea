"""Trainings in processes of their own that get a real SIGKILL, between steps and while files are written."""

from __future__ import annotations

import csv
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
from tests.training.conftest import SETTINGS

CONFIG = TrainingConfig(steps=6, **SETTINGS | {'validate_every': 3})
DEATHS = 4, 8, 9, 11, 13, 14, 6, 7, 8, 9, 10, 11
"""After how many events each process dies: steps, and every file on its way before and after it gets its name."""


def start(*arguments: object) -> multiprocessing.process.BaseProcess:
    """:func:`mortal` in a process that is forked from one in which neither torch nor numba has worked yet."""
    context = multiprocessing.get_context('forkserver')
    context.set_forkserver_preload(['ase_deepdensity.training.loop', 'ase_deepdensity.calculator', 'matplotlib.figure'])
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
    """Twelve kills of one training and two of another, one of which never gets to its first checkpoint."""
    folder, out = dataset.files[0].parent, tmp_path / 'killed' / 'm.safetensors'
    out.parent.mkdir()
    whole = Trainer(dataset, tmp_path / 'm.safetensors', CONFIG, progress=False).run()
    expected = list(csv.reader((tmp_path / 'm.csv').open()))
    for death in DEATHS:
        process = start(folder, out, death)
        process.join()
        if process.exitcode == 0:
            break
        assert process.exitcode == -signal.SIGKILL
        if out.with_suffix('.csv').exists():
            rows = list(csv.reader(out.with_suffix('.csv').open()))
            assert [row[0] for row in rows] == [row[0] for row in expected[: len(rows)]], 'rows are lost or twice there'
        if out.exists():
            DensityModel.load(out)
    trainer = Trainer(dataset, out, CONFIG, progress=False)
    assert trainer.start > 0
    model = trainer.run()
    for row, expected_row in zip(csv.reader(out.with_suffix('.csv').open()), expected, strict=True):
        assert row == expected_row or np.allclose([float(x) for x in row], [float(x) for x in expected_row], rtol=1e-5)
    for name, tensor in whole.network.state_dict().items():
        torch.testing.assert_close(model.network.state_dict()[name], tensor, rtol=1e-4, atol=1e-5)
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
