"""The same crystal, otherwise: strained, rattled, in a larger cell, with an atom less."""

from __future__ import annotations

import numpy as np
from ase import Atoms
from ase.build import make_supercell
from ase.neighborlist import natural_cutoffs, neighbor_list


def strained(atoms: Atoms, rng: np.random.Generator, *, size: float = 0.03) -> Atoms:
    """Strained at random, all six components of standard deviation ``size``: no rotation is left a symmetry."""
    strain_vv = rng.normal(scale=size, size=(3, 3))
    return _deformed(atoms, np.eye(3) + (strain_vv + strain_vv.T) / 2)


def stretched(atoms: Atoms, rng: np.random.Generator, *, size: float = 0.04) -> Atoms:
    """Strained along the cell's main axis, or scaled if that is cubic: the symmetry stays.

    The main axis is the one about which the cell has more than twofold symmetry; the cell must be in the standard
    orientation of spglib, main axis along z.
    """
    strain_v = np.array([1.0, 1.0, 1.0]) * rng.normal(scale=size / 2)
    if not is_cubic(atoms):
        strain_v[2] += rng.normal(scale=size)
    return _deformed(atoms, np.diag(1 + strain_v))


def displaced(atoms: Atoms, rng: np.random.Generator, *, size: float = 0.1) -> Atoms:
    """Stretched, and every atom displaced along the main axis (z), standard deviation ``size`` Å.

    The symmetry about that axis stays: what displacements do is seen at a fraction of the cost of rattled atoms.
    """
    atoms = stretched(atoms, rng)
    displacement_a = rng.normal(scale=size, size=len(atoms))
    atoms.positions[:, 2] += displacement_a - displacement_a.mean()
    return atoms


def is_cubic(atoms: Atoms) -> bool:
    """Does space-group symmetry make the three axes alike?"""
    import spglib

    dataset = spglib.get_symmetry_dataset((atoms.cell.array, atoms.get_scaled_positions(), atoms.numbers), symprec=1e-4)
    return dataset is not None and dataset.number >= 195


def rattled(atoms: Atoms, rng: np.random.Generator, *, size: float = 0.08) -> Atoms:
    """Atoms displaced at random, standard deviation ``size`` Å in each direction; their centre stays."""
    atoms = atoms.copy()
    displacement_av = rng.normal(scale=size, size=(len(atoms), 3))
    atoms.positions += displacement_av - displacement_av.mean(axis=0)
    return atoms


def supercell(atoms: Atoms, max_atoms: int) -> Atoms:
    """The most compact supercell of at most so many atoms, by doubling or tripling the shortest lattice vector."""
    repeat_c = np.ones(3, int)
    while True:
        lengths_c = atoms.cell.lengths() * repeat_c
        more_c = repeat_c + (np.arange(3) == np.argmin(lengths_c))
        if len(atoms) * more_c.prod() > max_atoms:
            return make_supercell(atoms, np.diag(repeat_c))
        repeat_c = more_c


def dilated(atoms: Atoms, rng: np.random.Generator, *, least: float = 0.85, most: float = 1.5) -> Atoms:
    """All lengths times a factor between ``least`` and ``most``, small ones more often: from pressure to free atoms."""
    return _deformed(atoms, np.eye(3) * np.exp(rng.uniform(np.log(least), np.log(most))))


def with_vacancy(atoms: Atoms, rng: np.random.Generator) -> Atoms:
    """Without one atom, drawn at random; those around it are left where they were."""
    atoms = atoms.copy()
    del atoms[int(rng.integers(len(atoms)))]
    return atoms


def overlaps(atoms: Atoms) -> bool:
    """Are any two atoms nearer than 0.65 of the sum of their covalent radii?"""
    return len(neighbor_list('i', atoms, natural_cutoffs(atoms, mult=0.65))) > 0


def _deformed(atoms: Atoms, deformation_vv: np.ndarray) -> Atoms:
    atoms = atoms.copy()
    atoms.set_cell(atoms.cell.array @ deformation_vv, scale_atoms=True)
    return atoms
