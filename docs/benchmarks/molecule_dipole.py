"""The dipole moment of single water molecules against GPAW at the model's level.

python docs/benchmarks/molecule_dipole.py [MODEL]
"""

from __future__ import annotations

import sys

import numpy as np
from ase.build import molecule

from ase_deepdensity import DeepDensity
from ase_deepdensity.codes.gpaw.reference import calculate


def main() -> None:
    calc = DeepDensity(sys.argv[1] if len(sys.argv) > 1 else 'water-pbe-dzp')
    print('| rattled by | GPAW, e·Å | predicted | difference |\n|---|---|---|---|')
    for seed, width in enumerate((0.0, 0.03, 0.05)):
        atoms = molecule('H2O', vacuum=4)
        atoms.pbc = True
        if width:
            atoms.rattle(width, seed=seed)
        atoms.rotate(20, (1, 2, 3))
        reference_v = calculate(atoms, calc.model.level).dipole
        dipole_v = calc.get_dipole_moment(atoms)
        difference = np.linalg.norm(dipole_v - reference_v)
        print(f'| {width} Å | {_length(reference_v)} | {_length(dipole_v)} | {difference:.4f} |')


def _length(dipole_v: np.ndarray) -> str:
    return f'{np.linalg.norm(dipole_v):.4f}'


if __name__ == '__main__':
    main()
