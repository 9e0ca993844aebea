"""A model that learns states as they come: those of a model whose last layer is another one."""

from __future__ import annotations

from dataclasses import replace

import pytest

from ase_deepdensity.level import Level
from ase_deepdensity.model import DensityModel
from ase_deepdensity.training import learn as module
from ase_deepdensity.training.adapt import AdaptError
from ase_deepdensity.training.learn import Learner, LearnError
from tests.tiny import build_model
from tests.training.conftest import other
from tests.training.test_adapt import errors, snapshots_of

pytestmark = pytest.mark.filterwarnings('ignore::ase_deepdensity.checks.UnfamiliarWarning')


@pytest.fixture(scope='module')
def snapshots(tiny_model):
    return snapshots_of(other(tiny_model, seed=3), 7)


@pytest.fixture(scope='module')
def learner(tiny_model, snapshots):
    learner = Learner(tiny_model)
    for snapshot in snapshots[:5]:
        learner.learn(snapshot.density)
    return learner


def test_states_to_come_are_predicted_better_and_better(learner, tiny_model, snapshots):
    begin, end = errors(tiny_model, snapshots[5:]), errors(learner.model, snapshots[5:])
    assert end[0] < 0.5 * begin[0], (begin, end)
    assert end[1] < 0.5 * begin[1], (begin, end)
    first, *others = learner.steps
    assert first.begin == first.before > 1.3 * first.after
    assert all(step.after < step.before < step.begin and not step.forgotten for step in others)
    assert all(step.before < 0.85 * others[0].before for step in others[1:]), [step.before for step in others]
    assert errors(tiny_model, snapshots[5:]) == begin, 'the model from which it began has changed'


def test_few_rows_stand_for_many(learner, tiny_model, snapshots, monkeypatch):
    """With fewer rows than states have given it has forgotten little."""
    monkeypatch.setattr(module, 'ROWS', 12)
    short = Learner(tiny_model)
    for snapshot in snapshots[:5]:
        short.learn(snapshot.density)
    assert errors(short.model, snapshots[5:])[0] < 1.3 * errors(learner.model, snapshots[5:])[0]


def test_what_does_not_stand_the_test_is_forgotten(tiny_model, snapshots):
    learner = Learner(tiny_model)
    learner.learn(snapshots[0].density)
    own = snapshots_of(tiny_model, 4)[-1].density  # nothing is better than the model from which it began
    step = learner.learn(own)
    assert step.forgotten and step.begin < 1e-3 < step.before
    assert errors(learner.model, snapshots_of(tiny_model, 3))[0] < 1e-2
    later = learner.learn(snapshots[1].density)
    assert later.changed and later.begin == pytest.approx(later.before, rel=0.01)


def test_a_universal_network_of_two_members_learns(tiny_model, snapshots):
    model = build_model(tiny_model.level, network='universal', element_size=8, neighbor_size=3, members=2)
    learner = Learner(model)
    for snapshot in snapshots[:3]:
        learner.learn(snapshot.density)
    assert errors(learner.model, snapshots[5:])[0] < 0.8 * errors(model, snapshots[5:])[0]


def test_bad_states_are_refused_and_nothing_changes(learner, snapshots, tiny_model):
    good, model, steps = snapshots[5].density, learner.model, list(learner.steps)
    for bad, message in (
        (replace(good, level=Level({'mode': 'lcao', 'h': 0.3}, 'mine')), 'another level of theory than tiny'),
        (replace(good, charge=1.0), 'the charge 1, tiny 0'),
    ):
        with pytest.raises(AdaptError, match=message):
            learner.learn(bad)
    assert learner.model is model and learner.steps == steps
    with pytest.raises(AdaptError, match='tiny cannot learn: the last layer of .* is not linear'):
        Learner(build_model(tiny_model.level, network='invariant'))


def test_another_learner_takes_it_over(learner, tiny_model, snapshots):
    other_rank = Learner(tiny_model)
    other_rank.take(learner.weights(), learner.steps)
    assert errors(other_rank.model, snapshots[5:]) == errors(learner.model, snapshots[5:])
    assert repr(other_rank) == repr(learner)


def test_saved_with_its_record_but_not_over_a_better_model(learner, tiny_model, snapshots, tmp_path):
    path = tmp_path / 'mine.safetensors'
    with pytest.raises(LearnError, match='has learned nothing from 0 states'):
        Learner(tiny_model).save(path)
    assert not path.exists()
    learner.save(path)
    model = DensityModel.load(path)
    assert errors(model, snapshots[5:]) == errors(learner.model, snapshots[5:])
    assert model.name == 'mine' and model.card['learned']['states'] == 5
    tiny_model.save(path)
    learner.save(path)  # over a worse one
    assert DensityModel.load(path).name == 'mine'
    other(tiny_model, seed=3).save(path)
    with pytest.raises(LearnError, match='holds a better model: .* nothing is written'):
        learner.save(path)
    assert DensityModel.load(path).name == 'tiny'
