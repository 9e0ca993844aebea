"""What a model for magnetic atoms is worth: its errors, and the iterations of GPAW that it saves.

    OMP_NUM_THREADS=1 python docs/benchmarks/magnetic.py MODEL DATASET... [--only FORMULA...] [--errors]

For each snapshot: NMAE of ñ and of its magnetisation, the moment of the cell or, of antiferromagnets, of the first atom
(reference and prediction), and the iterations of the reference calculation, which began from GPAW's own start, beside
those of the same calculation seeded with the model; the difference of their energies.
"""

from __future__ import annotations

import argparse
import warnings

from ase_deepdensity import SeededGPAW
from ase_deepdensity.analysis.compare import compare
from ase_deepdensity.dataset import Dataset, Snapshot
from ase_deepdensity.model import DensityModel
from ase_deepdensity.predict import Predictor
from ase_deepdensity.state import PAWDensity

SMALL = 0.01
"""μB: a cell of less is an antiferromagnet."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('model')
    parser.add_argument('dataset', nargs='+')
    parser.add_argument('--only', nargs='+', help='formulas')
    parser.add_argument('--errors', action='store_true', help='no GPAW')
    args = parser.parse_args()
    warnings.simplefilter('ignore')
    model = DensityModel.load(args.model)
    predictor = Predictor(model)
    print('formula, atoms: NMAE of ñ, of m, %; moments, μB; iterations, energies, eV', flush=True)
    for snapshot in Dataset(args.dataset):
        formula = snapshot.atoms.get_chemical_formula()
        if not args.only or formula in args.only:
            starts = '' if args.errors else seeded(model, snapshot)
            print(f'{formula:8s} {errors(predictor, snapshot)}{starts}', flush=True)


def errors(predictor: Predictor, snapshot: Snapshot) -> str:
    """Of the prediction on the grid of the snapshot."""
    reference = snapshot.density
    predicted = predictor.predict(snapshot.atoms, reference.grid)
    found = compare(predicted, reference)
    here, there = moment(predicted, reference), moment(reference, reference)
    return f'{found.nmae:6.3f} {found.magnetisation_nmae:6.2f}   {there:6.3f} {here:6.3f}'


def moment(density: PAWDensity, reference: PAWDensity) -> float:
    """Of the cell, where that of the reference is not zero; or else of the first atom."""
    total = abs(reference.magnetic_moment()) > SMALL
    return float(density.magnetic_moment() if total else density.magnetic_moments()[0])


def seeded(model: DensityModel, snapshot: Snapshot) -> str:
    """Iterations from GPAW's own start and from the model."""
    atoms = snapshot.atoms.copy()
    atoms.calc = calc = SeededGPAW(model, txt=None, **snapshot.level.general().keywords())
    difference = atoms.get_potential_energy() - snapshot.energy
    report = calc.seed_report
    refused = '' if report.accepted else f' (refused: {report.reason})'
    return f'   {snapshot.niter:3d} {calc.get_number_of_iterations():3d}{refused}   {difference:9.6f}'


if __name__ == '__main__':
    main()
