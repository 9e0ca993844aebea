"""Would another mixer serve seeds better that are expected to be close, or far off?  Iterations with several mixers.

    python docs/benchmarks/mixers.py MODEL GEOMETRIES ... [--only N ...]     (files in any format that ASE reads)

One line for each geometry: the expected NMAE, the residual of the seed when its density was let go (electrons per
electron, %), and the iterations of plane-wave calculations with each mixer.  Each begins with the seed, held as usual.
"""

from __future__ import annotations

import argparse
import warnings
from functools import partial
from typing import Any

from ase.io import read

from ase_deepdensity import DensityModel, SeededGPAW
from ase_deepdensity.predict import Predictor
from ase_deepdensity.scf.compare import run
from ase_deepdensity.scf.loop import is_metal
from ase_deepdensity.scf.protocol import Protocol

PROTOCOL = Protocol(worth=float('inf'))
SHARES = {'all': (1.0, 0.5), 'half': (0.5, 0.12)}
"""Of the residual in the next density, with a gap and of metals, in place of 0.8 and 0.25."""
OTHERS: dict[str, dict[str, Any]] = {
    'two densities': {'nmaxold': 2},
    'five densities': {'nmaxold': 5},
    'plain metric': {'weight': 1.0},
    'long waves count more': {'weight': 100.0},
}
"""Changes of the usual mixer: Pulay's, ten old densities, residuals of the longest waves counting 20 times."""


def mixers(metal: bool) -> dict[str, dict[str, Any]]:
    """What GPAW's mixer is made of, by name."""
    usual = {'name': 'pulay', 'beta': PROTOCOL.beta(metal, nspins=1), 'nmaxold': 10}
    return {name: usual | {'beta': share[metal]} for name, share in SHARES.items()} | {
        name: usual | changes for name, changes in OTHERS.items()
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('model')
    parser.add_argument('files', nargs='+')
    parser.add_argument('--only', nargs='+', type=int, help='these of the geometries, counted from 0')
    args = parser.parse_args()
    warnings.simplefilter('ignore')
    model = DensityModel.load(args.model)
    predictor = Predictor(model, extrapolate=True)
    parameters = model.level.general().keywords()
    frames = [atoms for file in args.files for atoms in read(file, ':')]
    for atoms in frames if args.only is None else [frames[n] for n in args.only]:
        expected = predictor.expected_error(predictor.coefficients(atoms)).nmae
        make = partial(SeededGPAW, model, txt=None, protocol=PROTOCOL, **parameters)
        usual, calc = run('usual', make, atoms.copy())
        metal = is_metal(calc.dft.ibzwfs)
        counts = [f'usual {usual.iterations}']
        for name, mixer in mixers(metal).items():
            counts.append(f'{name} {run(name, partial(make, mixer=mixer), atoms.copy())[0].iterations}')
        print(
            f'{atoms.symbols!s:12} {"metal" if metal else "gap":5} expected {expected:5.2f} %, residual '
            f'{100 * (usual.residual or float("nan")):5.2f} %: {", ".join(counts)}',
            flush=True,
        )


if __name__ == '__main__':
    main()
