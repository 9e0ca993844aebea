"""The level of theory a density belongs to: GPAW's parameters, and the versions of GPAW and its datasets."""

from __future__ import annotations

import json
from contextlib import suppress
from dataclasses import dataclass, field
from functools import lru_cache
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np
from ase import Atoms
from ase.data import chemical_symbols
from numpy.typing import ArrayLike

from ase_deepdensity.arguments import did_you_mean, reason
from ase_deepdensity.grid import Grid, check_size

if TYPE_CHECKING:
    from gpaw.dft import Parameters
    from gpaw.new.ase_interface import ASECalculator
    from gpaw.setup import Setups

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

OTHER_MODES = {'ks1d': ('ase_deepdensity.level1d', 'Level1D')}
"""Modes that are not GPAW's: the module and the class of their levels."""

# GPAW's keywords, so that opening a model needs no GPAW (a test keeps the two lists alike).
PHYSICAL = (
    'mode', 'xc', 'basis', 'setups', 'h', 'gpts', 'kpts', 'occupations', 'charge', 'spinpol', 'hund', 'soc',
    'extensions', 'interpolation', 'poissonsolver', 'experimental',
)  # fmt: skip
NUMERICAL = (
    'convergence', 'maxiter', 'mixer', 'eigensolver', 'parallel', 'symmetry', 'nbands', 'random', 'magmoms',
)  # fmt: skip
PARTICULAR = ('nbands', 'parallel', 'magmoms')
"""Of the numerical ones, those that belong to certain atoms or a certain machine."""


class LevelError(ValueError):
    """A level of theory that cannot be read or that GPAW would not understand."""


@dataclass(frozen=True)
class Level:
    """A level of theory.

    Two levels are equal when nothing physical differs: how the calculation was driven to convergence
    (``convergence``, ``maxiter``, ``mixer``, ``eigensolver``, ``parallel``, ``symmetry``, ``nbands``, ``random``,
    ``magmoms``) does not count, nor does the ``basis`` outside the LCAO mode.
    """

    code: ClassVar[str] = 'gpaw'
    """The program that calculates at this level, see :mod:`.reference.codes`."""

    parameters: dict[str, Any]
    """GPAW's keyword arguments, plain JSON types only."""
    name: str = ''
    """A short name: one of the named levels, or the stem of the file it came from."""
    versions: dict[str, Any] = field(default_factory=dict)
    """Of ``gpaw`` and ``gpaw-data``, and ``datasets``, the MD5 of each element's file.  Empty: none used yet."""

    def __post_init__(self) -> None:
        unknown = sorted(self.parameters.keys() - {*PHYSICAL, *NUMERICAL, 'txt', 'communicator'})
        if unknown:
            raise LevelError(
                f'{_label(self.name)}: GPAW has no keyword {", ".join(map(repr, unknown))}; '
                f'allowed are {", ".join(sorted(PHYSICAL + NUMERICAL))}'
                + ''.join(did_you_mean(word, PHYSICAL + NUMERICAL) for word in unknown)
            )
        if 'mode' not in self.parameters:
            raise LevelError(f'{_label(self.name)}: "mode" is missing, for example {{"mode": "lcao"}}')
        parameters = {k: _plain(v) for k, v in self.parameters.items() if k not in ('txt', 'communicator')}
        object.__setattr__(self, 'parameters', parameters)

    @classmethod
    def load(cls, name_or_path: str | Path) -> Level:
        """A named level, or a JSON file of GPAW parameters.

        Raises
        ------
        LevelError
            Neither a known name nor a file; not JSON; not a dictionary; keywords GPAW does not have.
        """
        if str(name_or_path) in NAMED:
            return _make(NAMED[str(name_or_path)], str(name_or_path))
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
        return _make(parameters, path.stem)

    @classmethod
    def from_gpaw(cls, calc: ASECalculator) -> Level:
        """The level of a GPAW calculation, with versions; it gets the name of the named level that it is.

        What belongs to those atoms and that machine is left out, see :meth:`general`.
        """
        parameters = {k: v for k, v in calc.params.todict().items() if k in {*PHYSICAL, *NUMERICAL} - {*PARTICULAR}}
        level = cls(parameters, 'gpaw', _versions(calc.dft.setups))
        for name in NAMED:
            if level == Level.load(name):
                return cls(level.parameters, name, level.versions)
        return level

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
            return _make(dictionary['parameters'], dictionary.get('name', ''), dictionary.get('versions', {}))
        except (KeyError, TypeError, AttributeError) as error:
            raise LevelError(f'not a level of theory: {dictionary!r} ({error!r})') from None

    @property
    def key(self) -> str:
        """The physical parameters as a string: equal for equal levels."""
        return json.dumps(self._canonical(), sort_keys=True)

    def _canonical(self) -> dict[str, Any]:
        """The physical parameters in one spelling."""
        return _canonical(self.parameters)

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

    @property
    def charge(self) -> float:
        """Total charge of the system, |e|."""
        return float(self.parameters.get('charge') or 0.0)

    def check(self, numbers: ArrayLike) -> Self:
        """The level with its versions for the elements (atomic numbers), before any work.

        Raises
        ------
        LevelError
            Values that the program would refuse, or elements that it lacks.
        """
        self.gpaw_parameters()
        try:
            check_size(self.parameters.get('gpts'), self.parameters.get('h'), length=0.0)
        except ValueError as error:
            raise LevelError(f'{_label(self.name)}: {error}') from None
        return self.with_versions(numbers) if np.size(numbers) else self

    @property
    def shares_ranks(self) -> bool:
        """Can several MPI ranks work on one calculation?  GPAW built without ScaLAPACK cannot share plane waves."""
        from gpaw.utilities import compiled_with_sl

        return compiled_with_sl() or self.gpaw_parameters().mode.name == 'lcao'

    def keywords(self, **changes: Any) -> dict[str, Any]:
        """Keyword arguments for ``GPAW(...)``: atom indices are numbers again, which JSON made strings."""
        return {
            key: {int(k) if k.isdigit() else k: v for k, v in value.items()}
            if key in ('setups', 'basis') and isinstance(value, dict)
            else value
            for key, value in (self.parameters | changes).items()
        }

    def gpaw_parameters(self, **changes: Any) -> Parameters:
        """GPAW's own parameter object.

        Raises
        ------
        LevelError
            Values that GPAW refuses.
        """
        from gpaw.dft import Parameters

        try:
            return Parameters(**self.keywords(**changes))
        except Exception as error:
            raise LevelError(f'{_label(self.name)}: GPAW refuses the parameters: {reason(error)}') from error

    def grid(self, atoms: Atoms, *, gpts: ArrayLike | None = None, h: float | None = None) -> Grid:
        """The grid that GPAW would choose for ``atoms`` at this level.

        Parameters
        ----------
        gpts
            (3,) numbers of grid intervals, instead of the level's own choice.
        h
            Grid spacing, Å, instead of the level's own choice.

        Raises
        ------
        ValueError
            A flat cell, or values that are no grid.
        """
        from ase_deepdensity.codes.gpaw.grid import grid

        return grid(self, atoms, gpts=gpts, h=h)

    def setups(self, numbers: ArrayLike) -> Setups:
        """GPAW's datasets, one per atom of the atomic numbers (natoms,); cached.

        Raises
        ------
        LevelError
            No dataset for an element, or a functional or a kind of dataset that GPAW does not know.
        """
        number_a = tuple(int(number) for number in np.asarray(numbers))
        try:
            return _setups(json.dumps(self.parameters, sort_keys=True), number_a)
        except FileNotFoundError as error:
            symbols = ', '.join(sorted({chemical_symbols[number] for number in number_a}))
            raise LevelError(
                f'{_label(self.name)}: a dataset for one of {symbols} is missing; "gpaw info" shows where GPAW looks '
                f'({error})'
            ) from None
        except Exception as error:  # an unknown functional, type of dataset or basis
            raise LevelError(f'{_label(self.name)}: GPAW refuses the parameters: {reason(error)}') from error

    def with_versions(self, numbers: ArrayLike) -> Self:
        """A copy that carries the versions of GPAW and of the datasets of the elements (atomic numbers)."""
        return type(self)(self.parameters, self.name, _versions(self.setups(sorted(set(np.asarray(numbers).tolist())))))

    def general(self) -> Self:
        """The same level without what belongs to certain atoms or a certain machine (:data:`PARTICULAR`)."""
        parameters = {key: value for key, value in self.parameters.items() if key not in PARTICULAR}
        return type(self)(parameters, self.name, self.versions)

    def joined(self, other: Self) -> Self:
        """The same level, which knows the datasets of the elements of both."""
        datasets = self.versions.get('datasets', {}) | other.versions.get('datasets', {})
        versions = other.versions | self.versions | ({'datasets': dict(sorted(datasets.items()))} if datasets else {})
        return type(self)(self.parameters, self.name, versions)


def _make(parameters: dict[str, Any], name: str, versions: dict[str, Any] | None = None) -> Level:
    """A level of the program that the mode belongs to."""
    mode = parameters.get('mode')
    module, kind = OTHER_MODES.get(str(mode), (__name__, 'Level'))
    level: Level = getattr(import_module(module), kind)(parameters, name, versions or {})
    return level


def _label(name: str) -> str:
    return f'level of theory {name!r}' if name else 'level of theory'


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


def _canonical(parameters: dict[str, Any]) -> dict[str, Any]:
    """Physical items in one spelling, GPAW's defaults filled in."""
    mode = parameters['mode']
    mode = {'name': mode} if isinstance(mode, str) else dict(mode)
    if mode['name'] == 'pw':
        mode = {'ecut': 340} | mode
    result = {key: value for key, value in parameters.items() if key in PHYSICAL and value not in (None, {}, [])}
    result |= {'mode': mode, 'xc': result.get('xc', 'LDA'), 'kpts': _canonical_kpts(result.get('kpts', [1, 1, 1]))}
    if isinstance(result['xc'], dict) and result['xc'].keys() == {'name'}:
        result['xc'] = result['xc']['name']
    for key in 'basis', 'setups':
        if isinstance(result.get(key), str):
            result[key] = {'default': result[key]}
    if result.get('setups') == {'default': 'paw'}:
        del result['setups']
    if mode['name'] != 'lcao':
        result.pop('basis', None)
    if mode['name'] != 'pw' and 'gpts' not in result:
        result.setdefault('h', 0.2)
    for key in 'charge', 'spinpol', 'hund', 'soc':
        if not result.get(key):
            result.pop(key, None)
    return result


def _canonical_kpts(kpts: Any) -> Any:
    if isinstance(kpts, dict):
        kpts = {key: value for key, value in kpts.items() if value is not None and key != 'name'}
        return kpts['kpts'] if kpts.keys() == {'kpts'} else kpts
    return {'size': list(kpts)} if np.ndim(kpts) == 1 else kpts


def _known(versions: dict[str, Any]) -> dict[str, str]:
    flat = {f'version of {key}': value for key, value in versions.items() if key != 'datasets'}
    return flat | {f'version of the {symbol} dataset': md5 for symbol, md5 in versions.get('datasets', {}).items()}


def _versions(setups: Setups) -> dict[str, Any]:
    from importlib.metadata import PackageNotFoundError, version

    import gpaw

    versions: dict[str, Any] = {'gpaw': gpaw.__version__}
    with suppress(PackageNotFoundError):  # datasets installed by hand: their MD5 tells
        versions['gpaw-data'] = version('gpaw-data')
    datasets = {setup.symbol: getattr(setup, 'fingerprint', None) for setup in setups}
    versions['datasets'] = {symbol: datasets[symbol] for symbol in sorted(datasets) if datasets[symbol]}
    return versions


@lru_cache(maxsize=64)
def _setups(parameters: str, number_a: tuple[int, ...]) -> Setups:
    from gpaw.mpi import serial_comm
    from gpaw.setup import Setups

    params = Level(json.loads(parameters)).gpaw_parameters()
    xc = params.xc.functional(collinear=True, atoms=Atoms(numbers=number_a))
    return Setups(number_a, params.setups, params.basis, xc, world=serial_comm)
