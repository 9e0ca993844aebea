"""Levels of theory as GPAW's own parameters, and the level of a calculation of GPAW's."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike

from ase_deepdensity.arguments import reason
from ase_deepdensity.codes.gpaw.datasets import setups
from ase_deepdensity.codes.gpaw.require import require_gpaw
from ase_deepdensity.grid import check_size
from ase_deepdensity.level import NAMED, Level, LevelError
from ase_deepdensity.spelling import NUMERICAL, PARTICULAR, PHYSICAL

if TYPE_CHECKING:
    from gpaw.dft import Parameters
    from gpaw.new.ase_interface import ASECalculator
    from gpaw.setup import Setups


def gpaw_parameters(level: Level, **changes: Any) -> Parameters:
    """GPAW's own parameter object.

    Raises
    ------
    LevelError
        Values that GPAW refuses, or a level of another code.
    """
    if level.code != 'gpaw':
        raise LevelError(f'this needs GPAW, but the {level.label} is one of {level.code}')
    require_gpaw('this')
    from gpaw.dft import Parameters

    try:
        return Parameters(**level.keywords(**changes))
    except Exception as error:
        raise LevelError(f'{level.label}: GPAW refuses the parameters: {reason(error)}') from error


def check(level: Level, numbers: ArrayLike) -> Level:
    """See :meth:`.Code.check`."""
    gpaw_parameters(level)
    try:
        check_size(level.parameters.get('gpts'), level.parameters.get('h'), length=0.0)
    except ValueError as error:
        raise LevelError(f'{level.label}: {error}') from None
    return with_versions(level, numbers) if np.size(numbers) else level


def with_versions(level: Level, numbers: ArrayLike) -> Level:
    """A copy that carries the versions of GPAW and of the datasets of the elements (atomic numbers)."""
    return replace(level, versions=versions(setups(level, sorted(set(np.asarray(numbers).tolist())))))


def versions(setups: Setups) -> dict[str, Any]:
    """Of GPAW, of the package of its datasets, and the MD5 of each dataset."""
    from importlib.metadata import PackageNotFoundError, version

    import gpaw

    result: dict[str, Any] = {'gpaw': gpaw.__version__}
    with suppress(PackageNotFoundError):  # datasets installed by hand: their MD5 tells
        result['gpaw-data'] = version('gpaw-data')
    datasets = {setup.symbol: getattr(setup, 'fingerprint', None) for setup in setups}
    result['datasets'] = {symbol: datasets[symbol] for symbol in sorted(datasets) if datasets[symbol]}
    return result


def shares_ranks(level: Level) -> bool:
    """Can several MPI ranks work on one calculation?  GPAW built without ScaLAPACK cannot share plane waves."""
    mode: Any = gpaw_parameters(level).mode
    from gpaw.utilities import compiled_with_sl

    return compiled_with_sl() or mode.name == 'lcao'


def level_of_calculation(calc: ASECalculator) -> Level:
    """The level of a GPAW calculation, with versions; it gets the name of the named level that it is.

    What belongs to those atoms and that machine is left out, see :meth:`.Level.general`.
    """
    kept = {*PHYSICAL, *NUMERICAL} - {*PARTICULAR}
    parameters = {key: value for key, value in calc.params.todict().items() if key in kept}
    level = Level(parameters, 'gpaw', versions(calc.dft.setups))
    for name in NAMED:
        if level == Level.load(name):
            return replace(level, name=name)
    return level
