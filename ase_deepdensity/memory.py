"""What is too large for this machine, found before anything is allocated."""

from __future__ import annotations

import os


class TooLargeError(ValueError):
    """Something that the memory of this machine cannot hold."""


def check_memory(nbytes: float, what: str) -> None:
    """Refuse what would take more memory than there is.

    Raises
    ------
    TooLargeError
        It says how much ``what`` would take and how much there is.
    """
    there = physical_memory()
    if there is not None and nbytes > there:
        raise TooLargeError(
            f'{what} would take {nbytes / 2**30:.3g} GiB of memory, and this machine has {there / 2**30:.3g} GiB'
        )


def physical_memory() -> int | None:
    """Bytes of memory of this machine; None where the system does not tell."""
    try:
        return os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES')
    except (AttributeError, OSError, ValueError):
        return None
