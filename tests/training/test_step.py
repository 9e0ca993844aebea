"""A step as a distributed training uses it."""

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
from ase_deepdensity.training.step import Objective
from tests.training.conftest import free_port
from tests.training.test_kills import PRELOAD

CONFIG = TrainingConfig(matrix_weight=0.0, seed=1)


def prepared(folder: Path, file: Path, batch: int) -> tuple[Objective, Batches]:
    """A model whose weights are not those that made the data."""
    torch.set_num_threads(1)
    model, config = DensityModel.load(file), TrainingConfig(**CONFIG.to_dict() | {'batch': batch})
    network = model.network
    torch.manual_seed(7)
    for parameter in network.parameters():
        parameter.data += 0.1 * torch.randn_like(parameter)
    data = TrainingData(Dataset(folder), network, model.atom_types, Cache())
    spread_zs = mean_spreads((sample.D_zsaii for sample in data), network.mean_zii, network.species)
    return Objective(network, DensityEvaluator(model.architecture.basis), spread_zs, config), Batches(
        data, config, network.cutoff
    )


def gradient(objective: torch.nn.Module) -> torch.Tensor:
    return torch.cat([p.grad.flatten() for p in objective.parameters() if p.grad is not None])


def work(rank: int, port: int, folder: Path, file: Path, out: Path) -> None:
    """One of two processes, each of which takes a snapshot of its own."""
    torch.distributed.init_process_group('gloo', f'tcp://127.0.0.1:{port}', rank=rank, world_size=2)
    objective, batches = prepared(folder, file, batch=1)
    distributed = torch.nn.parallel.DistributedDataParallel(objective, find_unused_parameters=True)
    distributed(batches[rank]).total.backward()
    torch.save(gradient(objective), out / f'{rank}.pt')
    torch.distributed.destroy_process_group()


@pytest.mark.skipif(not torch.distributed.is_available(), reason='torch without distributed trainings')
def test_two_processes_make_the_gradient_of_both_their_batches(dataset, tiny_file, tmp_path):
    context = multiprocessing.get_context('forkserver')
    context.set_forkserver_preload(PRELOAD)
    folder = dataset.files[0].parent
    port = free_port()
    processes = [context.Process(target=work, args=(rank, port, folder, tiny_file, tmp_path)) for rank in range(2)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(200)
    for process in processes:
        process.kill()
    assert [process.exitcode for process in processes] == [0, 0]
    objective, batches = prepared(folder, tiny_file, batch=2)
    rng_of_each = [prepared(folder, tiny_file, batch=1)[1][rank] for rank in range(2)]
    losses = torch.stack([objective(batch).total for batch in rng_of_each])
    losses.mean().backward()
    for rank in range(2):
        torch.testing.assert_close(torch.load(tmp_path / f'{rank}.pt'), gradient(objective), rtol=1e-4, atol=1e-6)
    assert batches[0].names == tuple(name for batch in rng_of_each for name in batch.names)
