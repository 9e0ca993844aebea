"""Bands of predicted densities against self-consistent ones: no SCF cycle against GPAW's own.

    python docs/benchmarks/bands.py MODEL GEOMETRY [--path GXWKGL] [--npoints 20] [--more MODEL ...]

Prints a row of the table in docs/benchmarks.md for each model (all of one level).  GEOMETRY: "Al" for the primitive
cell, the name of a molecule that ASE knows (in a box with 4 Å on each side), or a file.  Without a path: at the Γ
point.  Eigenvalues are compared as they are, not shifted onto each other.
"""

from __future__ import annotations

import argparse
import warnings
from pathlib import Path

import numpy as np
from ase import Atoms
from ase.build import bulk, molecule
from ase.io import read
from gpaw.new.ase_interface import GPAW, ASECalculator

from ase_deepdensity import DensityModel, PAWDensity
from ase_deepdensity.analysis.compare import nmae
from ase_deepdensity.arguments import formula
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


def energies_of(calc: ASECalculator, path: str | None, npoints: int) -> np.ndarray:
    """(nspins, nkpts, nbands) eV, along a path or at the calculator's own k-points."""
    if path:
        return np.asarray(band_structure(calc, path, npoints, empty=2).energies)
    return np.array([[calc.get_eigenvalues()]])


def row(model: DensityModel, reference: ASECalculator, energy_skn: np.ndarray, path: str | None, npoints: int) -> str:
    """Of the table: how far the model's bands are from the reference's."""
    atoms, fermi = reference.atoms, reference.get_fermi_level()
    error_skn = 1000 * (energies_of(orbitals_of(model, atoms), path, npoints) - energy_skn)
    occupied_skn = energy_skn < fermi
    errors = error_skn[occupied_skn]
    above = error_skn[~occupied_skn & (energy_skn < fermi + 5)]
    state = PAWDensity.from_gpaw(reference)
    return (
        f'| `{model.name}` | {formula(atoms)}, {path or "Γ"} '
        f'| {nmae(Predictor(model).predict(atoms, state.grid), state):.2f} '
        f'| {np.sqrt((errors**2).mean()):.2f} | {abs(errors).max():.2f} | {errors.std():.2f} '
        f'| {np.sqrt((above**2).mean()) if len(above) else float("nan"):.2f} |'
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('model')
    parser.add_argument('geometry')
    parser.add_argument('--path')
    parser.add_argument('--npoints', type=int, default=20)
    parser.add_argument('--more', nargs='*', default=[], metavar='MODEL', help='against the same calculation')
    args = parser.parse_args()
    warnings.simplefilter('ignore')
    models = [DensityModel.load(name) for name in (args.model, *args.more)]
    if others := [model.name for model in models if model.level != models[0].level]:
        parser.error(f'{", ".join(others)}: of another level than {args.model}')
    atoms = geometry(args.geometry)
    atoms.calc = reference = GPAW(**physical(models[0].level), txt=None)
    atoms.get_potential_energy()
    energy_skn = energies_of(reference, args.path, args.npoints)
    for model in models:
        print(row(model, reference, energy_skn, args.path, args.npoints), flush=True)


if __name__ == '__main__':
    main()
