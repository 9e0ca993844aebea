"""Active learning, with another model in place of a code: it calculates in no time."""

from __future__ import annotations

import csv
import json

import numpy as np
import pytest

from ase_deepdensity.dataset import Dataset
from ase_deepdensity.dataset.folder import DatasetError
from ase_deepdensity.level import LevelError
from ase_deepdensity.model import DensityModel
from ase_deepdensity.predict import Predictor
from ase_deepdensity.snapshot import Snapshot
from ase_deepdensity.training import active as module
from ase_deepdensity.training.active import ActiveLearning
from ase_deepdensity.training.adapt import adapt
from tests.conftest import water_molecule
from tests.tiny import build_model, water_box
from tests.training.conftest import other

pytestmark = pytest.mark.filterwarnings('ignore::ase_deepdensity.checks.UnfamiliarWarning')


class Teacher:
    """Calculates what another model says, and counts."""

    def __init__(self, model: DensityModel, fails: int = 0, h: float = 0.4):
        self.model, self.fails, self.h, self.calls = model, fails, h, 0

    def __call__(self, atoms, level, **options) -> Snapshot:
        self.calls += 1
        if self.calls == self.fails:
            raise KeyboardInterrupt
        predictor = Predictor(self.model, extrapolate=True)
        density = predictor.predict(atoms, predictor.grid(atoms, h=self.h))
        return Snapshot(density, 0.0, np.zeros((len(atoms), 3)), np.zeros(3), 1, 1.0)


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    """In place of a fit a model that comes nearer to the teacher with each snapshot: tests of fits are elsewhere."""
    monkeypatch.setattr(
        module, 'adapt', lambda init, dataset: (other(init, seed=3, size=0.5 - 0.5 / (1 + len(dataset))), None)
    )


@pytest.fixture(scope='module')
def pool():
    """Five that are alike, and one that is not."""
    alike = [water_box((1, 1, 1), seed=1) for _ in range(5)]
    for seed, atoms in enumerate(alike):
        atoms.rattle(0.01, seed=seed)
    return [*alike, water_box((1, 1, 1), spacing=2.6, seed=5)]


@pytest.fixture
def teacher(tiny_model) -> Teacher:
    return Teacher(other(tiny_model, seed=3))


def learning(pool, out, model, teacher, **changes) -> ActiveLearning:
    figures = {'target': 0.01, 'budget': 3600.0, 'held_out': 2, 'batch': 1, 'seed': 1, 'progress': False}
    log = {'log': lambda text: None, 'calculate': lambda best: teacher}
    return ActiveLearning(pool, out, model.level, model, **figures | log | changes)


def test_it_learns_what_tells_it_most_until_it_is_good_enough(tiny_model, teacher, pool, tmp_path):
    run = learning(pool, tmp_path / 'out', tiny_model, teacher, target=0.35)
    outcome = run.run()
    first, *_, last = outcome.rows
    assert outcome.reason.startswith('the target of 0.35 % is reached')
    assert last.nmae <= 0.35 < first.nmae and first.snapshots == 0
    assert run.plan.chosen[1] == 5, 'first one of those that are alike, then the one that is unlike all others'
    assert not set(run.plan.chosen) & set(run.plan.held_out)
    model = DensityModel.load(outcome.model)
    assert model.card['held out']['NMAE of ñ, %'] == last.nmae
    assert len(Dataset(tmp_path / 'out' / 'snapshots')) == last.snapshots == len(run.plan.chosen)
    with (tmp_path / 'out' / 'progress.csv').open() as file:
        assert [float(row['nmae']) for row in csv.DictReader(file)] == [row.nmae for row in outcome.rows]
    assert (tmp_path / 'out' / 'progress.png').stat().st_size > 1000


def test_what_is_fitted_is_nearer_to_those_held_out(tmp_path, monkeypatch):
    """With the true fit, and a model that has learned: what it says holds nearly the right number of electrons."""
    monkeypatch.setattr(module, 'adapt', adapt)
    model = DensityModel.load('water-pbe-dzp')
    pool = [water_molecule() for _ in range(3)]
    for seed, atoms in enumerate(pool):
        atoms.rattle(0.05, seed=seed)
    teacher = Teacher(other(model, seed=3, size=0.01), h=0.3)
    outcome = learning(pool, tmp_path / 'out', model, teacher, held_out=1).run()
    first, *_, last = outcome.rows
    assert last.nmae < 0.4 * first.nmae and last.snapshots == 2, outcome.rows


def test_a_killed_run_goes_on(tiny_model, teacher, pool, tmp_path):
    whole = learning(pool, tmp_path / 'whole', tiny_model, teacher, budget=1e9)
    monkey = Teacher(teacher.model, fails=4)
    with pytest.raises(KeyboardInterrupt):
        learning(pool, tmp_path / 'out', tiny_model, monkey).run()
    begun = json.loads((tmp_path / 'out' / 'plan.json').read_text())
    assert len(begun['chosen']) == 2 and begun['rows'][-1]['snapshots'] == 1
    again = learning(pool, tmp_path / 'out', tiny_model, monkey)
    outcome, expected = again.run(), whole.run()
    assert outcome.reason == expected.reason == 'the pool is used up'
    assert [row.nmae for row in outcome.rows] == [row.nmae for row in expected.rows]
    assert monkey.calls == teacher.calls + 1, 'nothing was calculated twice but what was killed'
    seconds = [row.seconds for row in outcome.rows]
    assert seconds == sorted(seconds), 'those of the killed run count'


def test_it_stops_at_the_budget_and_keeps_the_better_model(tiny_model, teacher, pool, tmp_path):
    outcome = learning(pool, tmp_path / 'out', tiny_model, teacher, budget=1e-9).run()
    assert outcome.reason.startswith('the budget of') and outcome.model is None and len(outcome.rows) == 1
    same = Teacher(other(tiny_model, seed=9, size=1e-3))  # nothing is much better than the model itself
    outcome = learning(pool, tmp_path / 'same', tiny_model, same, target=1e-9, batch=4).run()
    assert outcome.model is None and outcome.rows[-1].nmae == outcome.rows[0].nmae < 0.01


def test_failures_are_left_out(tiny_model, teacher, pool, tmp_path, monkeypatch):
    class Failing(Teacher):
        def __call__(self, atoms, level, **options):
            if self.calls % 2:
                self.calls += 1
                raise RuntimeError('it did not converge')
            return super().__call__(atoms, level, **options)

    monkeypatch.setattr(module, 'MOST', 3)
    outcome = learning(pool, tmp_path / 'out', tiny_model, Failing(teacher.model)).run()
    assert outcome.reason.startswith('3 snapshots are learned; train on them')
    assert outcome.rows[-1].nmae < outcome.rows[0].nmae


def test_bad_input(tiny_model, teacher, pool, tmp_path):
    for changes, message in (
        ({'target': 0.0}, 'the target must be more than 0, not 0.0'),
        ({'budget': -1.0}, 'the budget must be more than 0'),
        ({'batch': 0}, 'the number of snapshots in a batch must be at least 1, not 0'),
        ({'held_out': 6}, 'a pool of 6 geometries is too small to hold 6 out'),
    ):
        with pytest.raises(ValueError, match=message):
            learning(pool, tmp_path / 'out', tiny_model, teacher, **changes)
    assert not (tmp_path / 'out').exists()
    (tmp_path / 'mine').mkdir()
    (tmp_path / 'mine' / 'thesis.tex').touch()
    with pytest.raises(DatasetError, match='is not empty, and no earlier run'):
        learning(pool, tmp_path / 'mine', tiny_model, teacher)
    learning(pool, tmp_path / 'out', tiny_model, teacher)
    with pytest.raises(DatasetError, match='was begun with another pool'):
        learning(pool[1:], tmp_path / 'out', tiny_model, teacher)
    model = build_model(tiny_model.level)
    model.level = type(model.level)({'mode': 'lcao', 'h': 0.3}, 'mine', model.level.versions)
    with pytest.raises(LevelError, match='tiny is of another level of theory'):
        ActiveLearning(pool, tmp_path / 'level', tiny_model.level, model, target=1.0, budget=1.0)
