"""GPAW is an extra: what to say where it is missing."""

from __future__ import annotations

from importlib.util import find_spec

HOW_TO_INSTALL = 'pip install "ase_deepdensity[gpaw]"'


class MissingGPAWError(ImportError):
    """What was asked for needs GPAW, which is not installed."""


def require_gpaw(what: str) -> None:
    """Raise a :class:`MissingGPAWError` that names ``what`` and how to install GPAW, where it is missing."""
    if find_spec('gpaw') is None:
        raise MissingGPAWError(f'{what} needs GPAW, which is not installed: {HOW_TO_INSTALL}')
