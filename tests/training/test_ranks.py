"""Two processes that train one model: the curve of one, also after one of them has been killed."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from ase_deepdensity.dataset import Dataset
from ase_deepdensity.training.config import TrainingConfig
from ase_deepdensity.training.loop import Trainer, TrainingError
from ase_deepdensity.training.ranks import Ranks, torchrun_ranks
from tests.training.conftest import SETTINGS, curve, free_port, weights
from tests.training.test_kills import PRELOAD

pytestmark = pytest.mark.skipif(not torch.distributed.is_available(), reason='torch without distributed trainings')

CONFIG = TrainingConfig(steps=8, **SETTINGS | {'validate_every': 4, 'batch': 3, 'validation': 2})
FILES = {'m.safetensors', 'm.csv', 'm.png', 'm.checkpoint'}


def start_both(folder: Path, out: Path, death: int | None = None) -> list[multiprocessing.process.BaseProcess]:
    """Both ranks as ``torchrun`` starts them; the second one dies before a step."""
    context = multiprocessing.get_context('forkserver')
    context.set_forkserver_preload(PRELOAD)
    port = free_port()
    processes = [context.Process(target=train, args=(rank, port, folder, out, death)) for rank in range(2)]
    for process in processes:
        process.start()
    return processes


def train(rank: int, port: int, folder: Path, out: Path, death: int | None) -> None:
    """What a rank does; the exit code of those that lose the other one is 3."""
    torch.set_num_threads(1)
    os.environ |= {'TORCHELASTIC_RUN_ID': 'test', 'RANK': str(rank), 'LOCAL_RANK': str(rank), 'WORLD_SIZE': '2'}
    os.environ |= {'LOCAL_WORLD_SIZE': '2', 'MASTER_ADDR': '127.0.0.1', 'MASTER_PORT': str(port)}
    step = Trainer._step

    def mortal(self, number):
        if rank == 1 and number == death:
            os.kill(os.getpid(), signal.SIGKILL)
        return step(self, number)

    Trainer._step = mortal
    with torchrun_ranks('cpu') as (ranks, device):
        trainer = Trainer(Dataset(folder), out, CONFIG, device=device, progress=False, ranks=ranks)
        try:
            model = trainer.run()
        except ConnectionError:
            os._exit(3)
        torch.save(weights(model), out.with_name(f'{rank}.pt'))


@pytest.fixture(scope='module')
def alone(dataset, tmp_path_factory):
    """The training in one process: its model and its curve."""
    out = tmp_path_factory.mktemp('alone') / 'm.safetensors'
    model = Trainer(dataset, out, CONFIG, progress=False).run()
    return weights(model), curve(out.with_suffix('.csv'))


def test_the_curve_of_one_process_though_a_rank_is_killed(dataset, alone, tmp_path):
    folder, out = dataset.files[0].parent, tmp_path / 'm.safetensors'
    first, second = start_both(folder, out, death=6)
    for process in first, second:
        process.join(300)
    assert (first.exitcode, second.exitcode) == (3, -signal.SIGKILL), 'who is left hears of it'
    assert {path.name for path in tmp_path.iterdir()} == FILES
    assert [row[0] for row in curve(tmp_path / 'm.csv')] == [4]
    for process in (again := start_both(folder, out)):
        process.join(300)
    assert [process.exitcode for process in again] == [0, 0]
    assert {path.name for path in tmp_path.iterdir()} == FILES | {'0.pt', '1.pt'}
    np.testing.assert_allclose(curve(tmp_path / 'm.csv'), alone[1], rtol=1e-4)
    assert torch.equal(torch.load(tmp_path / '0.pt'), torch.load(tmp_path / '1.pt'))
    torch.testing.assert_close(torch.load(tmp_path / '0.pt'), alone[0], rtol=1e-3, atol=1e-4)


def test_torchrun(dataset, tmp_path):
    (tmp_path / 'c.json').write_text(json.dumps(SETTINGS | {'batch': 2, 'validate_every': 2}))
    command = [sys.executable, '-m', 'torch.distributed.run', '--nproc-per-node', '2']
    command += ['--master-addr', '127.0.0.1', '--master-port', str(free_port())]  # a bare machine knows no 'localhost'
    command += ['-m', 'ase_deepdensity.cli.main', 'train', str(dataset.files[0].parent), '--out', 'm', '--quiet']
    result = subprocess.run(
        [*command, '--config', 'c.json', '--steps', '2'], cwd=tmp_path, capture_output=True, text=True, timeout=200
    )
    assert result.returncode == 0, result.stderr
    assert result.stdout.count('to validate on') == result.stdout.count('validation: NMAE') == 1
    assert '2 processes' in result.stdout
    assert {path.name for path in tmp_path.iterdir()} == FILES | {'c.json'}


def test_a_step_needs_a_snapshot_for_each_rank(dataset, tmp_path):
    with pytest.raises(TrainingError, match=r'batch: 3 snapshots in a step are too few for 4 processes'):
        Trainer(dataset, tmp_path / 'm.safetensors', CONFIG, progress=False, ranks=Ranks(0, 4))
    assert not list(tmp_path.iterdir())


def test_work_is_shared_evenly():
    shares = [Ranks(rank, 3).mine([5.0, 1.0, 4.0, 3.0, 2.0]) for rank in range(3)]
    assert sorted(i for share in shares for i in share) == list(range(5))
    assert shares == [[0], [1, 2], [3, 4]]
