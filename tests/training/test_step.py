"""The gradient of a step that two processes share, as :class:`.Trainer` lets them."""

from __future__ import annotations

import multiprocessing
from pathlib import Path

import pytest
import torch

from ase_deepdensity.collocation.density import DensityEvaluator
from ase_deepdensity.dataset import Dataset
from ase_deepdensity.model import DensityModel
from ase_deepdensity.training.batch import Batches
from ase_deepdensity.training.config import TrainingConfig
from ase_deepdensity.training.data import Cache, TrainingData
from ase_deepdensity.training.loss import mean_spreads
from ase_deepdensity.training.ranks import ALONE, Ranks
from ase_deepdensity.training.step import Objective
from tests.training.conftest import free_port
from tests.training.test_kills import PRELOAD

CONFIG = TrainingConfig(batch=2, seed=1)


def gradient(folder: Path, file: Path, ranks: Ranks) -> tuple[torch.Tensor, tuple[str, ...]]:
    """Of the first step, of a model whose weights are not those that made the data; and which snapshots were seen."""
    torch.set_num_threads(1)
    model = DensityModel.load(file)
    network = model.network
    torch.manual_seed(7)
    for parameter in network.parameters():
        parameter.data += 0.1 * torch.randn_like(parameter)
    data = TrainingData(Dataset(folder), network, model.atom_types, Cache())
    spread_zs = mean_spreads((sample.D_zsaii for sample in data), network.mean_zii, network.species)
    objective = Objective(network, DensityEvaluator(model.architecture.basis), spread_zs, CONFIG, ranks)
    batch = Batches(data, CONFIG, network.cutoff, ranks)[0]
    objective(batch).total.backward()
    weights = list(network.parameters())
    ranks.sum_gradients(weights)
    return torch.cat([weight.grad.flatten() for weight in weights if weight.grad is not None]), batch.names


def work(rank: int, port: int, folder: Path, file: Path, out: Path) -> None:
    """One of two processes."""
    torch.distributed.init_process_group('gloo', f'tcp://127.0.0.1:{port}', rank=rank, world_size=2)
    torch.save(gradient(folder, file, Ranks.of_torch()), out / f'{rank}.pt')
    torch.distributed.destroy_process_group()


@pytest.mark.skipif(not torch.distributed.is_available(), reason='torch without distributed trainings')
def test_two_processes_make_the_gradient_of_one(dataset, tiny_file, tmp_path):
    context = multiprocessing.get_context('forkserver')
    context.set_forkserver_preload(PRELOAD)
    folder, port = dataset.files[0].parent, free_port()
    processes = [context.Process(target=work, args=(rank, port, folder, tiny_file, tmp_path)) for rank in range(2)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(200)
    for process in processes:
        process.kill()
    assert [process.exitcode for process in processes] == [0, 0]
    expected, names = gradient(folder, tiny_file, ALONE)
    shares = [torch.load(tmp_path / f'{rank}.pt') for rank in range(2)]
    assert sorted(name for _, seen in shares for name in seen) == sorted(names) and len(names) == 2
    for found, seen in shares:
        assert len(seen) == 1
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-6)
