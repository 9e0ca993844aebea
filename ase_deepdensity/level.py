"""The level of theory a density belongs to: a code's parameters, and the versions of the code and its datasets."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from ase.data import chemical_symbols

from ase_deepdensity.arguments import did_you_mean
from ase_deepdensity.spelling import IGNORED, PARTICULAR, SPELLINGS, code_name

if TYPE_CHECKING:
    from gpaw.new.ase_interface import ASECalculator

NAMED: dict[str, dict[str, Any]] = {
    'pw400': {'mode': {'name': 'pw', 'ecut': 400}, 'xc': 'PBE'},
    'dzp': {'mode': 'lcao', 'basis': 'dzp', 'h': 0.2, 'xc': 'PBE'},
    'general-pw400': {
        'mode': {'name': 'pw', 'ecut': 400},
        'xc': 'PBE',
        'kpts': {'density': 2.5},
        'occupations': {'name': 'fermi-dirac', 'width': 0.1},
    },
    'ks1d': {'mode': 'ks1d'},
}


class LevelError(ValueError):
    """A level of theory that cannot be read or that its code would not understand."""


@dataclass(frozen=True)
class Level:
    """A level of theory: plain data, which asks no code (:func:`.code_of` does).

    Two levels are equal when nothing physical differs: how the calculation was driven to convergence
    (``convergence``, ``maxiter``, ``mixer``, ``eigensolver``, ``parallel``, ``symmetry``, ``nbands``, ``random``,
    ``magmoms``) does not count, nor does the ``basis`` outside the LCAO mode.

    The charge of a system is no part of it, see :attr:`.PAWDensity.charge`.

    Raises
    ------
    LevelError
        Parameters that the code does not have, a charge, or values that JSON does not have.
    """

    parameters: dict[str, Any]
    """GPAW's keyword arguments, or ``{'mode': 'ks1d'}`` and those of that code; plain JSON types only."""
    name: str = ''
    """A short name: one of the named levels, or the stem of the file it came from."""
    versions: dict[str, Any] = field(default_factory=dict)
    """Of the code (``gpaw`` and ``gpaw-data``), and ``datasets``, the MD5 of each element's file.  Empty: none used
    yet."""

    def __post_init__(self) -> None:
        try:
            SPELLINGS[self.code].check(self.parameters)
        except ValueError as error:
            raise LevelError(f'{self.label}: {error}') from None
        parameters = {k: _plain(v) for k, v in self.parameters.items() if k not in (*IGNORED, 'charge')}
        object.__setattr__(self, 'parameters', parameters)

    @property
    def code(self) -> str:
        """The program that calculates at this level: 'gpaw' or 'ks1d'."""
        return code_name(self.parameters)

    @property
    def label(self) -> str:
        """For messages."""
        return f'level of theory {self.name!r}' if self.name else 'level of theory'

    @classmethod
    def load(cls, name_or_path: str | Path) -> Level:
        """A named level, or a JSON file of GPAW parameters (or of the code that its mode names).

        Raises
        ------
        LevelError
            Neither a known name nor a file; not JSON; not a dictionary; a charge, or parameters that the code does
            not have.
        """
        if str(name_or_path) in NAMED:
            return cls(NAMED[str(name_or_path)], str(name_or_path))
        path = Path(name_or_path)
        if '\0' in str(path) or not path.is_file():
            raise LevelError(
                f'no level of theory {str(name_or_path)!r}: use {", ".join(NAMED)}, or a JSON file of GPAW parameters'
                + did_you_mean(str(name_or_path), NAMED)
            )
        try:
            parameters = json.loads(path.read_text(encoding='utf-8'))
        except ValueError as error:
            raise LevelError(f'{path}: not a JSON file: {error}') from None
        if not isinstance(parameters, dict):
            raise LevelError(f'{path}: must hold a dictionary of GPAW parameters, not {type(parameters).__name__}')
        return cls(parameters, path.stem)

    @classmethod
    def from_gpaw(cls, calc: ASECalculator) -> Level:
        """See :func:`.codes.gpaw.parameters.level_of_calculation`."""
        from ase_deepdensity.codes.gpaw.parameters import level_of_calculation

        return level_of_calculation(calc)

    def to_dict(self) -> dict[str, Any]:
        """Name, parameters and versions, in JSON's types."""
        return {'name': self.name, 'parameters': self.parameters, 'versions': self.versions}

    @classmethod
    def from_dict(cls, dictionary: dict[str, Any]) -> Level:
        """What :meth:`to_dict` has made.

        Raises
        ------
        LevelError
            Anything else.
        """
        try:
            return cls(dictionary['parameters'], dictionary.get('name', ''), dictionary.get('versions', {}))
        except (KeyError, TypeError, AttributeError) as error:
            raise LevelError(f'not a level of theory: {dictionary!r} ({error!r})') from None

    @property
    def key(self) -> str:
        """The physical parameters as a string: equal for equal levels."""
        return json.dumps(self._canonical(), sort_keys=True)

    def _canonical(self) -> dict[str, Any]:
        """The physical parameters in one spelling."""
        return SPELLINGS[self.code].canonical(self.parameters)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Level) and not self.differences(other)

    def __hash__(self) -> int:
        return hash(self.key)

    def differences(self, other: Level) -> list[str]:
        """One line for each physical item in which another level differs.

        Versions are compared where both levels know them; datasets for the elements that both know.
        """
        mine, theirs = self._canonical(), other._canonical()
        mine, theirs = mine | _known(self.versions), theirs | _known(other.versions)
        for dictionary, reference in (mine, theirs), (theirs, mine):
            for key in [key for key in dictionary if key.startswith('version of ') and key not in reference]:
                del dictionary[key]
        keys = list(dict.fromkeys([*mine, *theirs]))
        return [
            f'{key}: {json.dumps(mine.get(key))} against {json.dumps(theirs.get(key))}'
            for key in keys
            if mine.get(key) != theirs.get(key)
        ]

    def fingerprint(self, number: int) -> str:
        """MD5 of an element's dataset; empty where it is not known."""
        symbol = chemical_symbols[number] if 0 < number < len(chemical_symbols) else ''
        return str(self.versions.get('datasets', {}).get(symbol, ''))

    def keywords(self, **changes: Any) -> dict[str, Any]:
        """Keyword arguments for ``GPAW(...)``: atom indices are numbers again, which JSON made strings."""
        return {
            key: {int(k) if k.isdigit() else k: v for k, v in value.items()}
            if key in ('setups', 'basis') and isinstance(value, dict)
            else value
            for key, value in (self.parameters | changes).items()
        }

    def general(self) -> Level:
        """The same level without what belongs to certain atoms or a certain machine (:data:`PARTICULAR`)."""
        parameters = {key: value for key, value in self.parameters.items() if key not in PARTICULAR}
        return replace(self, parameters=parameters)

    def joined(self, other: Level) -> Level:
        """The same level, which knows the datasets of the elements of both."""
        datasets = self.versions.get('datasets', {}) | other.versions.get('datasets', {})
        versions = other.versions | self.versions | ({'datasets': dict(sorted(datasets.items()))} if datasets else {})
        return replace(self, versions=versions)


def without_charge(dictionary: Mapping[str, Any]) -> tuple[dict[str, Any], float]:
    """What :meth:`Level.to_dict` had made when a level could have a charge, and that charge (|e|) apart.

    Raises
    ------
    LevelError
        Something else.
    """
    try:
        parameters = dict(dictionary['parameters'])
        return {**dictionary, 'parameters': parameters}, float(parameters.pop('charge', None) or 0.0)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise LevelError(f'not a level of theory: {dictionary!r} ({error!r})') from None


def _plain(value: Any) -> Any:
    """The same value in JSON's types."""
    if isinstance(value, dict):
        return {key if isinstance(key, str) else str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, np.ndarray | np.generic):
        return _plain(value.tolist())
    if hasattr(value, 'todict'):
        return _plain(({'name': value.name} if hasattr(value, 'name') else {}) | value.todict())
    if value is None or isinstance(value, str | bool | int | float):
        return value
    raise LevelError(f'a level of theory holds plain values only, not {value!r}')


def _known(versions: dict[str, Any]) -> dict[str, str]:
    flat = {f'version of {key}': value for key, value in versions.items() if key != 'datasets'}
    return flat | {f'version of the {symbol} dataset': md5 for symbol, md5 in versions.get('datasets', {}).items()}
