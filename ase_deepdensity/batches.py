"""Several frames at once: how many a network sees at a time, and errors that name theirs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from ase import Atoms

from ase_deepdensity.checks import PredictionError


@contextmanager
def naming_frame(i: int, frames: Sequence[Atoms]) -> Iterator[None]:
    """Let errors say which of several frames they are of."""
    try:
        yield
    except PredictionError as error:
        if len(frames) == 1:
            raise
        raise PredictionError(f'frame {i} ({frames[i].get_chemical_formula()}): {error}') from error


def batch_ends(sizes: Sequence[int], most: int) -> Iterator[int]:
    """Where batches of consecutive systems end that have at most so many atoms each, or are one system."""
    total = 0
    for i, size in enumerate(sizes):
        if total and total + size > most:
            yield i
            total = 0
        total += size
    if sizes:
        yield len(sizes)
