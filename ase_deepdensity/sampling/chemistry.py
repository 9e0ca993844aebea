"""What elements are to each other: bonding kinds of a formula, charges that balance, radii that fit."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from itertools import product

import numpy as np
from ase import Atoms
from ase.data import atomic_numbers, chemical_symbols, covalent_radii

NOBLE = ('He', 'Ne', 'Ar', 'Kr', 'Xe')
NONMETALS = ('H', 'B', 'C', 'N', 'O', 'F', 'Si', 'P', 'S', 'Cl', 'Ge', 'As', 'Se', 'Br', 'Te', 'I')
MAGNETIC = ('Cr', 'Mn', 'Fe', 'Co', 'Ni')
"""Elements whose metals or oxides carry moments that change the density by more than a per cent."""

_LEFT_OUT = ('Tc', 'Ce', 'Pr', 'Nd', 'Pm', 'Sm', 'Eu', 'Gd', 'Tb', 'Dy', 'Ho', 'Er', 'Tm', 'Yb')
ELEMENTS = tuple(symbol for symbol in chemical_symbols[1:84] if symbol not in _LEFT_OUT)
"""The 69 elements to cover: H to Bi without Tc (no dataset) and Ce to Yb (open 4f shells)."""

_KIND_OF_ANION = (
    dict.fromkeys(('F', 'Cl', 'Br', 'I'), 'halide')
    | {'O': 'oxide', 'H': 'hydride'}
    | dict.fromkeys(('S', 'Se', 'Te'), 'chalcogenide')
    | dict.fromkeys(('N', 'P', 'As'), 'pnictide')
    | dict.fromkeys(('B', 'C', 'Si', 'Ge'), 'carbide')
)
"""'pnictide' stands for nitrides too, 'carbide' for borides, silicides and germanides."""
BALANCED = ('halide', 'oxide', 'chalcogenide')
"""Kinds of compounds whose common oxidation states add up to nothing."""
KINDS = ('metal', 'intermetallic', 'oxide', 'halide', 'chalcogenide', 'pnictide', 'carbide', 'hydride', 'molecule',
         'element', 'noble')  # fmt: skip
"""Of bonding.  'element': a nonmetal by itself; 'noble': with a noble gas."""


def is_metal(symbol: str) -> bool:
    return symbol not in NONMETALS and symbol not in NOBLE


def bonding_kind(atoms: Atoms) -> str:
    """One of :data:`KINDS`: what lies in vacuum on all sides is a molecule; else the most electronegative decides."""
    if not atoms.pbc.any():
        return 'molecule'
    return kind_of_elements(sorted(set(atoms.symbols)))


def kind_of_elements(symbols: Sequence[str]) -> str:
    """The kind of a crystal of these elements."""
    if any(symbol in NOBLE for symbol in symbols):
        return 'noble'
    metals = [symbol for symbol in symbols if is_metal(symbol)]
    if len(metals) == len(symbols):
        return 'metal' if len(symbols) == 1 else 'intermetallic'
    if len(symbols) == 1:
        return 'element'
    return _KIND_OF_ANION[max(symbols, key=anion_rank)]


def plausible(formula: Mapping[str, int]) -> bool:
    """May a compound of this formula be made?  In :data:`BALANCED` kinds oxidation states must add up to zero."""
    kind = kind_of_elements(list(formula))
    if kind == 'noble' or (kind == 'hydride' and not any(map(is_metal, formula))):
        return False
    if kind not in BALANCED:
        return True
    anion = max(formula, key=anion_rank)
    others = [symbol for symbol in formula if symbol != anion]
    charge = -2 if kind != 'halide' else -1
    choices = [oxidation_states(symbol) for symbol in others]
    return any(
        charge * formula[anion] + sum(q * formula[symbol] for q, symbol in zip(qs, others, strict=True)) == 0
        for qs in product(*choices)
    )


def fits(elements: Sequence[str], originals: Sequence[str]) -> bool:
    """May ``elements`` take the places of ``originals``?

    Both in one order.  Ratios of covalent radii stay within a factor of 1.6; nonmetals do not replace metals only.
    """
    radius = covalent_radii[[[atomic_numbers[s] for s in symbols] for symbols in (elements, originals)]]
    if np.ptp(np.log(radius[0] / radius[1])) > np.log(1.6):
        return False
    return all(map(is_metal, elements)) or not all(map(is_metal, originals))


def anion_rank(symbol: str) -> tuple[bool, float]:
    """Orders elements by how much they are anions: nonmetals after metals, each by electronegativity."""
    return not is_metal(symbol), electronegativity(symbol)


@lru_cache(maxsize=128)
def electronegativity(symbol: str) -> float:
    """Pauling's, from pymatgen; 0 where there is none."""
    from pymatgen.core import Element

    return 0.0 if symbol in NOBLE else float(Element(symbol).X)


@lru_cache(maxsize=128)
def oxidation_states(symbol: str) -> tuple[int, ...]:
    """Those that compounds of an element show."""
    from pymatgen.core import Element

    element = Element(symbol)
    return tuple(sorted({*element.common_oxidation_states, *element.icsd_oxidation_states}))
