"""A universal potential whose weights come with its package: CHGNet (B. Deng et al., Nat. Mach. Intell. 5, 1031 (2023),
doi:10.1038/s42256-023-00716-3; modified BSD licence, weights included)."""

from __future__ import annotations

import warnings
from functools import cache
from typing import Any

import numpy as np
from ase import Atoms
from ase.neighborlist import neighbor_list

ANGLE_RANGE = 3.0
"""Å: the potential looks at all angles between neighbours so near."""
MOST_NEIGHBOURS = 50
"""More of them are met in no solid (28 in diamond), and their angles would fill the memory."""
BOND_RANGE = 6.0
"""Å: the potential sees no neighbour farther away, and nothing binds an atom without any."""


@cache
def _model() -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')
        from chgnet.model.model import CHGNet

        return CHGNet.load(use_device='cpu', verbose=False)


def energies(structures: list[Atoms]) -> np.ndarray:
    """Energies (n,) of crystals, eV per atom; infinite for one denser or more dilute than the potential can tell."""
    from pymatgen.io.ase import AseAtomsAdaptor

    energy_n = np.full(len(structures), np.inf)
    for n, atoms in enumerate(structures):
        if _is_within_reach(atoms):
            with warnings.catch_warnings():
                warnings.simplefilter('ignore')
                crystal = AseAtomsAdaptor.get_structure(atoms)
                energy_n[n] = float(_model().predict_structure(crystal, task='e')['e'])
    return energy_n


def _is_within_reach(atoms: Atoms) -> bool:
    """Has each atom a neighbour, and none too many of them?"""
    near_a = np.bincount(neighbor_list('i', atoms, ANGLE_RANGE), minlength=len(atoms))
    bonded_a = np.bincount(neighbor_list('i', atoms, BOND_RANGE), minlength=len(atoms))
    return bool(near_a.max() <= MOST_NEIGHBOURS and bonded_a.min() > 0)


def calculator() -> Any:
    """The potential as an ASE calculator, for dynamics."""
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')
        from chgnet.model.dynamics import CHGNetCalculator

        return CHGNetCalculator(model=_model(), use_device='cpu', on_isolated_atoms='ignore')
