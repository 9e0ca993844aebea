"""How far reference densities with different k-points are from each other, and a model from each.

    python docs/benchmarks/kpoints.py GEOMETRY MODEL [SIZE ...]

GPAW's densities of the first frame of GEOMETRY at the level of MODEL, with Monkhorst–Pack grids of SIZE³ points instead
of the level's k-points (default: 2 and 3; "2g": moved so that Γ is among them), against each other; and against the
prediction, which is told about these k-points if the model asks for any: NMAE of ñ in %.
"""

from __future__ import annotations

import sys
from dataclasses import replace

from ase.io import read
from gpaw.new.ase_interface import GPAW

from ase_deepdensity import DensityModel, PAWDensity
from ase_deepdensity.analysis.compare import compare
from ase_deepdensity.predict import Predictor

if __name__ == '__main__':
    geometry, name, *sizes = sys.argv[1:]
    atoms, model = read(geometry, index=0), DensityModel.load(name)
    states: dict[str, PAWDensity] = {}
    for size in sizes or ['2', '3']:
        kpts = {'size': 3 * [int(size.rstrip('g'))], 'gamma': True if size.endswith('g') else None}
        level = replace(model.level, parameters=model.level.parameters | {'kpts': kpts})
        atoms.calc = GPAW(**level.general().keywords(), txt=None)
        atoms.get_potential_energy()
        reference = PAWDensity.from_gpaw(atoms.calc, level=level)
        predicted = Predictor(model, level=level).predict(atoms, reference.grid)
        print(f'{size}³ k-points: {model.name} {compare(predicted, reference).nmae:.3f} %', flush=True)
        for label, other in states.items():
            print(f'{size}³ against {label}: {compare(reference, other).nmae:.3f} %', flush=True)
        states[f'{size}³'] = reference
