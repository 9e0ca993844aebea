"""One list of structures for a model of the periodic table, in an order of which any first part is balanced.

The list has stages: crystals as they are, strained, rattled, surfaces, molecules and so on.  Each is ordered so that
any first part of it covers elements and kinds of bonding evenly (:mod:`.balance`), and is spread over a stretch of the
list; those of the cheap stages begin early.
"""

from __future__ import annotations

import random
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from heapq import heapify, heappop, heapreplace
from itertools import islice, product

import numpy as np
from ase import Atoms
from ase.build import molecule
from ase.collections import dcdft, g2

from ase_deepdensity.level import Level
from ase_deepdensity.sampling import melts, molecules, surfaces
from ase_deepdensity.sampling.balance import SHARES, Balance
from ase_deepdensity.sampling.chemistry import ELEMENTS, NOBLE, bonding_kind
from ase_deepdensity.sampling.cost import estimated_seconds
from ase_deepdensity.sampling.crystals import ELEMENT_SCALES, Compound, compounds, held_out_compounds
from ase_deepdensity.sampling.distort import (
    dilated,
    displaced,
    overlaps,
    rattled,
    strained,
    stretched,
    supercell,
    with_vacancy,
)
from ase_deepdensity.sampling.elements import elemental_crystals
from ase_deepdensity.sampling.held_out import reason_to_hold_out
from ase_deepdensity.sampling.prototypes import prototypes, scaled

LEVEL = 'general-pw400'
"""Of the calculations whose cost is estimated."""
MOMENTS = {'Cr': 3.0, 'Mn': 4.0, 'Fe': 3.0, 'Co': 2.0, 'Ni': 1.0}
"""Initial magnetic moments, μB."""

Variant = Callable[[Atoms, np.random.Generator], Atoms | None]


@dataclass(frozen=True)
class Stage:
    """A part of the plan."""

    name: str
    family: str
    """crystals, surfaces, molecules, melts or spin: what the command line calls it."""
    make: Callable[[str, int], Iterator[Atoms]]
    """Makes the structures of the stage ``name`` from a seed, with ``name`` and ``kind`` in their info."""
    number: int
    begin: float
    end: float
    """Where in the list its structures lie, 0 to 1; spin-polarised ones come last."""
    seconds: float = 60.0
    """A structure of which more is estimated is left out."""

    def place(self, i: int) -> float:
        """Of its i-th structure in the list."""
        return self.begin + (self.end - self.begin) * (i + 0.5) / self.number

    def structures(self, seed: int) -> Iterator[Atoms]:
        """Those that may be trained on, are cheap enough and have no atoms in each other, at most :attr:`number`."""
        level = Level.load(LEVEL)
        allowed = (
            atoms
            for atoms in self.make(self.name, seed)
            if reason_to_hold_out(atoms) is None
            and not overlaps(atoms)
            and estimated_seconds(atoms, level) < self.seconds
        )
        for atoms in islice(allowed, self.number):
            atoms.info |= {'sampler': self.name, 'seed': seed}
            yield atoms


def structures(family: str | None = None, name: str | None = None, seed: int = 0) -> Iterator[Atoms]:
    """The stages of a family, or the one of that name, or all, merged.  The same seed gives the same list.

    Raises
    ------
    ValueError
        No stage of that name in the family.
    """
    stages = [stage for stage in STAGES if family in (None, stage.family) and name in (None, stage.name)]
    if family == 'held-out':
        return held_out(seed)
    if not stages:
        known = ', '.join(stage.name for stage in STAGES if family in (None, stage.family))
        raise ValueError(f'no stage {name!r}: use one of {known}')
    return _merged(stages, seed)


def _merged(stages: Sequence[Stage], seed: int) -> Iterator[Atoms]:
    """Each structure at its place in the list; made when its turn comes."""
    streams = [stage.structures(seed) for stage in stages]
    heap = [(stage.place(0), n, 0) for n, stage in enumerate(stages)]
    heapify(heap)
    while heap:
        _, n, i = heap[0]
        atoms = next(streams[n], None)
        if atoms is None:  # no more in this stage
            heappop(heap)
        else:
            heapreplace(heap, (stages[n].place(i + 1), n, i + 1))
            yield atoms


def estimated_hours(frames: Iterable[Atoms]) -> float:
    """CPU time of their reference calculations."""
    level = Level.load(LEVEL)
    return sum(estimated_seconds(atoms, level) for atoms in frames) / 3600


def held_out(seed: int = 0) -> Iterator[Atoms]:
    """What models are judged by: the crystals of ``dcdft``, the held-out compounds, some rattled or cut to slabs."""
    for symbol in dcdft.names:
        if symbol in ELEMENTS:
            atoms = _labelled(Atoms(dcdft[symbol]), f'{symbol}-dcdft')
            atoms.set_initial_magnetic_moments(None)
            yield atoms
    variants: list[tuple[Variant, str, int]] = [
        (_unchanged, 'crystal', 1),
        (_rattled_supercell, 'supercell', 3),
        (surfaces.slab, 'slab', 3),
    ]
    for variant, name, step in variants:
        for compound in held_out_compounds()[::step]:
            rng = np.random.default_rng([seed, zlib.crc32(f'{compound.name}-{name}'.encode())])
            crystal = compound.relaxed()
            changed = None if crystal is None else variant(crystal, rng)
            if changed is not None:
                yield _labelled(changed, f'{compound.name}-{name}', compound.kind)


def _crystals(
    variant: Variant, name: str, seed: int, *, atoms_from: int = 1, atoms_to: int = 4, bound: float = np.inf
) -> Iterator[Atoms]:
    """Compounds, each in a variant; elemental crystals at other volumes than their own.

    ``bound`` is the highest energy of formation that is taken, eV per atom, as the universal potential has it.
    """
    rng = random.Random(f'{seed} {name}')
    by_kind: dict[str, list[Compound]] = {}
    for compound in compounds(rng, min_atoms=atoms_from, max_atoms=atoms_to):
        by_kind.setdefault(compound.kind, []).append(compound)
    balance = Balance(rng, SHARES)
    while any(by_kind.values()):
        compound = balance.next(by_kind)
        if np.isfinite(bound) and len(compound.elements) > 1 and not compound.is_bound(bound):
            continue
        atoms = _variant(compound, variant, f'{compound.name}-{name}', seed)
        if atoms is not None:
            balance.count(compound)
            yield atoms


def _variant(compound: Compound, variant: Variant, name: str, seed: int) -> Atoms | None:
    rng = np.random.default_rng([seed, zlib.crc32(name.encode())])
    atoms = compound.relaxed()
    if atoms is None:
        return None
    if len(compound.elements) == 1:
        atoms = scaled(atoms, rng.choice(ELEMENT_SCALES) ** (1 / 3))
    if reason_to_hold_out(atoms):  # a slab of it will not tell
        return None
    atoms = variant(atoms, rng)
    if atoms is not None:
        atoms.info = {'name': name, 'kind': compound.kind}
    return atoms


def _originals(name: str, seed: int) -> Iterator[Atoms]:
    """The compounds that gave prototypes their names."""
    for prototype in prototypes():
        compound = Compound(prototype, tuple(prototype.elements))
        if set(compound.elements) <= set(ELEMENTS):
            atoms = _variant(compound, _unchanged, f'{compound.name}-{name}', seed)
            if atoms is not None:
                yield atoms


def _unchanged(atoms: Atoms, rng: np.random.Generator) -> Atoms:
    return atoms.copy()


def _rattled_supercell(atoms: Atoms, rng: np.random.Generator) -> Atoms:
    return rattled(supercell(atoms, int(rng.integers(6, 13))), rng)


def _vacancy(atoms: Atoms, rng: np.random.Generator) -> Atoms:
    return rattled(with_vacancy(supercell(atoms, 8), rng), rng, size=0.03)


def _antiferromagnetic(atoms: Atoms, rng: np.random.Generator) -> Atoms | None:
    """Magnetic atoms with moments: of one sign, or of signs in turn for half of those that have two."""
    magnetic = [a for a, symbol in enumerate(atoms.symbols) if symbol in MOMENTS]
    if not magnetic:
        return None
    if len(magnetic) == 1 and rng.random() < 0.5:
        atoms = supercell(atoms, 2 * len(atoms))
    moments = np.array([MOMENTS.get(symbol, 0.0) for symbol in atoms.symbols])
    magnetic_a = moments.nonzero()[0]
    if len(magnetic_a) > 1 and rng.random() < 0.5:
        moments[magnetic_a[1::2]] *= -1
    atoms = rattled(atoms, rng, size=0.02) if rng.random() < 0.3 else atoms.copy()
    atoms.set_initial_magnetic_moments(moments)
    return atoms


def _magnetic(name: str, seed: int) -> Iterator[Atoms]:
    """Crystals of magnetic elements."""
    for atoms in _crystals(_antiferromagnetic, name, seed):
        if atoms.info['kind'] in ('metal', 'intermetallic', 'oxide', 'halide', 'chalcogenide', 'pnictide'):
            yield atoms


def _radicals(name: str, seed: int) -> Iterator[Atoms]:
    """Molecules of ``g2`` with unpaired electrons."""
    for molecule_name in g2.names:
        atoms = molecule(molecule_name)
        if 1 < len(atoms) <= 8 and atoms.get_initial_magnetic_moments().any():
            boxed = molecules.boxed(atoms)
            boxed.set_initial_magnetic_moments(atoms.get_initial_magnetic_moments())
            yield _labelled(boxed, f'{molecule_name}-{name}')


def _covered(name: str, seed: int) -> Iterator[Atoms]:
    rng = random.Random(f'{seed} {name}')
    pairs = list(product(surfaces.metals_with_surfaces(), surfaces.ADSORBATES))
    for symbol, adsorbate in rng.sample(pairs, len(pairs)):
        atoms = surfaces.covered(symbol, adsorbate, rng)
        yield _labelled(atoms, f'{symbol}+{adsorbate}-{name}', 'adsorbate')


def _molecules(make: Callable[[], Iterable[tuple[str, Atoms]]], copies: int, name: str, seed: int) -> Iterator[Atoms]:
    """Molecules in random order, as they are and rattled."""
    rng = random.Random(f'{seed} {name}')
    numpy_rng = np.random.default_rng(rng.getrandbits(32))
    named = list(make())
    for copy in range(copies):
        for molecule_name, atoms in rng.sample(named, len(named)):
            new = molecules.boxed(rattled(atoms, numpy_rng, size=0.05) if copy else atoms)
            yield _labelled(new, f'{molecule_name}-{name}-{copy}')


def _free_atoms(name: str, seed: int) -> Iterator[Atoms]:
    """Each element without neighbours, in random order: what a crystal comes to that is pulled apart."""
    for symbol in random.Random(f'{seed} {name}').sample(ELEMENTS, len(ELEMENTS)):
        yield _labelled(molecules.boxed(Atoms(symbol)), f'{symbol}-{name}', 'atom')


def _pairs(name: str, seed: int) -> Iterator[Atoms]:
    rng = random.Random(f'{seed} {name}')
    for n, (pair, atoms) in enumerate(molecules.hydrogen_bonded(rng)):
        yield _labelled(atoms, f'{pair}-{name}-{n}')


def _elements(name: str, seed: int) -> Iterator[Atoms]:
    for crystal, atoms in elemental_crystals():
        yield _labelled(atoms, f'{crystal}-{name}')


def _plain(name: str, seed: int) -> Iterator[Atoms]:
    rng = random.Random(f'{seed} {name}')
    slabs = list(surfaces.plain_slabs(np.random.default_rng(rng.getrandbits(32))))
    for surface, atoms in rng.sample(slabs, len(slabs)):
        yield _labelled(atoms, f'{surface}-{name}')


def _noble(name: str, seed: int) -> Iterator[Atoms]:
    """Noble gases in rock salt, with each other and with some of all groups, further apart than bonds are."""
    rng = random.Random(f'{seed} {name}')
    rock_salt = next(prototype for prototype in prototypes(2) if prototype.name == 'AB_cF8_225_a_b-ClNa')
    for gas, other in product(NOBLE, (*NOBLE, 'H', 'Li', 'C', 'O', 'F', 'Al', 'Cl', 'Pt')):
        if gas != other:
            compound = Compound(rock_salt, (gas, other))
            yield _labelled(scaled(compound.touching, rng.uniform(1.5, 2.3)), f'{compound.name}-{name}', 'noble')


def _labelled(atoms: Atoms, name: str, kind: str = '') -> Atoms:
    atoms.info = {'name': name, 'kind': kind or bonding_kind(atoms)}
    return atoms


BOUND = -0.15
"""eV per atom."""

STAGES = (
    Stage('crystal', 'crystals', partial(_crystals, _unchanged), 700, 0.0, 0.6, 20),
    Stage('bound', 'crystals', partial(_crystals, _unchanged, bound=BOUND), 500, 0.0, 0.5, 20),
    Stage('original', 'crystals', _originals, 200, 0.0, 0.7),
    Stage('stretched', 'crystals', partial(_crystals, stretched, bound=BOUND), 450, 0.03, 0.7, 20),
    Stage('displaced', 'crystals', partial(_crystals, displaced, bound=BOUND), 450, 0.05, 0.8, 20),
    Stage('dilated', 'crystals', partial(_crystals, dilated, bound=BOUND), 300, 0.05, 0.8, 20),
    Stage('larger', 'crystals', partial(_crystals, _unchanged, atoms_from=5, atoms_to=12), 300, 0.1, 1.0),
    Stage('strained', 'crystals', partial(_crystals, strained, bound=BOUND), 350, 0.1, 0.9),
    Stage('rattled', 'crystals', partial(_crystals, rattled, bound=BOUND), 350, 0.1, 0.95),
    Stage('supercell', 'crystals', partial(_crystals, _rattled_supercell, bound=BOUND), 350, 0.3, 1.0, 120),
    Stage('vacancy', 'crystals', partial(_crystals, _vacancy, bound=BOUND), 100, 0.4, 1.0, 120),
    Stage('element', 'crystals', _elements, 600, 0.0, 0.5, 14),
    Stage('noble', 'crystals', _noble, 60, 0.1, 0.6),
    Stage('slab', 'surfaces', partial(_crystals, surfaces.slab, bound=BOUND), 300, 0.2, 1.0, 90),
    Stage('relaxed', 'surfaces', partial(_crystals, surfaces.relaxed_slab, bound=BOUND), 400, 0.1, 0.9, 20),
    Stage('thin', 'surfaces', partial(_crystals, surfaces.thin_slab, bound=BOUND), 600, 0.1, 0.9, 20),
    Stage('plain', 'surfaces', _plain, 100, 0.05, 0.6, 20),
    Stage('layer', 'surfaces', partial(_crystals, surfaces.layer, bound=BOUND), 200, 0.1, 0.8),
    Stage('adsorbate', 'surfaces', _covered, 200, 0.25, 1.0, 90),
    Stage('atom', 'molecules', _free_atoms, 69, 0.0, 0.3),
    Stage('known', 'molecules', partial(_molecules, molecules.known, 2), 200, 0.05, 0.8),
    Stage('simple', 'molecules', partial(_molecules, molecules.simple, 2), 400, 0.05, 0.9),
    Stage('pair', 'molecules', _pairs, 150, 0.1, 1.0, 120),
    Stage('salt', 'molecules', partial(_molecules, molecules.salts, 1), 72, 0.2, 0.9),
    Stage('melt', 'melts', partial(_crystals, melts.melt, bound=BOUND), 60, 0.5, 1.0, 150),
    Stage('magnetic', 'spin', _magnetic, 200, 1.0, 1.1, 60),
    Stage('radical', 'spin', _radicals, 40, 1.0, 1.1),
)
