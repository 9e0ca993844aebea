"""The parameters of each code's levels of theory: which there are, and one spelling for those that mean the same.

Plain data, so that two levels can be compared where neither code is installed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from ase.data import chemical_symbols

from ase_deepdensity.arguments import did_you_mean

# GPAW's keywords (a test keeps the two lists alike).
PHYSICAL = (
    'mode', 'xc', 'basis', 'setups', 'h', 'gpts', 'kpts', 'occupations', 'spinpol', 'hund', 'soc',
    'extensions', 'interpolation', 'poissonsolver', 'experimental',
)  # fmt: skip
NUMERICAL = (
    'convergence', 'maxiter', 'mixer', 'eigensolver', 'parallel', 'symmetry', 'nbands', 'random', 'magmoms',
)  # fmt: skip
PARTICULAR = ('nbands', 'parallel', 'magmoms')
"""Of the numerical ones, those that belong to certain atoms or a certain machine."""
IGNORED = ('txt', 'communicator')
"""Where GPAW writes and on which processes it runs: no part of a level."""

KS1D_PHYSICAL: dict[str, Any] = {
    'atoms': {'He': {'charge': 2, 'width': 2.0}, 'Be': {'charge': 2, 'width': 6.0}},
    'ecut': 160.0,
    'temperature': 100.0,
    'epsilon': 10.0,
    'kappa': 0.01,
}
"""What the one-dimensional model is made of, see :mod:`.codes.ks1d.parameters`, with its defaults."""
KS1D_NUMERICAL: dict[str, Any] = {'convergence': 1e-8, 'maxiter': 200}
"""How it is driven to self-consistency: largest ∫|n_out − n_in| per electron, and iterations."""


@dataclass(frozen=True)
class Spelling:
    """How the levels of a code are written."""

    check: Callable[[Mapping[str, Any]], None]
    """Raises a ValueError for parameters that the code does not have."""
    canonical: Callable[[Mapping[str, Any]], dict[str, Any]]
    """The physical parameters in one spelling, defaults filled in."""


def code_name(parameters: Mapping[str, Any]) -> str:
    """The code that a level's mode belongs to."""
    mode = parameters.get('mode')
    return mode if isinstance(mode, str) and mode in SPELLINGS else 'gpaw'


def _unknown(what: str, words: Iterable[str], allowed: Iterable[str]) -> ValueError:
    words, allowed = sorted(words), sorted(allowed)
    return ValueError(
        f'{what} {", ".join(map(repr, words))}; allowed are {", ".join(allowed)}'
        + ''.join(did_you_mean(word, allowed) for word in words)
    )


def _check_gpaw(parameters: Mapping[str, Any]) -> None:
    if parameters.get('charge'):
        raise ValueError(
            f'a charge ({parameters["charge"]!r} |e|) belongs to the atoms, not to a level of theory: '
            "set atoms.info['charge'] (charge=… in the comment line of an extended XYZ file)"
        )
    if unknown := parameters.keys() - {*PHYSICAL, *NUMERICAL, *IGNORED, 'charge'}:
        raise _unknown('GPAW has no keyword', unknown, PHYSICAL + NUMERICAL)
    if 'mode' not in parameters:
        raise ValueError('"mode" is missing, for example {"mode": "lcao"}')


def _canonical_gpaw(parameters: Mapping[str, Any]) -> dict[str, Any]:
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
    for key in 'spinpol', 'hund', 'soc':
        if not result.get(key):
            result.pop(key, None)
    return result


def _canonical_kpts(kpts: Any) -> Any:
    if isinstance(kpts, dict):
        kpts = {key: value for key, value in kpts.items() if value is not None and key != 'name'}
        return kpts['kpts'] if kpts.keys() == {'kpts'} else kpts
    return {'size': list(kpts)} if np.ndim(kpts) == 1 else kpts


def _check_ks1d(parameters: Mapping[str, Any]) -> None:
    if unknown := parameters.keys() - {'mode', *KS1D_PHYSICAL, *KS1D_NUMERICAL}:
        raise _unknown('ks1d has no parameter', unknown, KS1D_PHYSICAL | KS1D_NUMERICAL)
    for name, value in parameters.items():
        if name not in ('mode', 'atoms') and not (isinstance(value, int | float) and value > 0):
            raise ValueError(f'ks1d: {name} must be a positive number, not {value!r}')
    ions = parameters.get('atoms', {})
    if not isinstance(ions, dict) or not all(isinstance(ion, dict) for ion in ions.values()):
        raise ValueError(f'ks1d: atoms must be a charge and a width for each element, not {ions!r}')
    for symbol, ion in ions.items():
        if symbol not in chemical_symbols or ion.keys() != {'charge', 'width'} or min(ion.values()) <= 0:
            raise ValueError(f'ks1d: an element needs a positive charge and width, not {symbol}: {ion}')


def _canonical_ks1d(parameters: Mapping[str, Any]) -> dict[str, Any]:
    return {'mode': 'ks1d'} | {name: parameters.get(name, default) for name, default in KS1D_PHYSICAL.items()}


SPELLINGS = {'gpaw': Spelling(_check_gpaw, _canonical_gpaw), 'ks1d': Spelling(_check_ks1d, _canonical_ks1d)}
"""By code.  The mode ``gpaw`` is one that GPAW does not have; that of any other code is its name."""
