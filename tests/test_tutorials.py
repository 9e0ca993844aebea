"""Each tutorial runs as it is, in a Jupyter kernel, and shows its pictures; its notebook says and shows the same."""

import runpy
import warnings
from pathlib import Path

import jupytext
import nbformat
import pytest

ROOT = Path(__file__).parents[1]
TUTORIALS = ROOT / 'tutorials'
SCRIPTS = sorted(path.name for path in TUTORIALS.glob('*.py'))
LARGEST = 600_000
"""Bytes of a notebook."""


def pictures(notebook: nbformat.NotebookNode) -> list[int]:
    """The cells that show a picture in a notebook, and on a page where no scripts run."""
    return [i for i, cell in enumerate(notebook.cells) for output in cell.get('outputs', ()) if has_picture(output)]


def has_picture(output: nbformat.NotebookNode) -> bool:
    data = output.get('data', {})
    return 'image/png' in data or 'data:image/png' in ''.join(data.get('text/html', ''))


@pytest.mark.parametrize('name', SCRIPTS)
def test_a_kernel_runs_it_and_shows_the_pictures(name, monkeypatch):
    """Errors of a cell are errors here; pictures come where the notebook that is kept has them."""
    monkeypatch.setenv('PYTHONPATH', str(ROOT))
    executed = runpy.run_path(str(ROOT / 'docs' / 'notebooks.py'))['executed']
    with warnings.catch_warnings(action='ignore', category=DeprecationWarning):  # of Jupyter's own packages
        found = executed(TUTORIALS / name)
    kept = nbformat.read((TUTORIALS / name).with_suffix('.ipynb'), as_version=4)
    assert pictures(found) == pictures(kept) != []


@pytest.mark.parametrize('name', SCRIPTS)
def test_notebook_is_the_script(name):
    """``python docs/notebooks.py`` brings them together again."""
    path = (TUTORIALS / name).with_suffix('.ipynb')
    script, notebook = jupytext.read(TUTORIALS / name), jupytext.read(path)
    cells = [[(cell.cell_type, cell.source) for cell in pages.cells] for pages in (script, notebook)]
    assert cells[0] == cells[1]
    assert all(cell.execution_count for cell in notebook.cells if cell.cell_type == 'code'), 'kept with outputs'
    assert path.stat().st_size < LARGEST


def test_there_are_tutorials():
    assert SCRIPTS
