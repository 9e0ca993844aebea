"""What a training makes of snapshots, and how it keeps them."""

import numpy as np
import pytest
import torch

from ase_deepdensity.codes.gpaw.reference import snapshot_from_calculator
from ase_deepdensity.collocation.density import DensityEvaluator
from ase_deepdensity.dataset import Dataset, write_snapshot
from ase_deepdensity.spin import components, spins
from ase_deepdensity.training.data import Cache, TrainingData
from ase_deepdensity.training.validation import predicted
from tests.tiny import BASIS
from tests.tolerances import FLOAT32


def training_data(dataset, model, nbytes: float | None = None) -> TrainingData:
    return TrainingData(dataset, model.network, model.atom_types, Cache(nbytes))


@pytest.mark.parametrize('t', [0, 1], ids=['molecule', 'box'])
def test_the_model_that_made_the_data_has_nothing_to_learn(dataset, tiny_model, t):
    data = training_data(dataset, tiny_model)
    with torch.no_grad():
        reference = data.reference(t)
        state = predicted(
            tiny_model.network, data[t], reference, data.target(t), DensityEvaluator(BASIS), torch.device('cpu')
        )
    state = state.normalized()
    np.testing.assert_allclose(state.nt_sR, reference.nt_sR, rtol=0, atol=FLOAT32 * reference.nt_sR.max())
    for D_sii, expected_sii in zip(state.D_asii, reference.D_asii, strict=True):
        np.testing.assert_allclose(D_sii, expected_sii, atol=1e-5)


def test_files_are_read_as_often_as_there_is_no_room(dataset, tiny_model, monkeypatch):
    """A cache for two of the five densities."""
    size = training_data(dataset, tiny_model).target(1).density_sR.nbytes
    assert all(training_data(dataset, tiny_model).target(t).density_sR.nbytes <= size for t in range(5))
    data, read = training_data(dataset, tiny_model, 2 * size), list[int]()
    original = Dataset.__getitem__
    monkeypatch.setattr(Dataset, '__getitem__', lambda self, t: read.append(t) or original(self, t))
    first = [data.target(t) for t in (1, 2, 3, 4)]
    assert read == [1, 2, 3, 4]
    again = [data.target(t) for t in (1, 2, 3, 4)]
    assert read[4:] == [3, 4]
    for one, other in zip(first, again, strict=True):
        assert torch.equal(one.density_sR, other.density_sR) and one.electrons == other.electrons
    assert 0 <= data.cache.left < size


def test_nothing_is_kept_without_room(dataset, tiny_model):
    data = training_data(dataset, tiny_model, 0)
    assert data.target(1) is not data.target(1) and data.cache.left == 0
    assert data[1] is data[1], 'what is small is kept'


@pytest.mark.parametrize('nspins', [1, 2])
def test_spins_are_the_reverse_of_components(nspins):
    x_sR = np.random.default_rng(0).random((nspins, 2, 3, 4))
    total_sR = components(x_sR)
    np.testing.assert_allclose(total_sR[0], x_sR.sum(0))
    np.testing.assert_allclose(spins(total_sR, nspins), x_sR)
    np.testing.assert_allclose(spins(total_sR[:1], 2).sum(0), total_sR[0])
    assert not np.shares_memory(total_sR, x_sR)


def test_polarised_snapshots_need_a_network_that_has_a_magnetisation(tmp_path, tiny_model, magnetic_calc):
    write_snapshot(tmp_path / 'n.h5', snapshot_from_calculator(magnetic_calc, niter=1, seconds=1.0))
    data = training_data(Dataset(tmp_path), tiny_model)
    with pytest.raises(ValueError, match=r'n\.h5: spin-polarised, but this network puts out no magnetisation'):
        data[0]
