"""Limits of hyper-parameters: what is outside of them is a mistake, or a file that should not be trusted."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

from ase_deepdensity.arguments import real, whole
from ase_deepdensity.basis import MAX_CUTOFF

LIMITS = {'lmax': (0, 8), 'layers': (1, 32), 'depth': (1, 32), 'radial': (1, 256), 'members': (1, 64)}
"""Least and largest of some whole numbers."""
OTHERS = 1, 1024
MOST_WIDTHS = 16


def check_hypers(hypers: Any) -> None:
    """Refuse hyper-parameters that cannot be meant, by the types of their fields.

    Raises
    ------
    ValueError
        A number of another kind, or outside the limits.
    """
    for field in fields(hypers):
        name, value = field.name, getattr(hypers, field.name)
        if field.type == 'int':
            least, most = LIMITS.get(name, OTHERS)
            whole(name, value, least=least, most=most)
        elif field.type == 'bool':
            if not isinstance(value, bool):
                raise ValueError(f'{name} must be true or false, not {value!r}')
        elif field.type == 'tuple[float, ...]':
            if not isinstance(value, list | tuple) or len(value) > MOST_WIDTHS:
                raise ValueError(f'{name} must be a list of at most {MOST_WIDTHS} numbers, not {value!r}')
            for width in value:
                real(name, width, above=0, most=MAX_CUTOFF)
        elif value is not None or 'None' not in str(field.type):
            real(name, value, above=0, most=MAX_CUTOFF)
