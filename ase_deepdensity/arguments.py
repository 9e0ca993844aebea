"""Checks of what a user passes: numbers within limits, names among those that exist.

Errors are ``ValueError``, and show what came and what is allowed.
"""

from __future__ import annotations

import difflib
import math
import numbers
import re
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ase import Atoms

LONGEST_FORMULA = 24
"""Letters of symbols in the order of the atoms that a line has room for."""


def real(
    name: str,
    value: Any,
    *,
    above: float | None = None,
    least: float | None = None,
    most: float | None = None,
    unit: str = '',
) -> float:
    """A finite number within limits, as a plain float.

    Parameters
    ----------
    above, least, most
        Limits: the number is greater than the first, and from the second to the third.
    """
    is_number = isinstance(value, numbers.Real) and not isinstance(value, bool)
    if not (is_number and math.isfinite(value) and _is_within(value, above, least, most)):
        in_unit = f' ({unit})' if unit else ''
        raise ValueError(f'{name} must be a number{_limits(above, least, most)}{in_unit}, not {shown(value)}')
    return float(value)


def whole(name: str, value: Any, *, least: int | None = None, most: int | None = None) -> int:
    """A whole number within limits, as a plain int."""
    is_whole = isinstance(value, numbers.Integral) and not isinstance(value, bool)
    if not (is_whole and _is_within(value, None, least, most)):
        raise ValueError(f'{name} must be a whole number{_limits(None, least, most)}, not {shown(value)}')
    return int(value)


def three_whole(name: str, value: Any, *, least: int, most: int) -> tuple[int, int, int]:
    """Three whole numbers within limits."""
    try:
        n0, n1, n2 = (whole(name, n, least=least, most=most) for n in value)
    except (TypeError, ValueError):
        raise ValueError(
            f'{name} must be three whole numbers{_limits(None, least, most)}, not {shown(value)}'
        ) from None
    return n0, n1, n2


def one_of(name: str, value: str, known: Iterable[str], what: str = '') -> str:
    """A name that exists; ``what`` says more about the names."""
    known = list(known)
    if value not in known:
        raise ValueError(f'{name} must be one of {", ".join(known)}{what}, not {value!r}{did_you_mean(value, known)}')
    return value


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """A question about the known names that are most like ``name``, to end an error with; empty if none is."""
    by_key = {_key(word): word for word in known}
    close = difflib.get_close_matches(_key(name), by_key, n=3)
    close += [word for word in by_key if len(name) > 2 and word.startswith(_key(name)) and word not in close]
    return f'; did you mean {" or ".join(by_key[word] for word in close)}?' if close else ''


def shown(value: Any) -> str:
    """A value as a message shows it: numbers of numpy look like those of Python."""
    if isinstance(value, list | tuple):
        inner = ', '.join(map(shown, value))
        return f'[{inner}]' if isinstance(value, list) else f'({inner})'
    return repr(value.tolist() if hasattr(value, 'tolist') else value)


def _key(name: str) -> str:
    """What counts when names are compared."""
    return name.lstrip('-').casefold()


def reason(error: Exception) -> str:
    """Why a library below has refused something: its message in one line, numbers of numpy as those of Python."""
    message = re.sub(r'np\.\w+\(([^()]*)\)', r'\1', ' '.join(str(error).split()))
    is_clear = message and not isinstance(error, KeyError | AttributeError | TypeError)
    return message if is_clear else f'{type(error).__name__}({message})'


def _is_within(value: Any, above: float | None, least: float | None, most: float | None) -> bool:
    return (above is None or value > above) and (least is None or value >= least) and (most is None or value <= most)


def _limits(above: float | None, least: float | None, most: float | None) -> str:
    """Such as ' from 1 to 10'."""
    limits = [
        f' {text} {limit:g}' if isinstance(limit, float) else f' {text} {limit}'
        for text, limit in (('above', above), ('from', least), ('to' if above is None else 'and up to', most))
        if limit is not None
    ]
    return ''.join(limits)


def formula(atoms: Atoms) -> str:
    """The symbols in the order of the atoms, OH2; where that is long, the formula in Hill's order, H64O32."""
    in_order = str(atoms.symbols)
    return in_order if len(in_order) <= LONGEST_FORMULA else str(atoms.get_chemical_formula())
