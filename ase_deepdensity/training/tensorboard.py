"""The learning curve where TensorBoard looks for it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path

from ase_deepdensity.packages import require
from ase_deepdensity.training.curve import Row


def require_tensorboard() -> None:
    """Refuse to start where it is not installed (``MissingPackageError``)."""
    require('tensorboard', 'tensorboard', 'logs for TensorBoard')


class TensorBoard:
    """Writes rows of a learning curve to a folder of events: ``tensorboard --logdir FOLDER`` shows them.

    What an earlier run of the same training has written there is replaced.

    Raises
    ------
    MissingPackageError
        TensorBoard is not installed.
    OSError
        Nothing can be written there.
    """

    def __init__(self, folder: str | Path):
        require_tensorboard()
        self.folder = Path(folder)
        self.folder.mkdir(parents=True, exist_ok=True)
        self.written = 0

    def write(self, rows: Sequence[Row]) -> None:
        """All rows so far; those that were given before are not written again."""
        from torch.utils.tensorboard import SummaryWriter

        with SummaryWriter(str(self.folder), purge_step=None if self.written else 0) as writer:
            for row in rows[self.written :]:
                for field in fields(row):
                    name, _, part = field.name.partition('_')
                    tag = field.name if part == 'rate' else f'{name}/{part}'
                    if field.name != 'step' and (name != 'magnetisation' or row.magnetisation_validation):
                        writer.add_scalar(tag, getattr(row, field.name), row.step)
        self.written = len(rows)
