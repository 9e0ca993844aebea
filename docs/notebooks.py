"""Make the notebooks beside the tutorials' scripts, with what their cells put out: ``python docs/notebooks.py``.

Each script runs in a Jupyter kernel of its own, in a copy of the folder; nothing but the notebooks is changed.
"""

from __future__ import annotations

import argparse
import shutil
import tempfile
from pathlib import Path

import jupytext
import nbformat
from nbclient import NotebookClient

TUTORIALS = Path(__file__).parents[1] / 'tutorials'
LONGEST = 600
"""Seconds that a cell may take."""


def executed(script: Path) -> nbformat.NotebookNode:
    """The notebook of a script, run from the first cell to the last; an error of a cell is an error here."""
    notebook = jupytext.read(script)
    with tempfile.TemporaryDirectory() as folder:
        copy = shutil.copytree(script.parent, Path(folder) / 'tutorials')
        client = NotebookClient(notebook, timeout=LONGEST, resources={'metadata': {'path': str(copy)}})
        client.execute()
    for i, cell in enumerate(notebook.cells):
        cell.id = f'cell-{i}'
        cell.metadata.pop('execution', None)  # times of day
        for output in cell.get('outputs', ()):
            output.get('metadata', {}).clear()
    return _joined(notebook)


def _joined(notebook: nbformat.NotebookNode) -> nbformat.NotebookNode:
    """Pieces of text that a cell has printed one after the other as one, without the warnings' paths."""
    for cell in notebook.cells:
        outputs: list[nbformat.NotebookNode] = []
        for output in cell.get('outputs', ()):
            if output.output_type == 'stream' and outputs and outputs[-1].get('name') == output.name:
                outputs[-1].text += output.text
            else:
                outputs.append(output)
        if cell.cell_type == 'code':
            cell.outputs = [output for output in outputs if output.get('name') != 'stderr']
    return notebook


def main() -> None:
    parser = argparse.ArgumentParser(description='Run the tutorials and write their notebooks.')
    parser.add_argument('script', nargs='*', type=Path, help='default: all of tutorials/')
    for script in parser.parse_args().script or sorted(TUTORIALS.glob('*.py')):
        notebook = executed(script)
        nbformat.write(notebook, script.with_suffix('.ipynb'))
        print(script.with_suffix('.ipynb'), script.with_suffix('.ipynb').stat().st_size // 1000, 'kB')


if __name__ == '__main__':
    main()
