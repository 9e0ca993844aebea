"""Magnetic crystals to train a model on, and others to judge it by: Fe, Co, Ni, MnO, FeO, NiO; small radicals.

    python docs/benchmarks/magnetic_geometries.py training OUT.xyz
    python docs/benchmarks/magnetic_geometries.py held-out OUT.xyz

The metals of the training list keep away from the volumes of ASE's ``dcdft`` crystals by more than 4 % (see
:mod:`ase_deepdensity.sampling.held_out`); those to judge by lie there.  Oxides to judge by are strained and rattled in
other ways than those to train on.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from functools import partial

import numpy as np
from ase import Atoms
from ase.build import bcc100, bcc110, bulk, molecule
from ase.io import write

from ase_deepdensity.sampling.distort import rattled
from ase_deepdensity.sampling.held_out import reason_to_hold_out

METALS = {'Fe': 2.834, 'Co': 2.497, 'Ni': 3.524}
"""Lattice constants a of bcc, hcp and fcc, Å."""
METAL_MOMENTS = {'Fe': 2.3, 'Co': 1.7, 'Ni': 0.7}
OXIDES = {'MnO': 4.44, 'NiO': 4.19, 'FeO': 4.30}
"""Lattice constants of the rock salts, Å."""
OXIDE_MOMENTS = {'MnO': 5.0, 'NiO': 2.0, 'FeO': 4.0}
"""Initial magnetic moments of the metals' atoms, μB."""
AWAY = 1.016, 0.984, 0.97, 1.03, 0.955, 1.045, 0.94, 1.022, 0.978
"""Lengths in units of the reference's, more than 4 % in volume from it."""
STRETCHES = (1.05, 1.016), (0.95, 0.984), (1.1, 1.03)
"""Along z, and lengths in the same units."""
OTHERS = ('Fe', 'fcc', 3.65), ('Co', 'fcc', 3.60), ('Ni', 'bcc', 2.85)
"""Other structures, Å."""
MOLECULES = ('O2', 1.0), ('NO', 1.0), ('OH', 1.0), ('CH3', 1.0), ('O2', 1.04), ('NH2', 1.0), ('NO', 1.03)
"""And how much longer their bonds are."""


def main(kind: str, out: str) -> None:
    frames = list({'training': training, 'held-out': held_out}[kind]())
    for atoms in frames:
        if kind == 'training' and (reason := reason_to_hold_out(atoms)):
            raise ValueError(reason)
    write(out, frames)


def training() -> Iterator[Atoms]:
    """In an order of which each beginning has something of all kinds, the cheap ones first."""
    rng, other = np.random.default_rng(0), np.random.default_rng(7)
    ferro, antiferro = partial(oxide, ferro=True), partial(oxide, ferro=False)
    kinds = [
        (0.0, 0.6, [crystal(symbol, scale) for scale in AWAY for symbol in METALS]),
        (0.0, 0.6, [ferro(name, scale) for scale in (1.01, 0.97, 1.04, 0.99, 1.06, 0.95) for name in OXIDES]),
        (0.1, 0.8, [antiferro(name, scale) for scale in (1.015, 0.975, 1.045) for name in OXIDES]),
        (0.1, 1.0, list(slabs(rng))),
        (0.3, 1.0, [stretched(crystal(symbol, scale), by) for by, scale in STRETCHES for symbol in METALS]),
        (0.4, 1.0, [stretched(ferro(name, scale), by) for by, scale in STRETCHES for name in OXIDES]),
        (0.5, 1.0, [with_moments(bulk(*other), METAL_MOMENTS) for other in OTHERS]),
        (
            0.5,
            1.0,
            [stretched(antiferro(name, 1.0), by, along_diagonal=True) for by in (1.04, 0.96) for name in OXIDES],
        ),
        (0.6, 1.0, [rattled(pair(symbol, scale), rng, size=0.08) for scale in (1.02, 0.98) for symbol in METALS]),
        (0.6, 1.0, [rattled(make(name, 1.01), rng, size=0.06) for make in (ferro, antiferro) for name in OXIDES]),
        (0.2, 1.0, [radical(*each) for each in MOLECULES]),
        (
            0.4,
            0.7,
            [rattled(pair(symbol, scale), other, size=0.05) for scale in (1.018, 0.98) for symbol in ('Fe', 'Ni')],
        ),
        (0.1, 0.6, [alloy('Fe', 'Co'), alloy('Fe', 'Ni'), cobalt_oxide()]),
    ]
    placed = [
        (begin + (end - begin) * (i + 0.5) / len(frames), atoms)
        for begin, end, frames in kinds
        for i, atoms in enumerate(frames)
    ]
    yield from (atoms for _, atoms in sorted(placed, key=lambda each: each[0]))


def slabs(rng: np.random.Generator) -> Iterator[Atoms]:
    """Of iron."""
    for make, layers, scale in ((bcc100, 3, 1.01), (bcc110, 3, 0.99), (bcc100, 4, 0.98), (bcc110, 2, 1.02)):
        slab = make('Fe', (1, 1, layers), a=METALS['Fe'] * scale, vacuum=4.0)
        yield rattled_along_z(with_moments(slab, {'Fe': 2.6}), rng)


def held_out() -> Iterator[Atoms]:
    """The metals at their reference volumes, as they are and rattled; oxides; what is timed in magnetic.py."""
    rng = np.random.default_rng(1)
    for symbol in METALS:
        yield crystal(symbol, 1.0)
        yield rattled(pair(symbol, 1.0), rng, size=0.05)
    for name in OXIDES:
        yield oxide(name, 1.0, ferro=False)
        yield stretched(oxide(name, 1.02, ferro=True), 1.03)
    slab = bcc100('Fe', (1, 1, 5), a=METALS['Fe'], vacuum=4.0)
    yield rattled_along_z(with_moments(slab, {'Fe': 2.6}), rng)


def crystal(symbol: str, scale: float) -> Atoms:
    """The primitive cell of the ground state's structure."""
    c = {'c': 4.031 * scale} if symbol == 'Co' else {}
    return with_moments(bulk(symbol, a=METALS[symbol] * scale, **c), METAL_MOMENTS)


def pair(symbol: str, scale: float) -> Atoms:
    """The same with two atoms."""
    atoms = crystal(symbol, scale)
    return atoms if len(atoms) == 2 else atoms.repeat((2, 1, 1))


def oxide(name: str, scale: float, ferro: bool) -> Atoms:
    """Rock salt, or its cell doubled along [111] with moments of both signs."""
    metal, a = name.removesuffix('O'), OXIDES[name] * scale
    moment = OXIDE_MOMENTS[name]
    if ferro:
        return with_moments(bulk(name, 'rocksalt', a=a), {metal: moment})
    cell_cv = a / 2 * np.array([[2, 1, 1], [1, 2, 1], [1, 1, 2]])
    atoms = Atoms([metal, metal, 'O', 'O'], scaled_positions=[[x, x, x] for x in (0, 0.5, 0.25, 0.75)],
                  cell=cell_cv, pbc=True)  # fmt: skip
    atoms.set_initial_magnetic_moments([moment, -moment, 0, 0])
    return atoms


def alloy(one: str, other: str) -> Atoms:
    """Of the structure of CsCl."""
    return with_moments(bulk(one + other, 'cesiumchloride', a=2.86), METAL_MOMENTS)


def cobalt_oxide() -> Atoms:
    """Ferromagnetic rock salt."""
    return with_moments(bulk('CoO', 'rocksalt', a=4.2925), {'Co': 3.0})


def radical(name: str, length: float) -> Atoms:
    """A molecule with its moments in a box."""
    atoms = molecule(name)
    atoms.center(vacuum=3.5)
    atoms.pbc = True
    centre_v = atoms.get_center_of_mass()
    atoms.positions = (atoms.positions - centre_v) * length + centre_v
    atoms.cell = np.diag(np.round(atoms.cell.lengths(), 1))
    atoms.center()
    return atoms


def with_moments(atoms: Atoms, moments: dict[str, float]) -> Atoms:
    """μB for each element; none for others."""
    atoms.set_initial_magnetic_moments([moments.get(symbol, 0.0) for symbol in atoms.symbols])
    return atoms


def stretched(atoms: Atoms, factor: float, along_diagonal: bool = False) -> Atoms:
    """Longer by a factor along z or along [111]; the volume stays."""
    axis_v = np.ones(3) / np.sqrt(3) if along_diagonal else np.array([0.0, 0.0, 1.0])
    along_vv = np.outer(axis_v, axis_v)
    atoms = atoms.copy()
    atoms.set_cell(atoms.cell.array @ (factor * along_vv + (np.eye(3) - along_vv) / np.sqrt(factor)), scale_atoms=True)
    return atoms


def rattled_along_z(atoms: Atoms, rng: np.random.Generator) -> Atoms:
    """The layers of a slab displaced, their symmetry kept."""
    atoms.positions[:, 2] += rng.normal(scale=0.05, size=len(atoms))
    return atoms


if __name__ == '__main__':
    main(*sys.argv[1:])
