"""Each tutorial runs as it is, and its notebook says the same."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import jupytext
import pytest

TUTORIALS = Path(__file__).parents[1] / 'tutorials'
SCRIPTS = sorted(path.name for path in TUTORIALS.glob('*.py'))


@pytest.mark.parametrize('name', SCRIPTS)
def test_script_runs(name, tmp_path):
    folder = shutil.copytree(TUTORIALS, tmp_path / 'tutorials', ignore=shutil.ignore_patterns('.ipynb_checkpoints'))
    environment = os.environ | {'MPLBACKEND': 'agg', 'PYTHONPATH': str(TUTORIALS.parent)}
    command = [sys.executable, '-W', 'error::UserWarning', name]
    result = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr


@pytest.mark.parametrize('name', SCRIPTS)
def test_notebook_is_the_script(name):
    """``jupytext --sync tutorials/*.py`` brings them together again."""
    script = jupytext.read(TUTORIALS / name)
    notebook = jupytext.read((TUTORIALS / name).with_suffix('.ipynb'))
    cells = [[(cell.cell_type, cell.source) for cell in pages.cells] for pages in (script, notebook)]
    assert cells[0] == cells[1]
    assert all(not cell.get('outputs') for cell in notebook.cells), 'notebooks are kept without outputs'


def test_there_are_tutorials():
    assert SCRIPTS
