"""Packages that only some of the work needs."""

from __future__ import annotations

import importlib


class MissingPackageError(ImportError):
    """A package that is not installed."""


def require(module: str, extra: str, what: str) -> None:
    """Refuse to start without a module of one of the extras.

    Parameters
    ----------
    extra
        Of this package, that installs it.
    what
        Needs it, for the message; a plural.

    Raises
    ------
    MissingPackageError
        It says what to install.
    """
    try:
        importlib.import_module(module)
    except ImportError as error:
        package = module.partition('.')[0]
        raise MissingPackageError(
            f'{what} need the package {package} ({error}): pip install "ase_deepdensity[{extra}]"'
        ) from None
