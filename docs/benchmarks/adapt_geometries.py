"""Molecules of H, C, N and O that ``organics-pbe-pw400`` was not trained on, GFN2-xTB dynamics at 400 K (needs tblite).

    python docs/benchmarks/adapt_geometries.py N2O 6 N2O.xyz

Nitrous oxide, and isocyanic acid, methanimine, diazene and acrolein, which ASE's G2 lacks.
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
    'N2H2': ('NNHH', [(0, 0, 0), (1.25, 0, 0), (-0.35, 0.98, 0), (1.6, -0.98, 0)]),
    'acrolein': (
        'CCCOHHHH',
        [(0, 0, 0), (1.34, 0, 0), (2.1, 1.25, 0), (3.3, 1.25, 0), (-0.55, 0.93, 0), (-0.55, -0.93, 0), (1.9, -0.93, 0),
         (1.55, 2.2, 0)],
    ),
}  # fmt: skip
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
