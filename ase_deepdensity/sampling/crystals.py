"""Crystals: elements put on the places of prototypes, by likeness, at the volume that a universal potential gives."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache

from ase import Atoms
from ase.build import bulk
from ase.collections import dcdft
from ase.formula import Formula

from ase_deepdensity.sampling.balance import SHARES, Balance
from ase_deepdensity.sampling.chemistry import (
    ELEMENTS,
    MAGNETIC,
    NOBLE,
    NONMETALS,
    anion_rank,
    fits,
    is_metal,
    kind_of_elements,
    plausible,
)
from ase_deepdensity.sampling.held_out import held_out_formulas, held_out_table, reduce_formula
from ase_deepdensity.sampling.potential import energies
from ase_deepdensity.sampling.prototypes import Prototype, prototypes, relaxed_volume

ELEMENT_SCALES = (0.92, 0.95, 1.06, 1.1)
"""Of the volumes of elemental crystals: those at equilibrium are held out."""
COMPOUND_SCALES = (1.0, 0.94, 1.06)
FOR_METALS_TOO = ('AB_cP2_221_b_a-CsCl', 'AB2_cF12_225_a_c-CaF2', 'ABC_cF12_216_b_c_a-AgAsMg', 'AB_cF16_227_a_b-NaTl')
"""Prototypes of salts that intermetallics take as well."""


@dataclass(frozen=True)
class Compound:
    """Elements on a prototype's places."""

    prototype: Prototype
    elements: tuple[str, ...]
    """In place of the prototype's own, in their order."""

    @property
    def natoms(self) -> int:
        return len(self.prototype.atoms)

    @property
    def family(self) -> str:
        return self.prototype.name

    @property
    def formula(self) -> str:
        """Reduced, as held-out formulas are written."""
        counts = self.prototype.atoms.symbols.formula.count()
        return reduce_formula(
            {new: counts[old] for new, old in zip(self.elements, self.prototype.elements, strict=True)}
        )

    @property
    def touching(self) -> Atoms:
        """The structure before its volume is known."""
        return self.prototype.substituted(self.elements)

    @property
    def name(self) -> str:
        formula = self.prototype.formula(dict(zip(self.prototype.elements, self.elements, strict=True)))
        return f'{formula:metal}-{self.prototype.name.partition("-")[0]}'

    @property
    def kind(self) -> str:
        return kind_of_elements(self.elements)

    @lru_cache(maxsize=4096)  # noqa: B019 (frozen, and few)
    def relaxed(self) -> Atoms | None:
        """At the potential's volume; None where the potential knows no minimum."""
        return relaxed_volume(self.touching, energies)

    def is_bound(self, highest: float) -> bool:
        """Is its energy of formation below ``highest``, eV per atom?"""
        atoms = self.relaxed()
        return atoms is not None and formation_energy(atoms) < highest


def compounds(
    rng: random.Random, *, per_prototype: int = 400, min_atoms: int = 1, max_atoms: int = 4
) -> Iterator[Compound]:
    """Plausible substitutions into each prototype, drawn at random without repetition; none of a held-out formula."""
    for prototype in prototypes(max_atoms):
        if len(prototype.atoms) < min_atoms:
            continue
        counts = prototype.atoms.symbols.formula.count()
        originals = sorted(counts, key=anion_rank)
        anions = ELEMENTS if all(map(is_metal, originals)) or prototype.name in FOR_METALS_TOO else NONMETALS
        choices = [anions, *[ELEMENTS] * (len(originals) - 1)]
        drawn = {tuple(sorted((rng.choice(c) for c in choices), key=anion_rank)) for _ in range(3 * per_prototype)}
        sensible = [elements for elements in sorted(drawn) if _sensible(elements, originals, counts)]
        for elements in rng.sample(sensible, min(per_prototype, len(sensible))):
            places = dict(zip(originals, elements, strict=True))
            yield Compound(prototype, tuple(places[symbol] for symbol in prototype.elements))


def _sensible(elements: Sequence[str], originals: Sequence[str], counts: dict[str, int]) -> bool:
    if len(set(elements)) < len(originals) or (len(elements) == 1 and is_metal(elements[0]) != is_metal(originals[0])):
        return False
    formula = {new: counts[old] for new, old in zip(elements, originals, strict=True)}
    return reduce_formula(formula) not in held_out_formulas() and fits(elements, originals) and plausible(formula)


COMMON = (
    'AB_cF8_225_a_b-ClNa', 'AB_cF8_216_c_a-SZn', 'AB_hP4_186_b_b-ZnS', 'AB_cP2_221_b_a-CsCl', 'AB_hP4_194_c_a-NiAs',
    'AB2_cF12_225_a_c-CaF2', 'AB2_hP3_164_a_d-CdI2', 'AB2_hP3_191_a_d-AlB2', 'AB2_tI6_139_a_e-MoSi2',
    'AB_tP2_123_a_d-CuAu', 'AB3_cP4_221_a_c-Cu3Au', 'A3B_cP4_221_d_a-ReO3', 'ABC_cF12_216_b_c_a-AgAsMg',
    'AB2C_cF16_225_a_c_b-AlCu2Mn', 'ABC2_hR4_166_a_b_c-CrNaS2',
)  # fmt: skip
"""Prototypes of very many compounds."""


def choose_held_out(nbinary: int = 36, nternary: int = 14, *, seed: int = 0) -> list[Compound]:
    """Compounds to judge models by, as ``held_out.txt`` lists them: of common prototypes, bound, balanced.

    Bound: the universal potential gives an energy of formation below −0.2 eV per atom, and no other common prototype
    has less.  Without elements whose compounds need spin, and with one nonmetal at most in ternary compounds.
    """
    rng = random.Random(seed)
    pool = [
        compound
        for compound in compounds(rng, per_prototype=1000)
        if compound.prototype.name in COMMON and not set(compound.elements) & {*MAGNETIC, *NOBLE}
    ]
    balance = Balance(rng, SHARES)
    chosen: dict[str, Compound] = {}
    for nelements, number in (2, nbinary), (3, nternary):
        usable = [
            c
            for c in pool
            if len(c.elements) == nelements and sum(not is_metal(e) for e in c.elements) <= 4 - nelements
        ]
        by_kind = {kind: [c for c in usable if c.kind == kind] for kind in SHARES}
        while number:
            compound = balance.next(by_kind)
            if compound.formula not in chosen and (best := _bound(compound.formula, usable)) is not None:
                chosen[compound.formula] = best
                balance.count(best)
                number -= 1
    return list(chosen.values())


def _bound(formula: str, pool: Sequence[Compound]) -> Compound | None:
    """The compound of lowest energy of a formula, if it is bound."""
    crystals = [(compound, compound.relaxed()) for compound in pool if compound.formula == formula]
    energies_n = [(formation_energy(atoms), n) for n, (_, atoms) in enumerate(crystals) if atoms is not None]
    energy, n = min(energies_n, default=(0.0, 0))
    return crystals[n][0] if energy < -0.2 else None


def held_out_compounds() -> list[Compound]:
    """Those of ``held_out.txt``."""
    by_name = {prototype.name: prototype for prototype in prototypes()}
    result = []
    for formula, _, name in held_out_table():
        originals = sorted(by_name[name].elements, key=anion_rank)
        places = dict(zip(originals, sorted(Formula(formula).count(), key=anion_rank), strict=True))
        result.append(Compound(by_name[name], tuple(places[symbol] for symbol in by_name[name].elements)))
    return result


def formation_energy(atoms: Atoms) -> float:
    """From the elements as in ASE's ``dcdft`` (La, which it lacks, as fcc), by the universal potential, eV per atom."""
    fractions = {symbol: n / len(atoms) for symbol, n in atoms.symbols.formula.count().items()}
    references = sum(fraction * _reference_energy(symbol) for symbol, fraction in fractions.items())
    return float(energies([atoms])[0]) - references


@lru_cache(maxsize=128)
def _reference_energy(symbol: str) -> float:
    crystal = dcdft[symbol] if symbol in dcdft.names else bulk(symbol, 'fcc', 5.3)
    return float(energies([crystal])[0])
