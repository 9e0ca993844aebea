"""The electrostatic potential across a slab: what an electron meets on its way through and out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from ase_deepdensity.analysis.slab import SlabPotential

if TYPE_CHECKING:
    from ase_deepdensity.plot.figure import Picture


def plot_slab(potential: SlabPotential, heights: Sequence[float] = (), fermi_level: float | None = None) -> Picture:
    """Plane averages against the height, vacuum levels on both sides, work functions if there is a Fermi level.

    Parameters
    ----------
    heights
        Of the atoms, Å, as in ``potential.z_i``.
    fermi_level
        eV, on the scale of the potential.
    """
    from ase_deepdensity.plot.figure import Picture

    figure = Picture(figsize=(7, 3.8), layout='constrained')
    axes = figure.subplots()
    axes.plot(potential.z_i, potential.v_i, label='plane average')
    end = float(potential.z_i[-1])
    sides = zip(potential.vacuum_levels, (0.0, 0.75 * end), ('left', 'right'), strict=True)
    for level, begin, side in sides:
        axes.plot([begin, begin + 0.25 * end], [level, level], '--', color='tab:green', linewidth=1)
        x = begin if side == 'left' else begin + 0.25 * end
        text = f'vacuum {level:.2f} eV'
        if fermi_level is not None:
            text += f'\nwork function {level - fermi_level:.2f} eV'
            middle = begin + 0.125 * end
            axes.annotate('', (middle, level), (middle, fermi_level), arrowprops={'arrowstyle': '<->', 'color': '0.4'})
        axes.annotate(
            text,
            (x, level),
            (4 if side == 'left' else -4, 4),
            textcoords='offset points',
            ha=side,
            va='bottom',
            fontsize=8,
        )
    if fermi_level is not None:
        axes.axhline(fermi_level, color='tab:red', linewidth=1, label='Fermi level')
    if len(heights):
        lowest = float(potential.v_i.min())
        axes.plot(heights, [lowest] * len(heights), 'o', color='0.3', markersize=5, label='atoms')
    axes.set(xlabel='height, Å', ylabel='potential energy of an electron, eV')
    axes.margins(x=0, y=0.15)
    axes.legend(frameon=False, loc='lower right', fontsize=8)
    return figure
