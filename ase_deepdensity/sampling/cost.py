"""What a reference calculation will cost, before it is made: to buy much with each core-hour."""

from __future__ import annotations

from functools import cache

import numpy as np
from ase import Atoms

from ase_deepdensity.codes import code_of
from ase_deepdensity.level import Level

SECONDS_SET_UP, SECONDS_PER_WORK = 1.0, 3.8e-4
"""Fitted to calculations of the level ``general-pw400`` on one core: seconds = a + b · k-points · bands · volume/Å³."""


def estimated_seconds(atoms: Atoms, level: Level) -> float:
    """CPU time of a spin-paired ground state in plane waves, within a factor of two or so."""
    nbands = 0.6 * sum(_valence(level, int(number)) for number in atoms.numbers) + 4
    return SECONDS_SET_UP + SECONDS_PER_WORK * _nkpts(atoms, level) * nbands * atoms.get_volume()


@cache
def _valence(level: Level, number: int) -> float:
    return float(code_of(level).atom_types(level, [number])[0].nvalence)


def _nkpts(atoms: Atoms, level: Level) -> int:
    """How many k-points are left by symmetry."""
    import spglib

    density = level.parameters.get('kpts', {}).get('density', 0.0)
    reciprocal_c = 2 * np.pi * np.linalg.norm(atoms.cell.reciprocal(), axis=1)
    mesh_c = np.where(atoms.pbc, np.maximum(1, np.ceil(density * reciprocal_c)), 1).astype(int)
    cell = (atoms.cell.array, atoms.get_scaled_positions(), atoms.numbers)
    mapping, _ = spglib.get_ir_reciprocal_mesh(mesh_c, cell, is_shift=(mesh_c % 2 == 0).astype(int), symprec=1e-5)
    return len(np.unique(mapping))
