"""What no model may be trained on, so that it can be judged by it.

Elemental crystals near those of ASE's ``dcdft`` collection, the complexes of ``s22``, some molecules of ``g2``, and the
whole formulas of ``held_out.txt``.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from functools import cache
from importlib.resources import files

import numpy as np
from ase import Atoms
from ase.collections import dcdft, g2, s22
from ase.neighborlist import natural_cutoffs, neighbor_list

G2_HELD_OUT = (
    'O3', 'NCCN', 'OCHCHO', 'C3H4_C2v', 'C5H8', 'C4H4NH', 'H2CCHCN', 'butadiene', '2-butyne', 'C3H8', 'CH3COCH3',
    'CH3CH2OCH3',
)  # fmt: skip
"""Ozone, cyanogen, glyoxal, cyclopropene, spiropentane, pyrrole, acrylonitrile, butadiene, 2-butyne, propane, acetone
and ethyl methyl ether, as ASE calls them."""

VOLUME_MARGIN = 0.04
"""An elemental crystal is held out within this fraction of the reference volume per atom."""


def reason_to_hold_out(atoms: Atoms) -> str | None:
    """Why ``atoms`` must not be trained on; None if they may.

    Elemental crystals are judged by their volume per atom alone, whatever their structure: this holds out all strained
    and rattled copies of the reference, and a few other structures with them.  All else is judged by its reduced
    formula, molecules and complexes by connectivity as well.
    """
    symbols = set(atoms.symbols)
    if len(symbols) > 1 and (formula := reduced_formula(atoms)) in held_out_formulas():
        return f'{formula} is held out as a whole'
    if atoms.pbc.all() and len(symbols) == 1:
        return _element_reason(next(iter(symbols)), atoms.get_volume() / len(atoms))
    if not atoms.pbc.any():
        return _held_out_molecules().get(connectivity(atoms))
    return None


def _element_reason(symbol: str, volume: float) -> str | None:
    if symbol not in dcdft.names:
        return None
    reference = dcdft[symbol]
    reference_volume = reference.get_volume() / len(reference)
    if abs(volume / reference_volume - 1) > VOLUME_MARGIN:
        return None
    return (
        f'{symbol} at {volume:.2f} Å³ per atom, within {VOLUME_MARGIN:.0%} of its crystal ({reference_volume:.2f} Å³)'
    )


def reduced_formula(atoms: Atoms) -> str:
    """Like ``TiO2``: smallest whole numbers, elements in the order of the alphabet."""
    return reduce_formula(atoms.symbols.formula.count())


def reduce_formula(counts: Mapping[str, int]) -> str:
    """The same from the numbers of atoms."""
    counts = dict(sorted(counts.items()))
    divisor = int(np.gcd.reduce(list(counts.values())))
    return ''.join(symbol + (str(n // divisor) if n > divisor else '') for symbol, n in counts.items())


@cache
def held_out_formulas() -> frozenset[str]:
    """The compounds that are kept for validation."""
    return frozenset(formula for formula, _, _ in held_out_table())


def held_out_table() -> list[tuple[str, str, str]]:
    """``held_out.txt``: reduced formula, kind of bonding, prototype; see :func:`.crystals.choose_held_out`."""
    lines = files(__package__).joinpath('held_out.txt').read_text().splitlines()
    rows = (line.split() for line in lines if line and not line.startswith('#'))
    return [(formula, kind, prototype) for formula, kind, prototype in rows]


@cache
def _held_out_molecules() -> dict[str, str]:
    molecules = {connectivity(g2[name]): f'{name} of G2 is held out' for name in G2_HELD_OUT}
    return molecules | {connectivity(s22[name]): f'{name} of S22 is held out' for name in s22.names}


def connectivity(atoms: Atoms) -> str:
    """A fingerprint of which atoms are bonded, the same for all shapes of a molecule (colour refinement)."""
    first_b, second_b = neighbor_list('ij', atoms, natural_cutoffs(atoms, mult=1.15))
    labels = list(atoms.symbols)
    for _ in range(len(atoms)):
        neighbours = [sorted(labels[j] for j in second_b[first_b == i]) for i in range(len(atoms))]
        labels = [_digest(label, *others) for label, others in zip(labels, neighbours, strict=True)]
    return _digest(*sorted(labels))


def _digest(*words: str) -> str:
    return hashlib.sha256(' '.join(words).encode()).hexdigest()[:16]
