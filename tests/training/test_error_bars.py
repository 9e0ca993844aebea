"""Error bars: what is far from the training data and wrong gets larger ones; files, refusals, predictions."""

from __future__ import annotations

import re
from dataclasses import replace

import numpy as np
import pytest
import torch

from ase_deepdensity.analysis.compare import nmae
from ase_deepdensity.calculator import DeepDensity
from ase_deepdensity.checks import PredictionError
from ase_deepdensity.cli.main import main
from ase_deepdensity.dataset import Dataset, Snapshot, write_snapshot
from ase_deepdensity.model import DensityModel
from ase_deepdensity.predict import Predictor
from ase_deepdensity.training.error_bars import ErrorBarError, held_out_part, with_error_bars
from tests.tiny import water_box

pytestmark = pytest.mark.filterwarnings('ignore::ase_deepdensity.checks.UnfamiliarWarning')


@pytest.fixture(scope='module')
def data(teacher, tmp_path_factory) -> tuple[Dataset, Dataset]:
    """Boxes to have been trained on, and held-out ones of two formulas."""
    folders = tmp_path_factory.mktemp('known'), tmp_path_factory.mktemp('unknown')
    predictor = Predictor(teacher, extrapolate=True)
    for seed in range(10):
        atoms = water_box((1, 1, 2), seed=seed, spacing=3.1 if seed < 4 else 2.9 + 0.03 * seed)
        if seed % 2 and seed > 4:
            del atoms[0]  # without the oxygen of one molecule: another formula
        density = predictor.predict(atoms, predictor.grid(atoms, h=0.4))
        snapshot = Snapshot(density, 0.0, np.zeros((len(atoms), 3)), np.zeros(3), 1, 1.0)
        write_snapshot(folders[seed >= 4] / f'{seed}.h5', snapshot)
    return Dataset(folders[0]), Dataset(folders[1])


@pytest.fixture(scope='module')
def measured(tiny_model, data) -> DensityModel:
    return with_error_bars(tiny_model, *data)


def test_expected_errors_are_of_the_right_size(measured, data):
    predictor = Predictor(measured, extrapolate=True)
    for snapshot in data[1]:
        coefficients = predictor.coefficients(snapshot.atoms)
        expected = predictor.expected_error(coefficients)
        true = nmae(predictor.density(coefficients, snapshot.density.grid), snapshot.density)
        low, high = expected.within(2)
        assert low < expected.nmae < high
        assert 0.5 < true / expected.nmae < 2, f'{true} is expected to be {expected}'
        assert expected.error_a.shape == (len(snapshot.atoms),) and (expected.error_a > 0).all()
        assert np.isclose(expected.nmae, 100 * expected.error_a.sum() / expected.electrons)


def test_what_is_stranger_is_never_expected_to_be_better(measured):
    predictor = Predictor(measured, extrapolate=True)
    coefficients = predictor.coefficients(water_box((1, 1, 2), seed=1))
    usual_a = predictor.expected_error(coefficients).error_a
    for factor in 3, 30:
        strange = replace(coefficients, unfamiliar_a=factor * coefficients.unfamiliar_a)
        strange_a = predictor.expected_error(strange).error_a
        assert (strange_a >= usual_a * (1 - 1e-6)).all()
        usual_a = strange_a


def test_rotations_and_order_change_nothing(measured):
    atoms = water_box((1, 1, 2), seed=2)
    calc = DeepDensity(measured)
    error_a = calc.get_density_uncertainty(atoms).error_a
    turned, order = atoms.copy(), np.random.default_rng(0).permutation(len(atoms))
    turned.rotate(40, (1, 2, 3), rotate_cell=True)
    assert np.allclose(calc.get_density_uncertainty(turned[order]).error_a, error_a[order], rtol=1e-3)


def test_files_carry_them(measured, tmp_path):
    measured.save(tmp_path / 'm.safetensors')
    loaded = DensityModel.load(tmp_path / 'm.safetensors')
    atoms = water_box((1, 1, 1))
    expected = [DeepDensity(model).get_density_uncertainty(atoms) for model in (measured, loaded)]
    assert np.array_equal(expected[0].error_a, expected[1].error_a) and expected[0].spread == expected[1].spread
    assert re.fullmatch(r'NMAE \S+ % expected, \S+ to \S+ % in two of three cases', str(expected[1]))


def test_another_last_layer_is_not_judged_by_the_old_one(measured, data):
    assert measured.adapted(data[1][:2]).error_bars is None


def test_refusals(tiny_model, data, measured):
    atoms = water_box((1, 1, 1))
    with pytest.raises(PredictionError, match='tiny has no error bars; .* deepdensity uncertainty MODEL DATASET'):
        DeepDensity(tiny_model).get_density_uncertainty(atoms)
    with pytest.raises(ErrorBarError, match='2 snapshots that took no part .* at least 5'):
        with_error_bars(tiny_model, data[0], data[1][:2])
    with pytest.raises(ErrorBarError, match='how its data were split: give --held-out'):
        held_out_part(tiny_model, data[0])
    state = measured.error_bars.state_dict()
    bars = type(measured.error_bars)
    with pytest.raises(ValueError, match='in offset_s that are not finite'):
        bars(**state | {'offset_s': torch.tensor([np.nan, 1.0])})
    with pytest.raises(ValueError, match=r'error_bars.weight_y is \(1,\), which should be'):
        bars.from_state_dict(state | {'weight_y': torch.zeros(1)}, measured.network)


def test_command(tiny_model, data, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    tiny_model.save('tiny.safetensors')
    water_box((1, 1, 1)).write('water.xyz')
    known, unknown = (str(part.files[0].parent) for part in data)
    assert main(['uncertainty', 'tiny.safetensors', known, '--held-out', unknown, '--out', 'sure']) == 0
    out = capsys.readouterr().out
    assert 'held-out systems is within a factor of' in out and re.search(r'within 2 σ, % +\d', out)
    assert main(['predict', 'water.xyz', 'sure.safetensors', '--extrapolate']) == 0
    assert re.search(r'error +NMAE .* in two of three cases\n.*% of it at atom', capsys.readouterr().out)


def test_a_shipped_model_stays_as_it_is(data, capsys):
    known, unknown = (str(part.files[0].parent) for part in data)
    assert main(['uncertainty', 'water-pbe-dzp', known, '--held-out', unknown]) == 2
    assert (
        'water-pbe-dzp.safetensors is shipped with this program and stays as it is: give --out'
        in capsys.readouterr().err
    )
