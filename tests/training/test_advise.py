"""Learning curves in closed form, and atoms that a model has not seen the like of."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from ase_deepdensity.cli.main import main
from ase_deepdensity.dataset import write_snapshot
from ase_deepdensity.training import advise as module
from ase_deepdensity.training.adapt import AdaptError
from ase_deepdensity.training.advise import LearningCurve, advise, sizes_of
from tests.training.test_adapt import OTHER, snapshots, snapshots_of  # noqa: F401  (a fixture)

pytestmark = pytest.mark.filterwarnings('ignore::ase_deepdensity.checks.UnfamiliarWarning')


@pytest.fixture(autouse=True)
def few_directions(monkeypatch):
    monkeypatch.setattr(module, 'DIRECTIONS', 10)


def test_law_of_errors_that_follow_one():
    sizes = [1, 2, 4, 9]
    curve = LearningCurve(3.0, sizes, [2 * n**-0.5 for n in sizes], [[f * n**-0.5 for n in sizes] for f in (1, 3)])
    assert curve.power_law == pytest.approx((2, 0.5))
    assert curve.expected(100) == pytest.approx((0.2, 0.1))
    assert curve.number_for(0.1) == pytest.approx(400)
    flat = replace(curve, errors=[1.0, 1.01, 1.0, 1.02])
    assert flat.is_flat and flat.number_for(0.1) == float('inf')
    assert flat.expected(1000)[0] == pytest.approx(1, abs=0.02)


def test_a_curve_that_bends_is_less_certain():
    """Eight rattled silicon cells told of 0.385 % at 12; 16 of them gave 0.426 % at 11."""
    sizes, errors = [1, 2, 4, 6], [0.878, 0.663, 0.541, 0.493]
    error, uncertainty = LearningCurve(2.2, sizes, errors, [errors, errors]).expected(12)
    assert error == pytest.approx(0.385, abs=0.001) and 0.02 < uncertainty < 0.04
    straight = [n**-0.3 for n in sizes]
    assert LearningCurve(2.2, sizes, straight, [straight] * 2).expected(12)[1] == pytest.approx(0, abs=1e-9)


@pytest.mark.parametrize(('number', 'sizes'), [(4, [1, 2, 3]), (6, [1, 2, 4]), (24, [1, 2, 4, 8, 16])])
def test_sizes(number, sizes):
    assert sizes_of(number) == sizes


def test_what_is_left_out_is_learned_from_others(tiny_model, snapshots):  # noqa: F811
    """The snapshots differ from what the model says by what a last layer can learn."""
    seen = []
    advice = advise(tiny_model, snapshots, lambda done, of: seen.append((done, of)))
    curve = advice.curve
    assert seen[-1][0] == seen[-1][1] and [done for done, _ in seen] == list(range(1, len(seen) + 1))
    assert curve.sizes == [1, 2, 4] and np.all(np.diff([curve.before, *curve.errors]) < 0)
    assert curve.errors[-1] < 0.7 * curve.before
    assert curve.expected(16)[0] < curve.errors[-1]
    assert {row.symbol: row.atoms for row in advice.environments} == {'H': 20, 'O': 10}
    json.dumps(advice.to_dict())


def test_an_atom_by_itself_is_named(tiny_model, snapshots):  # noqa: F811
    atoms = snapshots[0].atoms.copy()
    atoms.positions[4] += [0.0, 0.5, 0.3]
    rows = module.environments(tiny_model, [snapshots[1].atoms, atoms], [1, 7])
    assert {row.symbol: row.worst for row in rows}['H'] == (7, 4)


def test_refused(tiny_model, snapshots):  # noqa: F811
    with pytest.raises(AdaptError, match='needs 4 snapshots or more, not 3'):
        advise(tiny_model, snapshots[:3])
    other = [replace(s, density=s.density.new(level=OTHER)) for s in snapshots]
    with pytest.raises(AdaptError, match='another level'):
        advise(tiny_model, other)


def test_command(tmp_path, tiny_file, teacher, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    Path('data').mkdir()
    for t, snapshot in enumerate(snapshots_of(teacher, 4)):
        write_snapshot(Path(f'data/{t}.h5'), replace(snapshot, density=snapshot.density.normalized()))
    arguments = ['advise', str(tiny_file), 'data', '--error', '0.5', '--plot', 'curve.png', '--json', 'advice.json']
    assert main(arguments) == 0
    out = capsys.readouterr().out
    assert 'its last layer fitted' in out and '0.5 % would take' in out and 'environments' in out
    assert Path('curve.png').stat().st_size > 5000
    content = json.loads(Path('advice.json').read_text())
    assert [row['snapshots'] for row in content['expected']] == [6, 12, 24] and content['curve']['sizes'] == [1, 2, 3]
    Path('data/3.h5').unlink()
    assert main(['advise', str(tiny_file), 'data']) == 2
    assert main(['advise', str(tiny_file), 'nothing']) == 2
    assert main(['advise', str(tiny_file), 'data', '--error', '-1']) == 2
    errors = capsys.readouterr().err
    assert 'needs 4 snapshots' in errors and 'nothing: no such' in errors and '--error must be' in errors
