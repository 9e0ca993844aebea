"""Warnings as a command line shows them."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


@contextmanager
def plain_warnings() -> Iterator[None]:
    """Warnings about the user's atoms become lines on standard error, each time they occur."""
    from ase_deepdensity.checks import UnfamiliarWarning

    def show(message: Warning | str, *_: Any, **__: Any) -> None:
        print(f'warning: {message}', file=sys.stderr)

    with warnings.catch_warnings():
        warnings.simplefilter('always', UnfamiliarWarning)
        warnings.showwarning = show
        yield
