"""What a notebook shows of an object: its lines, and a small picture beside them."""

from __future__ import annotations

import base64
from collections.abc import Iterable
from html import escape
from typing import TYPE_CHECKING

import numpy as np
from ase.data import atomic_numbers
from ase.data.colors import jmol_colors

from ase_deepdensity.plot.pictures import plot_slice
from ase_deepdensity.state import PAWDensity

if TYPE_CHECKING:
    from ase_deepdensity.plot.figure import Picture

MOST_POINTS = 10**7
"""Grid points of a density that is drawn without being asked for."""


def density_card(density: PAWDensity, text: str | None = None) -> str:
    """HTML of a density: its lines, or other ones, and a slice through the atom nearest to the middle of the cell."""
    return _card(repr(density) if text is None else text, _slice(density))


def text_card(text: str, symbols: Iterable[str] = ()) -> str:
    """HTML of a text whose first line is a heading, above tiles for elements in their usual colours."""
    return _card(text, ''.join(map(_tile, symbols)))


def _card(text: str, beside: str) -> str:
    head, *lines = text.splitlines()
    body = escape('\n'.join(line.strip() for line in lines))
    return (
        '<div style="display:flex;gap:1.5em;align-items:center;flex-wrap:wrap">'
        f'<div><strong>{escape(head)}</strong><pre style="margin:.5em 0 0">{body}</pre></div><div>{beside}</div></div>'
    )


def _slice(density: PAWDensity) -> str:
    """A picture, or nothing of what cannot be drawn: a part of a grid, a density that is nowhere positive, …"""
    if not density.grid.is_whole or np.prod(density.grid.shape) > MOST_POINTS or density.nt_sR.sum(axis=0).max() <= 0:
        return ''
    through = None
    if len(density.atoms):
        from_middle_ac = density.atoms.get_scaled_positions() - 0.5
        through = int(np.abs(from_middle_ac).sum(axis=1).argmin())
    return _image(plot_slice(density, through=through, size=(3.6, 2.8)), 'A slice of the density')


def _image(figure: Picture, name: str) -> str:
    return f'<img alt="{name}" src="data:image/png;base64,{base64.b64encode(figure.png(dpi=70)).decode()}">'


def _tile(symbol: str) -> str:
    colour_x = jmol_colors[atomic_numbers[symbol]]
    css = ','.join(str(round(255 * part)) for part in colour_x)
    ink = 'black' if colour_x @ [0.299, 0.587, 0.114] > 0.5 else 'white'
    style = f'display:inline-block;margin:2px;padding:.2em .5em;border-radius:4px;background:rgb({css});color:{ink}'
    return f'<span style="{style};border:1px solid gray">{escape(symbol)}</span>'
