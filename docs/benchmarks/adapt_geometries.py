"""Molecules that shipped models were not trained on, GFN2-xTB dynamics at 400 K (needs tblite).

    python docs/benchmarks/adapt_geometries.py H2O2 8 H2O2.xyz

Of H and O: hydrogen peroxide (H2O2) and hydrogen trioxide (H2O3).  With C and N: nitrous oxide (N2O), isocyanic acid
(HNCO) and methanimine (CH2NH).
"""

from __future__ import annotations

import sys

import numpy as np
from ase import Atoms
from ase.build import molecule
from ase.io import write
from ase.optimize import BFGS
from tblite.ase import TBLite

from ase_deepdensity.sampling.geometries import ORGANIC_TIMESTEP, langevin

ROUGH = {
    'HNCO': ('HNCO', [(-0.6, 0.8, 0), (0, 0, 0), (1.2, 0, 0), (2.4, 0.05, 0)]),
    'CH2NH': ('CNHHH', [(0, 0, 0), (1.27, 0, 0), (-0.55, 0.93, 0), (-0.55, -0.93, 0), (1.7, 0.9, 0)]),
    'H2O3': ('OOOHH', [(0, 0, 0), (1.43, 0, 0), (1.83, 1.37, 0), (-0.3, -0.5, 0.8), (2.3, 1.2, -0.85)]),
}
"""Å; they are relaxed first."""


def main(name: str, number: str, out: str) -> None:
    atoms = Atoms(*ROUGH[name]) if name in ROUGH else molecule(name)
    atoms.calc = TBLite(method='GFN2-xTB', verbosity=0)
    BFGS(atoms, logfile=None).run(fmax=0.05, steps=200)
    rng = np.random.default_rng(sum(name.encode()))
    frames = []
    for moved in langevin(atoms, atoms.calc, ORGANIC_TIMESTEP, rng, 400.0, 0.3, 0.2):
        moved.center(vacuum=4.0)
        moved.pbc = True
        frames.append(moved.copy())
        if len(frames) == int(number):
            break
    write(out, frames)


if __name__ == '__main__':
    main(*sys.argv[1:])
