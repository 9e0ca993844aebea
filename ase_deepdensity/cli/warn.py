"""Warnings as a command line shows them."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from ase_deepdensity.cli.parser import print_safely


@contextmanager
def warnings_as_lines() -> Iterator[None]:
    """Each warning is one line on standard error, and comes once."""
    shown: set[str] = set()

    def show(message: Warning | str, *_: Any, **__: Any) -> None:
        line = ' '.join(str(message).split())
        if line not in shown:
            shown.add(line)
            print_safely(f'warning: {line}')

    with warnings.catch_warnings():
        warnings.showwarning = show
        yield


@contextmanager
def plain_warnings() -> Iterator[None]:
    """The same for one piece of work: warnings about its atoms come even if others have been warned about before."""
    from ase_deepdensity.checks import DoubtfulPassWarning, UnfamiliarWarning

    with warnings_as_lines():
        for category in UnfamiliarWarning, DoubtfulPassWarning:
            warnings.simplefilter('always', category)
        yield
