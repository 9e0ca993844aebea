"""Warnings as a command line shows them."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


@contextmanager
def plain_warnings(*, once: bool = False) -> Iterator[None]:
    """Warnings about the user's atoms become lines on standard error, each time they occur.

    Parameters
    ----------
    once
        The same text only the first time.
    """
    from ase_deepdensity.checks import DoubtfulPassWarning, UnfamiliarWarning

    shown: set[str] = set()

    def show(message: Warning | str, *_: Any, **__: Any) -> None:
        if once and str(message) in shown:
            return
        shown.add(str(message))
        print(f'warning: {message}', file=sys.stderr)

    with warnings.catch_warnings():
        for category in UnfamiliarWarning, DoubtfulPassWarning:
            warnings.simplefilter('always', category)
        warnings.showwarning = show
        yield
