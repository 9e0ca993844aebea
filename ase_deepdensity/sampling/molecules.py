"""Molecules in vacuum: those of ``g2``, halides, hydrides and oxides of every element, hydrogen-bonded pairs, salts."""

from __future__ import annotations

import random
from collections.abc import Iterator
from itertools import product

import numpy as np
from ase import Atoms
from ase.build import molecule
from ase.collections import g2
from ase.data import atomic_numbers, covalent_radii

from ase_deepdensity.sampling.chemistry import ELEMENTS, NOBLE, electronegativity, oxidation_states
from ase_deepdensity.sampling.distort import rattled

VACUUM = 3.5
"""Å around a molecule."""

PARTNERS = (
    'H2O', 'NH3', 'HF', 'HCl', 'SH2', 'HCN', 'CH3OH', 'H2CO', 'H3CNH2', 'HCOOH', 'C2H2', 'CH3SH', 'N2H4', 'H2O2',
)  # fmt: skip
"""Molecules (of ``ase.build.molecule``) that are put together by hydrogen bonds."""
POLAR = ('N', 'O', 'F', 'S', 'Cl')

SHAPES = {
    1: [[0, 0, 1]],
    2: [[0, 0, 1], [0, np.sin(2.3), np.cos(2.3)]],
    3: [[np.cos(t), np.sin(t), 0.15] for t in 2 * np.pi / 3 * np.arange(3)],
    4: [[1, 1, 1], [1, -1, -1], [-1, 1, -1], [-1, -1, 1]],
    5: [[0, 0, 1], [0, 0, -1], *([np.cos(t), np.sin(t), 0] for t in 2 * np.pi / 3 * np.arange(3))],
    6: [[1, 0, 0], [-1, 0, 0], [0, 1, 0], [0, -1, 0], [0, 0, 1], [0, 0, -1]],
}
"""Directions of the bonds of an atom with so many neighbours; two are bent, three a flat pyramid."""


def boxed(atoms: Atoms) -> Atoms:
    """In the middle of a cell with vacuum on all sides, not periodic."""
    atoms = Atoms(atoms.numbers, atoms.positions)
    atoms.center(vacuum=VACUUM)
    return atoms


def is_closed_shell(atoms: Atoms) -> bool:
    """An even number of electrons."""
    return int(atoms.numbers.sum()) % 2 == 0


def known(max_atoms: int = 12) -> Iterator[tuple[str, Atoms]]:
    """The molecules of ``g2`` without unpaired electrons, with their names."""
    for name in g2.names:
        atoms = molecule(name)
        if 1 < len(atoms) <= max_atoms and not atoms.get_initial_magnetic_moments().any():
            yield name, boxed(atoms)


def simple(ligands: tuple[str, ...] = ('H', 'F', 'Cl', 'Br', 'O')) -> Iterator[tuple[str, Atoms]]:
    """Every element with each ligand, in the numbers that its oxidation states allow; closed shells."""
    for symbol, ligand in product(ELEMENTS, ligands):
        if symbol in NOBLE or electronegativity(symbol) >= electronegativity(ligand):
            continue
        valence = 2 if ligand == 'O' else 1
        for state in oxidation_states(symbol):
            if state > 0 and state % valence == 0 and state // valence in SHAPES:
                atoms = star(symbol, ligand, state // valence)
                if is_closed_shell(atoms):
                    yield f'{symbol}{ligand}{state // valence}', atoms


def star(symbol: str, ligand: str, number: int) -> Atoms:
    """An atom with equal neighbours, as far as the sum of covalent radii."""
    directions = np.array(SHAPES[number], dtype=float)
    directions /= np.linalg.norm(directions, axis=1)[:, None]
    bond = sum(covalent_radii[atomic_numbers[s]] for s in (symbol, ligand))
    return boxed(Atoms([symbol] + [ligand] * number, np.vstack([np.zeros(3), bond * directions])))


def hydrogen_bonded(rng: random.Random, *, max_atoms: int = 12) -> Iterator[tuple[str, Atoms]]:
    """Pairs of small molecules, one pointing a hydrogen at a polar atom of the other, without end."""
    while True:
        names = rng.sample(PARTNERS, 2) if rng.random() < 0.8 else [rng.choice(PARTNERS)] * 2
        donor, acceptor = map(molecule, names)
        numpy_rng = np.random.default_rng(rng.getrandbits(32))
        pair = _joined(donor, acceptor, numpy_rng) if len(donor) + len(acceptor) <= max_atoms else None
        if pair is not None:
            yield '+'.join(names), boxed(rattled(pair, numpy_rng, size=0.03))


def _joined(donor: Atoms, acceptor: Atoms, rng: np.random.Generator) -> Atoms | None:
    """The two with a hydrogen bond of 1.6 to 2.2 Å, otherwise turned at random; None if none fits."""
    from scipy.spatial.transform import Rotation

    distance_aa = donor.get_all_distances()
    bonds = [
        (h, x)
        for h, x in product(range(len(donor)), repeat=2)
        if donor.symbols[h] == 'H' and donor.symbols[x] in POLAR and distance_aa[h, x] < 1.5
    ]
    places = [a for a, symbol in enumerate(acceptor.symbols) if symbol in POLAR]
    if not bonds or not places:
        return None
    for _ in range(50):
        (h, x), place = bonds[rng.integers(len(bonds))], places[rng.integers(len(places))]
        direction_v = (donor.positions[h] - donor.positions[x]) / distance_aa[h, x]
        relative_av = Rotation.random(rng=rng).apply(acceptor.positions - acceptor.positions[place])
        position_av = relative_av + donor.positions[h] + rng.uniform(1.6, 2.2) * direction_v
        between_aa = np.linalg.norm(donor.positions[:, None] - position_av, axis=2)
        between_aa[h, place] = np.inf
        if between_aa.min() > 2.2:
            return donor + Atoms(acceptor.numbers, position_av)
    return None


def salts() -> Iterator[tuple[str, Atoms]]:
    """Rhombic pairs of ion pairs: M₂X₂ of the alkali metals, the alkaline earths, Zn, Ag and Tl."""
    pairs = [
        *product(('Li', 'Na', 'K', 'Rb', 'Cs', 'Ag', 'Tl', 'Cu'), ('F', 'Cl', 'Br', 'I', 'H')),
        *product(('Be', 'Mg', 'Ca', 'Sr', 'Ba', 'Zn', 'Cd', 'Pb'), ('O', 'S', 'Se', 'Te')),
    ]
    for cation, anion in pairs:
        bond = 1.05 * sum(covalent_radii[atomic_numbers[s]] for s in (cation, anion))
        x, y = bond * np.cos(0.85), bond * np.sin(0.85)
        yield (
            f'{cation}2{anion}2',
            boxed(Atoms([cation] * 2 + [anion] * 2, [[0, y, 0], [0, -y, 0], [x, 0, 0], [-x, 0, 0]])),
        )
