"""Geometries like those that somebody has: rattled, strained, in larger cells, with vacancies."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from ase import Atoms

from ase_deepdensity.arguments import formula, real, whole
from ase_deepdensity.sampling.distort import overlaps, rattled, supercell, with_vacancy

TRIES = 100
"""How often a geometry whose atoms overlap is drawn anew."""


def perturbed(
    frames: Sequence[Atoms],
    *,
    seed: int = 0,
    rattle: float = 0.05,
    strain: float = 0.0,
    max_atoms: int | None = None,
    vacancies: int = 0,
) -> Iterator[Atoms]:
    """Geometries made from each of ``frames`` in turn, without end; charges and magnetic moments stay.

    Parameters
    ----------
    rattle
        Standard deviation of displacements in each direction, Å.
    strain
        Standard deviation of each component of a random strain of the directions that are periodic; no number.
    max_atoms
        Crystals are first repeated to compact cells of at most so many atoms, along directions that are periodic.
    vacancies
        Atoms that are taken out, drawn at random.

    Raises
    ------
    ValueError
        Numbers that are out of bounds; fewer atoms than vacancies; overlapping atoms in all of many tries.
    """
    whole('seed', seed, least=0)
    real('rattle', rattle, least=0, unit='Å')
    real('strain', strain, least=0, most=0.3)
    whole('vacancies', vacancies, least=0)
    if max_atoms is not None:
        whole('max_atoms', max_atoms, least=1)
    if not frames:
        raise ValueError('there are no geometries to perturb')
    starts = [_repeated(atoms, max_atoms) for atoms in frames]
    for atoms in starts:
        if len(atoms) <= vacancies:
            raise ValueError(f'{vacancies} of the {len(atoms)} atoms of {formula(atoms)} cannot be taken out')
    return _perturbed(starts, np.random.default_rng(seed), rattle, strain, vacancies)


def _perturbed(
    starts: Sequence[Atoms], rng: np.random.Generator, rattle: float, strain: float, vacancies: int
) -> Iterator[Atoms]:
    while True:
        for start in starts:
            for _ in range(TRIES):
                atoms = _strained(start, rng, strain)
                for _ in range(vacancies):
                    atoms = with_vacancy(atoms, rng)
                atoms = rattled(atoms, rng, size=rattle)
                if not overlaps(atoms):
                    break
            else:
                raise ValueError(
                    f'{formula(start)}: atoms overlap in each of {TRIES} tries; rattle ({rattle} Å) or strain '
                    f'({strain}) is too large, or they overlap from the start'
                )
            atoms.info['kind'] = 'perturbed'
            yield atoms


def _repeated(atoms: Atoms, max_atoms: int | None) -> Atoms:
    """Without what a calculator has left behind."""
    atoms = atoms.copy()
    atoms.set_constraint()
    if max_atoms is None:
        return atoms
    if len(atoms) > max_atoms:
        raise ValueError(f'{formula(atoms)} has more than {max_atoms} atoms already')
    return supercell(atoms, max_atoms) if atoms.pbc.all() else _layer(atoms, max_atoms)


def _layer(atoms: Atoms, max_atoms: int) -> Atoms:
    """Repeated along its periodic directions alone, the shortest first."""
    repeat_c = np.ones(3, int)
    while atoms.pbc.any():
        lengths_c = np.where(atoms.pbc, atoms.cell.lengths() * repeat_c, np.inf)
        more_c = repeat_c + (np.arange(3) == np.argmin(lengths_c))
        if len(atoms) * more_c.prod() > max_atoms:
            break
        repeat_c = more_c
    return atoms.repeat(repeat_c.tolist())


def _strained(atoms: Atoms, rng: np.random.Generator, size: float) -> Atoms:
    """The periodic lattice vectors strained, atoms with them; what is not periodic keeps its shape."""
    atoms = atoms.copy()
    if size == 0.0 or not atoms.pbc.any():
        return atoms
    strain_vv = rng.normal(scale=size, size=(3, 3))
    deformation_vv = np.eye(3) + (strain_vv + strain_vv.T) / 2
    cell_cv = atoms.cell.array
    cell_cv[atoms.pbc] = cell_cv[atoms.pbc] @ deformation_vv
    atoms.set_cell(cell_cv, scale_atoms=True)
    return atoms
