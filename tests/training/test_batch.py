"""Batches: cosets and random points of several snapshots as one list."""

import numpy as np
import pytest
import torch

from ase_deepdensity.collocation.density import DensityEvaluator
from ase_deepdensity.training.batch import Batch, Batches, cosets, random_points, strides
from ase_deepdensity.training.config import TrainingConfig
from ase_deepdensity.training.data import Cache, TrainingData
from ase_deepdensity.training.least_squares import fit_coefficients, written
from ase_deepdensity.training.step import density_at
from tests.tiny import BASIS


@pytest.fixture(scope='module')
def data(dataset, tiny_model) -> TrainingData:
    """A molecule between zero boundaries, and boxes."""
    return TrainingData(dataset, tiny_model.network, tiny_model.atom_types, Cache())


def whole(data: TrainingData, t: int) -> Batch:
    return cosets([data[t]], [data.target(t)], data.network.cutoff, 1)


@torch.no_grad()
def added(network, batch: Batch) -> torch.Tensor:
    return density_at(network(batch.system), batch, DensityEvaluator(BASIS))[0]


def pair(data: TrainingData) -> tuple[list, list]:
    return [data[0], data[1]], [data.target(0), data.target(1)]


@pytest.mark.parametrize('seed', range(4))
def test_cosets_are_parts_of_the_grids(data, seed):
    """Values and targets on cosets of two grids, against those on the whole grids."""
    network = data.network
    batch = cosets(*pair(data), network.cutoff, 2, np.random.default_rng(seed))
    density_sp, rng = added(network, batch), np.random.default_rng(seed)
    for t in range(2):
        all_of_it, grid = whole(data, t), data[t].grid
        stride_c = strides(grid, 2)
        o0, o1, o2 = (int(rng.integers(s)) for s in stride_c)
        part = np.s_[:, o0 :: stride_c[0], o1 :: stride_c[1], o2 :: stride_c[2]]
        expected_sp = added(network, all_of_it).reshape(-1, *grid.shape)[part].flatten(1)
        mine_p = batch.system_p == t
        np.testing.assert_allclose(density_sp[:, mine_p], expected_sp, atol=1e-5 * float(expected_sp.abs().max()))
        assert torch.equal(batch.target_sp[:, mine_p], data.target(t).density_sR[part].flatten(1))


def test_strides_divide_what_wraps_around(data):
    for t in range(2):
        grid = data[t].grid
        stride_c, wraps_c = strides(grid, 4), ~grid.zerobc_c
        assert (grid.size_c[wraps_c] % stride_c[wraps_c] == 0).all()
        assert (stride_c[~wraps_c] == 4).all()
        assert strides(grid, 2).max() == 2


def test_random_points_are_points_of_the_grids(data):
    network, number = data.network, 150
    batch = random_points(*pair(data), network.cutoff, number, np.random.default_rng(1))
    assert batch.system_p.bincount().tolist() == [number, number]
    density_sp = added(network, batch)
    for t in range(2):
        mine_p, grid = batch.system_p == t, data[t].grid
        index_pc = np.round(batch.places.position_pv[mine_p].numpy() @ np.linalg.inv(grid.step_cv)).astype(int)
        assert len(np.unique(index_pc, axis=0)) == number
        i, j, k = (index_pc - grid.start_c).T
        expected_sp = added(network, whole(data, t)).reshape(-1, *grid.shape)[:, i, j, k]
        np.testing.assert_allclose(density_sp[:, mine_p], expected_sp, atol=1e-5 * float(expected_sp.abs().max()))
        assert torch.equal(batch.target_sp[:, mine_p], data.target(t).density_sR[:, i, j, k])


def test_as_many_points_as_there_are_make_the_whole_grid(data):
    batch = random_points([data[1]], [data.target(1)], data.network.cutoff, 10**6, np.random.default_rng(0))
    assert torch.equal(batch.target_sp, whole(data, 1).target_sp)
    torch.testing.assert_close(batch.weight_p, whole(data, 1).weight_p)


def test_weights_add_up_to_the_mean_of_the_errors(data):
    """Of a constant error, whichever points are taken."""
    grids = [data[t].grid for t in range(2)]
    expected = np.mean([100 * np.prod(grid.shape) / data.target(t).electrons for t, grid in enumerate(grids)])
    rng = np.random.default_rng(0)
    for batch in (
        cosets(*pair(data), data.network.cutoff, 3, rng),
        random_points(*pair(data), data.network.cutoff, 50, rng),
    ):
        assert float(batch.weight_p.sum()) == pytest.approx(expected, rel=1e-5)


def test_matrices_are_in_the_order_of_the_joint_system(data):
    batch = cosets(*pair(data), data.network.cutoff, 2)
    for t in range(2):
        for Z in batch.system.numbers:
            mine_a = batch.system.system_a[batch.system.atoms_of(Z)] == t
            assert torch.equal(batch.D_zsaii[Z][:, mine_a], data[t].D_zsaii[Z])


def test_each_snapshot_once_in_an_epoch(data):
    batches = Batches(data, TrainingConfig(batch=2, seed=3, points=10), data.network.cutoff)
    names = [name for step in range(5) for name in batches[step].names]
    assert sorted(names[:5]) == sorted(names[5:]) == sorted(data[t].name for t in range(5))
    assert names[:5] != names[5:]
    assert torch.equal(batches[3].places.position_pv, batches[3].places.position_pv), 'whenever it is asked for'
    assert not torch.equal(batches[3].places.position_pv, batches[4].places.position_pv)


@pytest.mark.parametrize('t', [0, 1], ids=['molecule', 'box'])
def test_least_squares_reduce_the_residual(data, t):
    batch, evaluate = whole(data, t), DensityEvaluator(BASIS)
    head = data.network.coefficients
    left = []
    for iterations in 2, 20:
        y = fit_coefficients(batch, 0, evaluate, head.expand, head.sizes, iterations)
        density_p = density_at(written(head.expand(y)), batch, evaluate)[0, 0]
        left.append(float((density_p - batch.target_sp[0]).square().sum() / batch.target_sp.square().sum()))
    assert left[1] < left[0] < 1
    assert left[1] < 0.2
