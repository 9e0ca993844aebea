"""How far a reference density is from one with more k-points, and a model from both.

    python docs/benchmarks/kpoints.py GEOMETRY MODEL [SIZE ...]

GPAW's densities of the first frame of GEOMETRY at the level of MODEL, with Monkhorst–Pack grids of SIZE³ points instead
of the level's k-points (default: 2 and 3; "2g": moved so that Γ is among them), against each other and against the
prediction: NMAE of ñ in %.
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
    for size in sizes or ['2', '3']:
        kpts = {'size': 3 * (int(size.rstrip('g')),), 'gamma': True if size.endswith('g') else None}
        atoms.calc = GPAW(**physical(model.level) | {'kpts': kpts}, txt=None)
        atoms.get_potential_energy()
        states[f'{size}³'] = PAWDensity.from_gpaw(atoms.calc)
    predicted = Predictor(model).predict(atoms, next(iter(states.values())).grid)
    for label, reference in states.items():
        for other, state in (states | {model.name: predicted}).items():
            if other != label:
                print(f'{other} against {label}: {compare(state, reference).nmae:.3f} %')
