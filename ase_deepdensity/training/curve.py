"""The learning curve, as a table and as a picture."""

from __future__ import annotations

import csv
import os
from dataclasses import astuple, dataclass, fields

from ase_deepdensity.training.checkpoint import Files


@dataclass(frozen=True)
class Row:
    """Errors at a step."""

    step: int
    nmae_training: float
    """%, mean over the steps since the row before, on cosets of the grid."""
    matrix_training: float
    """ε_D, likewise."""
    nmae_validation: float
    """%, of the averaged weights on whole grids."""
    matrix_validation: float
    """ε_D of the averaged weights."""
    learning_rate: float
    """In units of its start."""

    def to_list(self) -> list[float]:
        return list(astuple(self))


def write_curve(files: Files, rows: list[Row]) -> None:
    """Write the CSV and the PNG beside the model, each whole or not at all."""
    temporary = files.csv.with_name(f'.{files.csv.name}.tmp')
    with open(temporary, 'w', newline='') as file:
        writer = csv.writer(file)
        writer.writerow([field.name for field in fields(Row)])
        writer.writerows(row.to_list() for row in rows)
    os.replace(temporary, files.csv)
    _draw(files, rows)


def _draw(files: Files, rows: list[Row]) -> None:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 3), layout='constrained')
    panels = [('nmae', 'NMAE of ñ, %'), ('matrix', 'ε_D')]
    shown = [(name, label) for name, label in panels if any(getattr(row, f'{name}_validation') for row in rows)]
    steps = [row.step for row in rows]
    for axes, (name, label) in zip(figure.subplots(1, len(shown), squeeze=False)[0], shown, strict=True):
        for part in 'training', 'validation':
            axes.semilogy(steps, [getattr(row, f'{name}_{part}') for row in rows], label=part)
        axes.set_xlabel('step')
        axes.set_ylabel(label)
        axes.legend()
    temporary = files.png.with_name(f'.{files.png.name}')
    figure.savefig(temporary, format='png', dpi=150)
    os.replace(temporary, files.png)
