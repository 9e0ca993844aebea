"""Sound and absurd geometries, to see what a prediction's own signs of trouble say of its error.

    python docs/benchmarks/familiarity_geometries.py water OUT.xyz
    python docs/benchmarks/familiarity_geometries.py organics OUT.xyz

``water``: molecules, clusters and boxes of eight, stretched, bent, squeezed and rattled, and what is no water at all.
``organics``: the closed-shell molecules of H, C, N and O in ASE's G2 but the twelve of :data:`REPORTED`.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from ase import Atoms
from ase.build import molecule
from ase.collections import g2, s22
from ase.io import write

sys.path.insert(0, str(Path(__file__).parents[2]))
from tests.tiny import water_box

REPORTED = (
    'O3', 'NCCN', 'OCHCHO', 'C3H4_C2v', 'C5H8', 'C4H4NH', 'H2CCHCN', 'butadiene', '2-butyne', 'C3H8', 'CH3COCH3',
    'CH3CH2OCH3',
)  # fmt: skip
"""Molecules that no limit was chosen by."""


def main(kind: str, out: str) -> None:
    frames = {'water': water, 'organics': organics}[kind]()
    write(out, list(frames))


def water() -> Iterator[Atoms]:
    for atoms in (*no_water(), *molecules(), *dimers()):
        atoms.center(vacuum=3.5)
        atoms.pbc = True
        yield atoms
    yield from boxes()


def no_water() -> Iterator[Atoms]:
    for length in 0.5, 0.74, 1.0:
        yield Atoms('H2', [(0, 0, 0), (0, 0, length)])
    yield Atoms('H')
    yield Atoms('H4', [(0, 0, 0), (0, 0, 0.9), (0, 1.2, 0), (0, 1.2, 0.9)])
    yield Atoms('O')
    yield Atoms('O2', [(0, 0, 0), (0, 0, 1.245956)])
    yield molecule('O3')
    yield Atoms('OH', [(0, 0, 0), (0, 0, 0.97)])
    yield molecule('H2O2')
    yield Atoms('OH3', [(0, 0, 0.3), (0.94, 0, 0), (-0.47, 0.81, 0), (-0.47, -0.81, 0)])


def molecules() -> Iterator[Atoms]:
    for length in 0.7, 0.78, 0.85, 0.9, 0.94, 1.02, 1.08, 1.15, 1.3, 1.5:
        yield bent(length)
    for angle in 70, 85, 120, 140, 180:
        yield bent(angle=angle)
    atoms = bent()
    atoms.positions[1] *= 0.8
    yield atoms


def bent(length: float = 0.9686, angle: float = 104.0) -> Atoms:
    """One molecule; Å and degrees."""
    phi = np.radians(angle)
    return Atoms('OHH', [(0, 0, 0), (length, 0, 0), (length * np.cos(phi), length * np.sin(phi), 0)])


def dimers() -> Iterator[Atoms]:
    """The molecule of the first oxygen atom moved along the line between the oxygen atoms."""
    for shift in -0.7, -0.5, -0.3, -0.15, 0.0, 0.3, 0.8, 1.5:
        atoms = s22['Water_dimer']
        first, second = np.flatnonzero(atoms.numbers == 8)
        axis_v = atoms.positions[first] - atoms.positions[second]
        near_a = np.linalg.norm(atoms.positions - atoms.positions[first], axis=1) < 1.3
        atoms.positions[near_a] += shift * axis_v / np.linalg.norm(axis_v)
        yield atoms


def boxes() -> Iterator[Atoms]:
    yield water_box(seed=5)
    for factor in 0.85, 0.9, 0.95, 1.05, 1.15, 1.3:
        atoms = water_box(seed=5)
        center_mv = atoms.positions.reshape(-1, 3, 3).mean(1)
        atoms.positions += np.repeat(center_mv * (factor - 1), 3, axis=0)
        atoms.set_cell(atoms.cell * factor)
        yield atoms
    for amplitude in 0.02, 0.05, 0.1, 0.15, 0.2, 0.3:
        atoms = water_box(seed=5)
        atoms.rattle(amplitude, seed=3)
        yield atoms
    for factor in 0.9, 0.95, 1.05, 1.1:
        atoms = water_box(seed=5)
        atoms.set_cell(atoms.cell * factor, scale_atoms=True)
        yield atoms


def organics() -> Iterator[Atoms]:
    for name in g2.names:
        atoms = molecule(name)
        closed = not atoms.get_initial_magnetic_moments().any()
        if name not in REPORTED and set(atoms.symbols) <= set('HCNO') and closed and len(atoms) > 1:
            atoms.center(vacuum=4)
            atoms.pbc = True
            yield atoms


if __name__ == '__main__':
    main(*sys.argv[1:])
