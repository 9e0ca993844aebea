"""The learning curve, as a table and as a picture."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import astuple, dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING

from ase_deepdensity.files import replacing, replacing_path
from ase_deepdensity.training.checkpoint import Files

if TYPE_CHECKING:
    from _typeshed import DataclassInstance


@dataclass(frozen=True)
class Row:
    """Errors at a step."""

    step: int
    nmae_training: float
    """%, mean over the steps since the row before, on cosets of the grid, not normalised."""
    matrix_training: float
    """ε_D of all snapshots of these steps."""
    nmae_validation: float
    """%, of the averaged weights, mean over the validation snapshots, as ``deepdensity evaluate`` has it."""
    matrix_validation: float
    """ε_D, likewise (``total``)."""
    learning_rate: float
    """Of the last step."""
    magnetisation_validation: float = 0.0
    """NMAE of the magnetisation, %, of the averaged weights on those validation snapshots that have one, or 0."""

    def to_list(self) -> list[float]:
        return list(astuple(self))

    @classmethod
    def from_list(cls, values: list[float]) -> Row:
        step, *errors = values
        return cls(int(step), *errors)


def write_curve(files: Files, rows: list[Row]) -> None:
    """Write the CSV and the PNG beside the model, each whole or not at all."""
    write_table(files.csv, Row, rows)
    _draw(files, rows)


def write_table(path: Path, kind: type[DataclassInstance], rows: Sequence[DataclassInstance]) -> None:
    """Rows of one kind as CSV, under the names of their fields."""
    with replacing(path, newline='') as file:
        writer = csv.writer(file)
        writer.writerow([field.name for field in fields(kind)])
        writer.writerows(astuple(row) for row in rows)


def _draw(files: Files, rows: list[Row]) -> None:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 3), layout='constrained')
    panels = [('nmae', 'NMAE of ñ, %'), ('matrix', 'ε_D'), ('magnetisation', 'NMAE of m, %')]
    shown = [(name, label) for name, label in panels if any(getattr(row, f'{name}_validation') for row in rows)]
    steps = [row.step for row in rows]
    for axes, (name, label) in zip(figure.subplots(1, len(shown), squeeze=False)[0], shown, strict=True):
        for part in 'training', 'validation':
            if hasattr(rows[0], f'{name}_{part}'):
                axes.semilogy(steps, [getattr(row, f'{name}_{part}') for row in rows], label=part)
        axes.set_xlabel('step')
        axes.set_ylabel(label)
        axes.legend()
    with replacing_path(files.png) as temporary:
        figure.savefig(temporary, format='png', dpi=150)
