"""Large systems, some atoms of which the network is asked about at a time."""

import numpy as np
import pytest

from ase_deepdensity import memory, network_runner
from ase_deepdensity.checks import PredictionError
from ase_deepdensity.model import DensityModel
from ase_deepdensity.predict import Predictor
from tests.tiny import build_model, water_box
from tests.tolerances import FLOAT32


@pytest.fixture(params=['tiny', 'universal', 'invariant', 'water-pbe-dzp'])
def predictor(request, tiny_model):
    if request.param == 'tiny':
        return Predictor(tiny_model)
    if request.param == 'universal':
        model = build_model(tiny_model.level, network='universal', magnetic=True, charged=True, members=3)
        return Predictor(model, extrapolate=True)
    if request.param == 'invariant':
        return Predictor(build_model(tiny_model.level, network='invariant'), extrapolate=True)
    return Predictor(DensityModel.load(request.param))


@pytest.mark.filterwarnings('ignore::ase_deepdensity.checks.UnfamiliarWarning')
def test_blocks_are_the_whole(predictor, water, monkeypatch):
    if predictor.network.sees_magnetic_moments:
        water.set_initial_magnetic_moments([1.0, *[0.0] * 23])  # most blocks have none
        water.info['charge'] = 1.0
    grid = predictor.grid(water, gpts=(24, 24, 24))
    whole, known = predictor.predict(water, grid), predictor.coefficients(water)
    monkeypatch.setattr(network_runner, 'MOST_IN_BLOCK', 5)
    asked = []
    predictor.network.register_forward_pre_hook(lambda _, inputs: asked.append(inputs[0].within(0)))
    blockwise = predictor.predict(water, grid)
    assert sum(asked) == 24 and (max(asked) <= 5 or predictor.network.steps is None)
    scale = float(whole.nt_sR.max())
    np.testing.assert_allclose(blockwise.nt_sR, whole.nt_sR, atol=FLOAT32 * scale)
    for D_sii, D_whole_sii in zip(blockwise.D_asii, whole.D_asii, strict=True):
        np.testing.assert_allclose(D_sii, D_whole_sii, atol=FLOAT32 * float(np.abs(D_whole_sii).max()))
    again = predictor.coefficients(water)
    np.testing.assert_allclose(again.unfamiliar_a, known.unfamiliar_a, rtol=1e-3)


def test_a_block_that_is_not_finite_is_named(tiny_model, water, monkeypatch):
    monkeypatch.setattr(network_runner, 'MOST_IN_BLOCK', 5)
    predictor = Predictor(tiny_model)
    predictor.network.coefficients.mean_sk[1] = np.nan  # of oxygen
    with pytest.raises(PredictionError, match=r'what it says of atoms 0 \(O\), 3 \(O\), 6 \(O\)'):
        predictor.coefficients(water)


def test_more_atoms_than_the_memory_holds(tiny_model, monkeypatch):
    monkeypatch.setattr(network_runner, 'MOST_IN_BLOCK', 5)
    monkeypatch.setattr(memory, 'physical_memory', lambda: 2**16)
    predictor = Predictor(tiny_model)
    with pytest.raises(PredictionError, match='what tiny says of 36 atoms would take .* GiB of memory'):
        predictor.coefficients(water_box((3, 2, 2)))
