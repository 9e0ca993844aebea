"""Surfaces: slabs cut from crystals, layers, molecules and atoms on metals."""

from __future__ import annotations

import random
from collections.abc import Iterator
from itertools import product
from typing import Any

import numpy as np
from ase import Atoms
from ase.build import add_adsorbate, bcc110, fcc111, hcp0001, molecule, surface
from ase.data import atomic_numbers, covalent_radii, reference_states

from ase_deepdensity.sampling.chemistry import ELEMENTS, is_metal
from ase_deepdensity.sampling.crystals import ELEMENT_SCALES
from ase_deepdensity.sampling.distort import rattled

VACUUM = 3.5
"""Å on either side of a slab."""
MILLER_INDICES = ((0, 0, 1), (1, 0, 0), (1, 1, 0), (1, 0, 1), (1, 1, 1))
ADSORBATES = ('H', 'C', 'N', 'O', 'S', 'F', 'Cl', 'Na', 'CO', 'H2O', 'NH3', 'H2', 'N2')


def slab(atoms: Atoms, rng: np.random.Generator, *, max_atoms: int = 12) -> Atoms | None:
    """A slab of a crystal with a surface drawn at random, rattled; None where none has few enough atoms."""
    cut = _cut(atoms, rng, max_atoms)
    return None if cut is None else rattled(cut, rng, size=0.03)


def relaxed_slab(atoms: Atoms, rng: np.random.Generator, *, max_atoms: int = 8) -> Atoms | None:
    """Such a slab with its layers moved along the normal, as surfaces relax: it keeps the symmetry of its plane.

    A fraction of the cost of a rattled one.
    """
    return _relaxed(_cut(atoms, rng, max_atoms), rng)


def thin_slab(atoms: Atoms, rng: np.random.Generator, *, max_atoms: int = 6) -> Atoms | None:
    """Two or three repeats of a crystal likewise: most of its atoms are at a surface, and it costs a third."""
    return _relaxed(_cut(atoms, rng, max_atoms, layers=(3, 2) if rng.random() < 0.4 else (2,)), rng)


def _relaxed(cut: Atoms | None, rng: np.random.Generator) -> Atoms | None:
    if cut is None:
        return None
    _, layer_a = np.unique(cut.positions[:, 2].round(3), return_inverse=True)
    cut.positions[:, 2] += rng.normal(scale=0.05, size=layer_a.max() + 1)[layer_a]
    return cut


def _cut(atoms: Atoms, rng: np.random.Generator, max_atoms: int, layers: tuple[int, ...] = (4, 3, 2)) -> Atoms | None:
    indices = MILLER_INDICES[int(rng.integers(len(MILLER_INDICES)))]
    for number in layers:
        cut = surface(atoms, indices, number, vacuum=VACUUM)
        if len(cut) <= max_atoms:
            return cut
    return None


def layer(atoms: Atoms, rng: np.random.Generator) -> Atoms | None:
    """One cell of a crystal along its third axis, cut open at the widest gap; None where that axis is oblique."""
    if np.abs(atoms.cell.array[:2, 2]).max() > 1e-6:
        return None
    z_a = np.sort(atoms.get_scaled_positions()[:, 2])
    gap_a = np.diff(np.append(z_a, z_a[0] + 1))
    atoms = atoms.copy()
    top = z_a[gap_a.argmax()]
    relpos_ac = atoms.get_scaled_positions()
    relpos_ac[:, 2] = (relpos_ac[:, 2] - top - 1e-6) % 1.0
    atoms.set_scaled_positions(relpos_ac)
    cell_cv = atoms.cell.array
    cell_cv[2] = [0.0, 0.0, cell_cv[2, 2]]
    atoms.set_cell(cell_cv)
    atoms.pbc = (True, True, False)
    atoms.center(vacuum=VACUUM, axis=2)
    return atoms


_BUILDERS: dict[str, tuple[Any, str]] = {
    'fcc': (fcc111, 'fcc'),
    'bcc': (bcc110, 'hollow'),
    'hcp': (hcp0001, 'fcc'),
}
"""Of the densest surface of a lattice, and ASE's name of a hollow there."""


def metals_with_surfaces() -> list[str]:
    """Metals of which ASE knows a cubic close-packed, body-centred or hexagonal crystal."""
    return [symbol for symbol in ELEMENTS if is_metal(symbol) and _reference(symbol).get('symmetry') in _BUILDERS]


def _reference(symbol: str) -> dict[str, Any]:
    """The crystal that ASE knows of an element."""
    return dict(reference_states[atomic_numbers[symbol]] or {})


def _scaled_lattice(symbol: str, rng: random.Random | np.random.Generator) -> dict[str, float]:
    """Its lattice constants at a volume that is not that of the held-out crystal, Å."""
    reference = _reference(symbol)
    a = reference['a'] * float(rng.choice(ELEMENT_SCALES)) ** (1 / 3)
    return {'a': a, 'c': a * reference['c/a']} if 'c/a' in reference else {'a': a}


def covered(symbol: str, adsorbate: str, rng: random.Random) -> Atoms:
    """An atom or a molecule on the densest surface of a metal, whose volume is not that of the held-out crystal."""
    reference = _reference(symbol)
    builder, hollow = _BUILDERS[reference['symmetry']]
    lattice = _scaled_lattice(symbol, rng)
    size = (1, 1, 4) if adsorbate in atomic_numbers else (2, 2, 2)
    atoms = builder(symbol, size, **lattice, vacuum=VACUUM)
    guest = Atoms(adsorbate) if adsorbate in atomic_numbers else molecule(adsorbate)
    if adsorbate == 'CO':
        guest.rotate(180, 'x')  # carbon down
    place = rng.choice(['ontop', hollow])
    lowest = guest[int(guest.positions[:, 2].argmin())]
    bond = covalent_radii[lowest.number] + covalent_radii[atomic_numbers[symbol]]
    add_adsorbate(atoms, guest, rng.uniform(0.9, 1.1) * bond * (1.0 if place == 'ontop' else 0.8), place)
    atoms.center(vacuum=VACUUM, axis=2)
    atoms.info.clear()
    return atoms


ROCK_SALTS = (
    (('Li', 'Na', 'K', 'Rb'), ('F', 'Cl', 'Br', 'H')),
    (('Mg', 'Ca', 'Sr', 'Ba', 'Ti', 'V', 'Mn', 'Ni', 'Cd', 'Sn', 'Pb', 'Sc', 'Zr'), ('O', 'S', 'N', 'Se')),
)
"""Cations and anions, each of which form such crystals with each other."""


def plain_slabs(rng: np.random.Generator) -> Iterator[tuple[str, Atoms]]:
    """Few layers of metals and of rock salt, with one atom of each kind per layer, and names for them.

    Layers move along the normal, standard deviation 0.06 Å; the symmetry in the plane stays, which keeps them cheap.
    """
    for symbol, layers in product(metals_with_surfaces(), (3, 4)):
        builder, _ = _BUILDERS[_reference(symbol)['symmetry']]
        yield f'{symbol}-{layers}', _rumpled(builder(symbol, (1, 1, layers), **_scaled_lattice(symbol, rng)), rng)
    for cations, anions in ROCK_SALTS:
        for cation, anion in product(cations, anions):
            yield f'{cation}{anion}', _rumpled(_rock_salt(cation, anion, int(rng.integers(2, 4))), rng)


def _rock_salt(cation: str, anion: str, layers: int) -> Atoms:
    """Its (001) layers, ions as far from each other as covalent radii say."""
    bond = sum(covalent_radii[atomic_numbers[symbol]] for symbol in (cation, anion))
    side = np.sqrt(2) * bond
    atoms = Atoms(cell=[side, side, layers * bond])
    for layer in range(layers):
        here, there = (0.0, side / 2) if layer % 2 == 0 else (side / 2, 0.0)
        atoms += Atoms([cation, anion], [[here, here, layer * bond], [there, there, layer * bond]])
    return atoms


def _rumpled(atoms: Atoms, rng: np.random.Generator) -> Atoms:
    """Atoms moved along the normal, with vacuum on both sides."""
    atoms = Atoms(atoms.numbers, atoms.positions, cell=atoms.cell)
    atoms.positions[:, 2] += rng.normal(scale=0.06, size=len(atoms))
    atoms.center(vacuum=VACUUM, axis=2)
    atoms.pbc = (True, True, False)
    return atoms
