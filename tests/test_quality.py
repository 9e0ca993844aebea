"""Style and types, over the whole tree."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.mark.parametrize(
    'arguments',
    [['ruff', 'check'], ['ruff', 'format', '--check'], ['mypy']],
    ids=['lint', 'format', 'types'],
)
def test_quality(arguments):
    result = subprocess.run([sys.executable, '-m', *arguments], cwd=ROOT, capture_output=True, text=True)
    assert result.returncode == 0, result.stdout + result.stderr
