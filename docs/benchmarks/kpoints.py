"""How far a reference density is from one with more k-points, and a model from both.

    python docs/benchmarks/kpoints.py GEOMETRY MODEL [SIZE ...]

GPAW's densities of the first frame of GEOMETRY at the level of MODEL, with Monkhorst–Pack grids of SIZE³ points instead
of the level's k-points (default: 2 and 3), against each other and against the prediction: NMAE of ñ in %.
"""

from __future__ import annotations

import sys

from ase.io import read
from gpaw.new.ase_interface import GPAW

from ase_deepdensity import DensityModel, PAWDensity
from ase_deepdensity.analysis.compare import compare
from ase_deepdensity.predict import Predictor
from ase_deepdensity.scf.calculator import physical

if __name__ == '__main__':
    geometry, name, *sizes = sys.argv[1:]
    atoms, model = read(geometry, index=0), DensityModel.load(name)
    states: dict[str, PAWDensity] = {}
    for size in map(int, sizes or [2, 3]):
        atoms.calc = GPAW(**physical(model.level) | {'kpts': (size, size, size)}, txt=None)
        atoms.get_potential_energy()
        states[f'{size}×{size}×{size}'] = PAWDensity.from_gpaw(atoms.calc)
    predicted = Predictor(model).predict(atoms, next(iter(states.values())).grid)
    for label, reference in states.items():
        for other, state in (states | {model.name: predicted}).items():
            if other != label:
                print(f'{other} against {label}: {compare(state, reference).nmae:.3f} %')
