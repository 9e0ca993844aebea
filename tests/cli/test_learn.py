"""``deepdensity learn``: what it is told, and what comes of it."""

from __future__ import annotations

import pytest
from ase.io import write

from ase_deepdensity.cli.learn import percent, seconds
from ase_deepdensity.cli.main import main
from tests.tiny import water_box


def test_times_and_percentages():
    assert [percent('0.3%'), percent('0.3')] == [0.3, 0.3]
    assert [seconds(text) for text in ('90s', '30min', '2h', '0.5 d')] == [90.0, 1800.0, 7200.0, 43200.0]
    for text in '2', '2 hours', 'h', '1.2.3h':
        with pytest.raises(ValueError, match='--budget must be a time such as 90s, 30min, 2h or 1d, not'):
            seconds(text)
    with pytest.raises(ValueError, match='--target must be a percentage such as 0.3%, not'):
        percent('little')


def test_errors_are_one_line(tiny_file, tmp_path, capsys):
    write(tmp_path / 'pool.xyz', [water_box((1, 1, 1), seed=seed) for seed in range(3)])
    command = ['learn', str(tmp_path / 'pool.xyz'), str(tmp_path / 'out'), '--init', str(tiny_file)]
    for more, message in (
        (['--level', 'dzp', '--target', '0.3%', '--budget', '2'], '--budget must be a time'),
        (['--level', 'dzp', '--target', '0.3%', '--budget', '2h'], 'a pool of 3 geometries is too small to hold 4 out'),
        (['--level', 'pw400', '--target', '1', '--budget', '2h', '--held-out', '1'], 'tiny is of another level'),
    ):
        assert main([*command, *more]) == 2
        assert message in capsys.readouterr().err
    assert not (tmp_path / 'out').exists()
