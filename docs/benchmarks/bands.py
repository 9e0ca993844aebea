"""Bands of predicted densities against self-consistent ones: no SCF cycle against GPAW's own.

    python docs/benchmarks/bands.py MODEL GEOMETRY [--path GXWKGL] [--npoints 20]

Prints a row of the table in docs/benchmarks.md.  GEOMETRY: "Al" for the primitive cell, the name of a molecule that
ASE knows (in a box with 4 Å on each side), or a file.  Without a path: at the Γ point.  Eigenvalues are compared as
they are, not shifted onto each other.
"""

from __future__ import annotations

import argparse
import warnings
from pathlib import Path

import numpy as np
from ase import Atoms
from ase.build import bulk, molecule
from ase.io import read
from gpaw.new.ase_interface import GPAW

from ase_deepdensity import DensityModel, PAWDensity
from ase_deepdensity.analysis.compare import nmae
from ase_deepdensity.predict import Predictor
from ase_deepdensity.scf.calculator import physical
from ase_deepdensity.scf.orbitals import band_structure, orbitals_of


def geometry(name: str) -> Atoms:
    if Path(name).exists():
        return read(name)
    if name == 'Al':
        return bulk('Al')
    atoms = molecule(name, vacuum=4.0)
    atoms.pbc = True
    return atoms


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('model')
    parser.add_argument('geometry')
    parser.add_argument('--path')
    parser.add_argument('--npoints', type=int, default=20)
    args = parser.parse_args()
    warnings.simplefilter('ignore')
    model, atoms = DensityModel.load(args.model), geometry(args.geometry)
    predicted = orbitals_of(model, atoms)
    atoms.calc = reference = GPAW(**physical(model.level), txt=None)
    atoms.get_potential_energy()
    energies, fermi = [], []
    for calc in predicted, reference:
        fermi.append(calc.get_fermi_level())
        if args.path:
            energies.append(band_structure(calc, args.path, args.npoints, empty=2).energies)
        else:
            energies.append(np.array([[calc.get_eigenvalues()]]))
    occupied_skn = energies[1] < fermi[1]
    error_skn = 1000 * (energies[0] - energies[1])
    errors = error_skn[occupied_skn]
    above = error_skn[~occupied_skn & (energies[1] < fermi[1] + 5)]
    state = PAWDensity.from_gpaw(reference)
    print(
        f'| `{model.name}` | {atoms.symbols}, {args.path or "Γ"} '
        f'| {nmae(Predictor(model).predict(reference.atoms, state.grid), state):.2f} '
        f'| {np.sqrt((errors**2).mean()):.2f} | {abs(errors).max():.2f} | {errors.std():.2f} '
        f'| {np.sqrt((above**2).mean()) if len(above) else float("nan"):.2f} |'
    )


if __name__ == '__main__':
    main()
