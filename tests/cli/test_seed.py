"""``deepdensity seed``."""

from __future__ import annotations

import json
import sys
import warnings

import pytest
from ase.build import bulk

from ase_deepdensity.checks import UnfamiliarWarning
from ase_deepdensity.cli.main import main
from ase_deepdensity.cli.seed import _run_one
from ase_deepdensity.cli.warn import plain_warnings
from tests.tiny import water_box


@pytest.fixture
def geometry(tmp_path):
    path = tmp_path / 'water.xyz'
    water_box((1, 1, 1), seed=3).write(path)
    return path


def test_side_by_side(geometry, tiny_file, tmp_path, capsys):
    plot, figures = tmp_path / 'c.png', tmp_path / 'c.json'
    arguments = [str(geometry), str(tiny_file), '--oracle', '--one-pass', '--plot', str(plot), '--json', str(figures)]
    assert main(['seed', *arguments, '--txt', str(tmp_path / 'log')]) == 0
    output = capsys.readouterr().out
    assert all(word in output for word in ('default', 'seeded', 'oracle', 'one pass', 'residual', 'ΔE/meV'))
    assert plot.stat().st_size > 1e4
    assert 'Seed: ñ and D of the model tiny' in (tmp_path / 'log-seeded.txt').read_text()
    default, seeded, oracle, one_pass = json.loads(figures.read_text())['runs']
    assert seeded['energy'] == pytest.approx(default['energy'], abs=1e-3)
    assert oracle['energy'] == pytest.approx(default['energy'], abs=1e-3)
    assert oracle['iterations'] <= default['iterations'] and one_pass['iterations'] == 1
    assert len(default['changes']) == default['iterations']
    assert seeded['inference'] > 0 and default['inference'] == 0


@pytest.mark.parametrize(
    ('options', 'message'),
    [
        (['--plot', 'c.txt'], '.png'),
        (['--json', 'nowhere/c.json'], 'no such folder'),
        (['--json', '.'], "--json must be the name of a file, not '.'"),
        (['--txt', 'nowhere/log'], 'no such folder'),
        (['--mixer', '0'], '--mixer'),
    ],
)
def test_bad_input(geometry, tiny_file, options, message, capsys):
    assert main(['seed', str(geometry), str(tiny_file), *options]) == 2
    assert message in capsys.readouterr().err


def test_elements_the_model_lacks_are_refused_before_any_calculation(tmp_path, tiny_file, capsys, monkeypatch):
    monkeypatch.setattr('ase_deepdensity.scf.compare.run', lambda *_: pytest.fail('GPAW was started'))
    bulk('Al', cubic=True).write(tmp_path / 'al.xyz')
    assert main(['seed', str(tmp_path / 'al.xyz'), str(tiny_file)]) == 2
    assert 'Al' in capsys.readouterr().err


@pytest.mark.parametrize(('terminal', 'quiet'), [(True, False), (True, True), (False, False)])
def test_iterations_are_counted_on_a_terminal(terminal, quiet, monkeypatch, capsys, small_calc):
    monkeypatch.setattr(sys.stderr, 'isatty', lambda: terminal, raising=False)
    record, _ = _run_one('default', lambda: small_calc[0], small_calc[1], quiet)
    bar = capsys.readouterr().err
    assert ('default' in bar and f'{record.iterations - 1} iterations' in bar) == (terminal and not quiet)
    assert record.iterations == len(record.energies)


@pytest.fixture
def small_calc():
    """GPAW and atoms."""
    from gpaw.new.ase_interface import GPAW

    from tests.conftest import FAST

    return GPAW(txt=None, **FAST), water_box((1, 1, 1), seed=3)


def test_warnings_are_shown_once(capsys):
    with plain_warnings():
        for text in ('one', 'two', 'one'):
            warnings.warn(text, UnfamiliarWarning, stacklevel=1)
    assert capsys.readouterr().err == 'warning: one\nwarning: two\n'
