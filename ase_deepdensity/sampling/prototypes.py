"""Crystal structures by prototype: the AFLOW library that pymatgen ships (M. J. Mehl et al., Comput. Mater. Sci. 136,
S1 (2017), doi:10.1016/j.commatsci.2017.01.017)."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms
from ase.data import covalent_radii
from ase.formula import Formula
from ase.neighborlist import neighbor_list

SMALLEST_SCALE = 0.8
"""Of lengths, where 1 lets the closest pair be a sum of covalent radii apart."""
SYMMETRY_PRECISION = 1e-3
"""Å: the library's rounded coordinates are moved onto symmetric places within this."""


@dataclass(frozen=True, eq=False)
class Prototype:
    """A structure in its primitive cell, of idealised symmetry."""

    name: str
    """AFLOW's name, like ``AB_cF8_225_a_b``, and the original's formula."""
    atoms: Atoms

    @property
    def elements(self) -> list[str]:
        """Of the original, in the order of the alphabet."""
        return sorted(set(self.atoms.symbols))

    def formula(self, places: dict[str, str]) -> Formula:
        """Reduced, with the elements ``{old: new}``."""
        counts = self.atoms.symbols.formula.reduce()[0].count()
        return Formula.from_dict({places[symbol]: n for symbol, n in counts.items()})

    def substituted(self, elements: Sequence[str]) -> Atoms:
        """The structure with others in place of :attr:`elements`, scaled until the tightest pair of atoms touches."""
        places = dict(zip(self.elements, elements, strict=True))
        atoms = self.atoms.copy()
        atoms.symbols = [places[symbol] for symbol in atoms.symbols]
        return touching(atoms)


def touching(atoms: Atoms) -> Atoms:
    """Scaled so that the closest pair, in sums of covalent radii, is one sum apart."""
    reach = 1.2 * (atoms.get_volume() / len(atoms)) ** (1 / 3)
    while True:
        i_n, j_n, distance_n = neighbor_list('ijd', atoms, reach)
        if len(i_n):
            break
        reach *= 1.3
    radius_a = covalent_radii[atoms.numbers]
    scale = 1 / (distance_n / (radius_a[i_n] + radius_a[j_n])).min()
    return scaled(atoms, scale)


def scaled(atoms: Atoms, scale: float) -> Atoms:
    """A copy with all lengths times ``scale``."""
    atoms = atoms.copy()
    atoms.set_cell(atoms.cell * scale, scale_atoms=True)
    return atoms


@cache
def prototypes(max_atoms: int = 12) -> tuple[Prototype, ...]:
    """Those with at most so many atoms in the primitive cell, small ones first."""
    spec = find_spec('pymatgen.analysis.prototypes')
    if spec is None or spec.origin is None:
        raise ModuleNotFoundError('no module named pymatgen', name='pymatgen')
    with gzip.open(Path(spec.origin).with_name('aflow_prototypes.json.gz'), 'rt') as file:
        entries = json.load(file)
    found: dict[str, Prototype] = {}
    for entry in entries:
        atoms = _primitive(entry['snl'])
        if atoms is not None and len(atoms) <= max_atoms:
            name = f'{entry["tags"]["aflow"]}-{atoms.symbols.formula.reduce()[0]}'
            found.setdefault(name, Prototype(name, atoms))
    return tuple(sorted(found.values(), key=lambda prototype: len(prototype.atoms)))


def _primitive(entry: dict[str, Any]) -> Atoms | None:
    """The primitive cell of a library entry, without the noise of rounded coordinates."""
    import spglib

    symbols = [site['species'][0]['element'] for site in entry['sites']]
    if any(len(site['species']) > 1 for site in entry['sites']) or {'D', 'Tc'} & set(symbols):
        return None
    atoms = Atoms(
        symbols, scaled_positions=[s['abc'] for s in entry['sites']], cell=entry['lattice']['matrix'], pbc=True
    )
    cell = spglib.standardize_cell(
        (atoms.cell.array, atoms.get_scaled_positions(), atoms.numbers), to_primitive=True, symprec=SYMMETRY_PRECISION
    )
    if cell is None:
        return None
    cell_cv, relpos_ac, numbers = cell
    return Atoms(numbers, scaled_positions=np.asarray(relpos_ac) % 1.0, cell=cell_cv, pbc=True)


def relaxed_volume(atoms: Atoms, energies: Callable[[list[Atoms]], np.ndarray], *, rounds: int = 4) -> Atoms | None:
    """The crystal at its volume of lowest energy; all else, its symmetry too, stays.

    It is looked for above :data:`SMALLEST_SCALE`: a universal potential may bind atoms that sit in each other, and its
    lists of neighbours and angles grow without bounds there.

    Parameters
    ----------
    energies
        Gives the energies of some structures, eV; infinite for those that it cannot tell, too dense or too dilute.
    rounds
        How often the window of volumes may be moved before the search is given up and None returned.
    """
    centre, step = 1.06, 0.04
    for _ in range(rounds):
        scale_n = centre + step * np.arange(-3, 4)
        energy_n = energies([scaled(atoms, scale) for scale in scale_n])
        n = int(np.argmin(energy_n))
        if np.isinf(energy_n).all():
            n = len(scale_n) - 1
        if 0 < n < len(scale_n) - 1:
            if np.isinf(energy_n[n - 1 : n + 2]).any():
                return None
            below, here, above = energy_n[n - 1 : n + 2]
            shift = 0.5 * (below - above) / (below - 2 * here + above)
            return scaled(atoms, float(scale_n[n] + step * shift))
        centre = scale_n[n]
        if centre - 3 * step < SMALLEST_SCALE:
            return None
    return None
