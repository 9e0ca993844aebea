"""Large systems, some atoms of which the network is asked about at a time."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from ase.build import bulk

from ase_deepdensity import memory, network_runner
from ase_deepdensity.checks import MAX_STRANGE, PredictionError, UnfamiliarWarning
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


@pytest.fixture
def universal(tiny_model):
    model = build_model(tiny_model.level, network='universal', magnetic=True, members=3)
    for heads in model.network.heads:
        for element in heads.elements.values():
            element.mean_k.uniform_(-1, 1)
            element.mean_ii.copy_(0.3 * torch.eye(len(element.mean_ii)))
    for element in model.network.heads[1].elements.values():
        element.mean_k.zero_(), element.mean_ii.zero_()
    return model


def at_distance(model, unit):
    """The same model, whose distances are measured in another unit."""
    return replace(model, familiarity=model.familiarity.in_units_of(unit))


def test_the_share_of_the_network_falls_smoothly_with_the_distance():
    far = network_runner.FAR
    assert network_runner.share_of(np.array([0, far, 2 * far])).tolist() == [1, 1, 0.5]
    assert far > 9.6  # where silicon, fine-tuned on 16 rattled cells, is still predicted as well as nearer to these
    share_a = network_runner.share_of(np.linspace(0, 100 * far, 10000))
    assert (np.diff(share_a) <= 0).all() and np.diff(share_a).min() > -0.02 and share_a[-1] < 1e-7


@pytest.mark.filterwarnings('ignore::ase_deepdensity.checks.UnfamiliarWarning')
@pytest.mark.parametrize('at_once', [100, 5])
def test_far_from_the_training_data_an_atom_is_what_is_usual(universal, water, at_once, monkeypatch):
    monkeypatch.setattr(network_runner, 'MOST_IN_BLOCK', at_once)
    near = Predictor(at_distance(universal, 1e9), extrapolate=True).coefficients(water)
    far = Predictor(at_distance(universal, 1e-9), extrapolate=True).coefficients(water)
    for a in 0, 1, 5:
        mean_ii = universal.network.heads[0].elements[str(water.numbers[a])].mean_ii.numpy()
        assert np.ptp(near.D_asii()[a] - mean_ii) > 1e-4
        np.testing.assert_allclose(far.D_asii()[a][0], mean_ii, atol=1e-6)
    oxygen_anm = far.output.c_lesanm[0][0, 0, ::3]
    torch.testing.assert_close(oxygen_anm, oxygen_anm[:1].expand_as(oxygen_anm))
    assert oxygen_anm.abs().max() > 1e-3 and max(c_esanm.abs().max() for c_esanm in far.output.c_lesanm[1:]) < 1e-6


@pytest.mark.filterwarnings('ignore::ase_deepdensity.checks.UnfamiliarWarning')
def test_magnetisations_stay_what_the_network_says(universal, water):
    water.set_initial_magnetic_moments([1.0] + [0.0] * 23)
    near, far = (
        Predictor(at_distance(universal, unit), extrapolate=True).coefficients(water).output.c_lesanm
        for unit in (1e9, 1e-9)
    )
    assert all(torch.equal(*c_esanm) for c_esanm in zip(near, far, strict=True)) and near[0].shape[1] == 2


@pytest.mark.filterwarnings('ignore::ase_deepdensity.checks.UnfamiliarWarning')
def test_derivatives_of_what_is_usual(universal, water):
    predictor = Predictor(at_distance(universal, 1e-9), extrapolate=True)
    grid = predictor.grid(water, gpts=(20, 20, 20))
    v_R = np.random.default_rng(0).normal(size=grid.shape)
    W_asii = [np.zeros((1, *atom_type.D_ii.shape)) for atom_type in universal.types_of(water)]
    gradient_av = predictor.vjp(water, grid, v_R, W_asii)

    def value(step):
        moved = water.copy()
        moved.positions[1, 2] += step
        return float((predictor.evaluate(predictor.coefficients(moved), grid) * v_R).sum() * grid.dv)

    assert gradient_av[1, 2] == pytest.approx((value(1e-3) - value(-1e-3)) / 2e-3, rel=2e-3, abs=1e-4)


def test_an_atom_that_no_training_has_seen_so_is_answered_for():
    """Xenon squeezed into a nitride, so far off that models without a fallback refuse it."""
    crystal = bulk('XeN', 'rocksalt', 4.2)
    predictor = Predictor(DensityModel.load('general-pbe-pw400'))
    assert predictor.unfamiliar(crystal)[0] > MAX_STRANGE
    with pytest.warns(UnfamiliarWarning, match='atom 0, Xe, .* what is usual for its element takes the place of'):
        density = predictor.predict(crystal)
    assert density.nt_sR.min() > 0
    np.testing.assert_allclose(density.D_asii[0][0], predictor.network.mean_zii[54].double(), atol=1e-3)
    strange, known = (
        predictor.expected_error(predictor.coefficients(c)).nmae for c in (crystal, bulk('NaCl', 'rocksalt', 5.64))
    )
    assert strange > 5 * known


@pytest.mark.parametrize('magnetic', [False, True])
def test_what_is_usual_takes_the_place_of_what_is_not_finite(universal, water, magnetic, monkeypatch):
    if magnetic:
        water.set_initial_magnetic_moments([1.0] + [0.0] * 23)
    predictor = Predictor(at_distance(universal, 1e9))
    network = predictor.network.forward

    def overflows(system):
        output = network(system)
        output.c_lesanm[0][:, :, 3] = torch.inf
        return output

    monkeypatch.setattr(predictor.network, 'forward', overflows)
    if magnetic:
        with pytest.raises(PredictionError, match=r'overflows: what it says of atom 3 \(O\) is not finite'):
            predictor.coefficients(water)
        return
    with pytest.warns(UnfamiliarWarning, match='worst: atom 3, O, inf times'):
        coefficients = predictor.coefficients(water)
    mean_ii = universal.network.heads[0].elements['8'].mean_ii.numpy()
    np.testing.assert_array_equal(coefficients.D_asii()[3][0], mean_ii.astype(float))
    assert np.ptp(coefficients.D_asii()[0] - mean_ii) > 1e-4
