"""Sphinx: ``sphinx-build -W docs build/docs`` makes a web site of these pages."""

project = 'ase_deepdensity'
extensions = ['myst_parser']
exclude_patterns = ['benchmarks/*']
html_theme = 'alabaster'
myst_heading_anchors = 3
