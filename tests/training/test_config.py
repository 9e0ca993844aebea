import json

import pytest

from ase_deepdensity.training.config import ConfigError, TrainingConfig


def test_file_and_changes(tmp_path):
    path = tmp_path / 'c.json'
    path.write_text(json.dumps({'steps': 7, 'seed': 3}))
    config = TrainingConfig.load(path, seed=5, minutes=None)
    assert (config.steps, config.seed, config.minutes) == (7, 5, None)
    assert TrainingConfig(**config.to_dict()) == config


def test_basis_resolves_what_the_settings_say():
    basis = TrainingConfig(basis_cutoff=2.0, basis_functions=9, lmax=3).basis
    assert (basis.spacing, basis.lmax) == pytest.approx((0.2, 3))


@pytest.mark.parametrize(
    ('text', 'message'),
    [
        ('{"stepz": 3}', 'no setting stepz; .*did you mean steps'),
        ('[1]', 'dictionary'),
        ('{', 'not a JSON file'),
        ('{"steps": 0}', 'steps must be a whole number from 1, not 0'),
        ('{"steps": 1.5}', 'not 1.5'),
        ('{"learning_rate": -1}', 'learning_rate must be a number above 0, not -1'),
        ('{"learning_rate": "a"}', "learning_rate must be a number above 0, not 'a'"),
        ('{"seed": -1}', 'seed must be a whole number from 0, not -1'),
        ('{"hypers": 3}', 'hypers must be a dictionary of hyper-parameters, not 3'),
        ('{"minutes": Infinity}', 'minutes must be a number above 0, not inf'),
        ('{"validation": 0}', 'validation must be a whole number from 1, not 0'),
        ('{"points": 0}', 'points must be a whole number from 1, not 0'),
        ('{"split": "formulas"}', "split must be snapshots or compounds, not 'formulas'"),
        ('{"averaging": 1}', 'averaging'),
        ('{"minutes": 0}', 'minutes'),
        ('{"basis_cutoff": -3.0}', 'basis_cutoff, .*positive distance up to 100 Å, not -3.0'),
        ('{"basis_functions": 1.5}', 'at least two radial functions, at most 256, not 1.5'),
    ],
)
def test_bad_files(tmp_path, text, message):
    path = tmp_path / 'c.json'
    path.write_text(text)
    with pytest.raises(ConfigError, match=message):
        TrainingConfig.load(path)


def test_missing_file(tmp_path):
    with pytest.raises(ConfigError, match='cannot be read'):
        TrainingConfig.load(tmp_path / 'none.json')
