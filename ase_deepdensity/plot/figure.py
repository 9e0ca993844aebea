"""A figure that notebooks show by themselves, and what makes one quickly.

Matplotlib's own layouts draw a figure to find its place, and powers of ten go through its typesetting of formulas: more
than half of the time of a picture that a new process makes.
"""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

from matplotlib.figure import Figure
from matplotlib.ticker import LogFormatter, NullLocator

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.axis import Axis

LEFT, BOTTOM, TOP = 0.65, 0.55, 0.15
"""Inches around axes, with room for their ticks and labels."""
GAP, BAR, RIGHT = 0.15, 0.18, 0.95
"""Inches between axes and the bar of their colours, its width, and room for its ticks and label."""


class Picture(Figure):
    """Matplotlib's figure, made without pyplot, so that none is kept in memory or shown twice.

    Notebooks know how to show one only after pyplot has been imported; this one says it itself.
    """

    def _repr_png_(self) -> bytes:
        return self.png()

    def png(self, dpi: float = 80) -> bytes:
        """It as PNG, cut to what is drawn."""
        buffer = io.BytesIO()
        self.savefig(buffer, format='png', dpi=dpi, bbox_inches='tight')
        return buffer.getvalue()


class PlainPowers(LogFormatter):
    """Labels of a logarithmic axis as plain numbers, 0.01 instead of 10⁻²."""

    def __call__(self, x: float, pos: int | None = None) -> str:
        return f'{x:g}' if super().__call__(x, pos) else ''


def plain_powers(axis: Axis) -> None:
    """Label a logarithmic axis so; ticks between powers of ten where there are less than three of them."""
    axis.set_major_formatter(PlainPowers())
    low, high = axis.get_view_interval()
    if high < 1000 * low:
        axis.set_minor_formatter(PlainPowers(labelOnlyBase=False))
    else:
        axis.set_minor_locator(NullLocator())


def beside_a_bar(figure: Figure, extent: tuple[float, float]) -> tuple[Axes, Axes]:
    """Axes of the shape of a rectangle, as large as the figure has room for, and as high beside them those of a bar."""
    full_width, full_height = figure.get_size_inches()
    room = full_width - LEFT - GAP - BAR - RIGHT, full_height - BOTTOM - TOP
    scale = min(inches / length for inches, length in zip(room, extent, strict=True))
    width, height = (scale * length for length in extent)
    left, bottom = LEFT + (room[0] - width) / 2, BOTTOM + (room[1] - height) / 2

    def add(x: float, wide: float) -> Axes:
        return figure.add_axes((x / full_width, bottom / full_height, wide / full_width, height / full_height))

    return add(left, width), add(left + width + GAP, BAR)
