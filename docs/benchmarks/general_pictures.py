"""Pictures of a model for many elements: periodic tables, and errors against those of a start without a network."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import matplotlib
import numpy as np
from ase.data import chemical_symbols
from matplotlib.figure import Figure


def place(number: int) -> tuple[int, int]:
    """Row and column in a periodic table of 18 columns; La stands below it."""
    if number == 57:
        return 6, 2
    noble = [0, 2, 10, 18, 36, 54, 86]
    period = next(i for i, last in enumerate(noble[1:]) if number <= last)
    i = number - noble[period]
    length = noble[period + 1] - noble[period]
    if length == 32 and i > 3:
        i = max(i - 14, 3)
    if i <= 2 and number != 2:
        return period, i - 1
    return period, 18 - (min(length, 18) - i) - 1


def draw_table(
    values: Mapping[str, float], texts: Mapping[str, str], limits: tuple[float, float], label: str, path: Path
) -> None:
    """A periodic table, coloured by a value of each element, with a text below its symbol."""
    figure = Figure(figsize=(12, 5.9), layout='constrained')
    axes = figure.subplots()
    colors, norm = matplotlib.colormaps['viridis_r'], matplotlib.colors.Normalize(*limits, clip=True)
    for symbol, value in values.items():
        i, j = place(chemical_symbols.index(symbol))
        axes.add_patch(matplotlib.patches.Rectangle((j, -i), 0.94, 0.94, color=colors(norm(value))))
        shade = 'white' if norm(value) > 0.45 else 'black'
        axes.text(j + 0.47, 0.6 - i, symbol, ha='center', va='center', fontsize=14, color=shade)
        axes.text(j + 0.47, 0.2 - i, texts[symbol], ha='center', va='center', fontsize=7.5, color=shade)
    axes.set(xlim=(0, 18), ylim=(-6.1, 1))
    axes.set_axis_off()
    figure.colorbar(matplotlib.cm.ScalarMappable(norm, colors), ax=axes, shrink=0.7, label=label)
    figure.savefig(path, dpi=110)


def draw_errors(errors: Mapping[str, Sequence[tuple[float, float]]], least: float, path: Path) -> None:
    """Errors of predictions against those of superpositions, %, for each kind of structure, with lines of equal ratio.

    Below ``least`` a superposition counts as that far off.
    """
    figure = Figure(figsize=(7, 5.5), layout='constrained')
    axes = figure.subplots()
    for kind, pairs in sorted(errors.items()):
        axes.plot(*zip(*pairs, strict=True), 'o', markersize=5, alpha=0.75, label=f'{kind} ({len(pairs)})')
    everything = [x for pairs in errors.values() for x, _ in pairs]
    x_i = np.geomspace(0.8 * min(everything), 1.25 * max(everything), 100)
    for ratio in (0.1, 0.15, 0.3, 0.6, 1.0):
        y_i = ratio * np.maximum(x_i, least)
        axes.plot(x_i, y_i, color='grey', linewidth=0.7)
        axes.annotate(f'{ratio:g}', (x_i[-1], y_i[-1]), xytext=(3, 0), textcoords='offset points', va='center')
    axes.set(xscale='log', yscale='log')
    axes.set(xlabel='error of ñ of the superposition of atoms, %', ylabel='error of ñ of the prediction, %')
    axes.legend(fontsize=8, title='structures', loc='upper left')
    figure.savefig(path, dpi=110)
