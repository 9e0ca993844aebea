"""A learning curve: errors against the number of snapshots, and what to expect of more."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from ase_deepdensity.plot.figure import Picture


def plot_learning(
    sizes: Sequence[int],
    repetitions: Sequence[Sequence[float]],
    expected: Mapping[int, tuple[float, float]],
    before: float,
) -> Picture:
    """Errors in % on logarithmic axes.

    Parameters
    ----------
    sizes
        Numbers of snapshots.
    repetitions
        For each repetition the errors at these.
    expected
        By number of snapshots the error that a law gives, and its standard deviation.
    before
        The error without any.
    """
    from matplotlib.ticker import NullFormatter, ScalarFormatter

    from ase_deepdensity.plot.figure import Picture

    figure = Picture(figsize=(6, 4), layout='constrained')
    axes = figure.subplots()
    for errors in repetitions:
        axes.plot(sizes, errors, '.', color='0.6')
    axes.plot(sizes, np.mean(repetitions, axis=0), 'o', label='measured')
    n, error_n, spread_n = (np.array(x) for x in zip(*((n, *pair) for n, pair in expected.items()), strict=True))
    axes.plot(n, error_n, '-', color='tab:blue', linewidth=1.2, label='expected')
    axes.fill_between(n, np.maximum(error_n - spread_n, 0.5 * error_n), error_n + spread_n, alpha=0.2)
    axes.axhline(before, color='0.4', linestyle=':', label='the model as it is')
    axes.set(xscale='log', yscale='log', xlabel='snapshots', ylabel='NMAE of others, %')
    axes.set_xticks(n, [str(number) for number in n])
    for axis in axes.yaxis, axes.xaxis:
        axis.set_minor_formatter(NullFormatter())
    axes.yaxis.set_major_formatter(ScalarFormatter())
    axes.yaxis.set_minor_formatter(ScalarFormatter())
    axes.legend(frameon=False)
    return figure
