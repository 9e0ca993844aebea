"""Sphinx: ``python -m sphinx -W docs build/docs`` makes a web site; references come from the code."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent / 'extensions'))
import ase_deepdensity

project = 'ase_deepdensity'
release = ase_deepdensity.__version__
copyright = 'the authors of ase_deepdensity, GPL-3.0-or-later'
extensions = ['myst_nb', 'sphinx.ext.autodoc', 'sphinx.ext.napoleon', 'sphinx.ext.mathjax', 'commands', 'gallery']
exclude_patterns = ['benchmarks/*', 'extensions/*', '**/.ipynb_checkpoints']
source_suffix = {'.md': 'myst-nb', '.ipynb': 'myst-nb'}

html_theme = 'furo'
html_title = f'ase_deepdensity {release}'
html_static_path = ['_static']
html_css_files = ['site.css']

myst_heading_anchors = 3
myst_enable_extensions = ['dollarmath']
suppress_warnings = ['mystnb.unknown_mime_type']  # surfaces that turn: their pictures are shown
nb_execution_mode = 'off'  # notebooks are kept with what their cells put out: docs/notebooks.py

autodoc_member_order = 'bysource'
autodoc_typehints = 'none'
autodoc_default_options = {'members': True, 'show-inheritance': False}
napoleon_use_rtype = False
napoleon_custom_sections = [('Warns', 'Raises')]


def setup(app):
    """What Sphinx calls: docstrings are plain text, in which bars and stars are formulas."""

    def escape(app, what, name, obj, options, lines):
        for i, line in enumerate(lines):
            if not line.lstrip().startswith('>>>'):
                lines[i] = line.replace('|', r'\|').replace('*grid.shape', r'\*grid.shape')

    app.connect('autodoc-process-docstring', escape, priority=1)
