"""Seeds at other levels of theory than the model's own: prints a table of docs/benchmarks.md.

    OMP_NUM_THREADS=1 python docs/benchmarks/levels.py [--only WORD ...] [--model NAME]

Rattled ethanol; for each level GPAW's own start and the start from the model, one after the other in one process, with
GPAW's default mixer for the first.  Times are CPU seconds of the whole calculation, inference included.
"""

from __future__ import annotations

import argparse
import warnings
from typing import Any

import numpy as np
from ase.build import molecule

from ase_deepdensity import DensityModel, SeededGPAW
from ase_deepdensity.predict import Predictor
from ase_deepdensity.scf.compare import default_gpaw, run

PW400: dict[str, Any] = {'mode': {'name': 'pw', 'ecut': 400}, 'xc': 'PBE'}
LEVELS: dict[str, dict[str, Any]] = {
    'PW(400) PBE': PW400,
    'PW(300) PBE': PW400 | {'mode': {'name': 'pw', 'ecut': 300}},
    'PW(350) PBE': PW400 | {'mode': {'name': 'pw', 'ecut': 350}},
    'PW(550) PBE': PW400 | {'mode': {'name': 'pw', 'ecut': 550}},
    'LCAO dzp PBE': {'mode': 'lcao', 'basis': 'dzp', 'xc': 'PBE'},
    'FD PBE': {'mode': 'fd', 'xc': 'PBE'},
    'PW(400) RPBE': PW400 | {'xc': 'RPBE'},
    'PW(400) revPBE': PW400 | {'xc': 'revPBE'},
    'PW(400) LDA': PW400 | {'xc': 'LDA'},
    'PW(400) PBE, 0.1 eV': PW400 | {'occupations': {'name': 'fermi-dirac', 'width': 0.1}},
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--only', nargs='*', default=[], metavar='WORD', help='levels whose name holds one of these')
    parser.add_argument('--model', default='organics-pbe-pw400')
    args = parser.parse_args()
    warnings.simplefilter('ignore')
    atoms = molecule('CH3CH2OH')
    atoms.center(vacuum=3)
    atoms.rattle(0.05, rng=np.random.default_rng(1))
    model = DensityModel.load(args.model)
    Predictor(model).predict(atoms)  # kernels are compiled or loaded once for all
    print('| level | iterations, default / seeded | share of the CPU time | ΔE, meV | residual of the seed |')
    print('|---|---|---|---|---|')
    for name, parameters in LEVELS.items():
        if args.only and not any(word in name for word in args.only):
            continue
        default, _ = run('default', lambda p=parameters: default_gpaw(txt=None, **p), atoms)
        seeded, _ = run('seeded', lambda p=parameters: SeededGPAW(model, txt=None, **p), atoms)
        refused = '' if seeded.accepted else f', refused: {seeded.reason}'
        print(
            f'| {name} | {default.iterations} / {seeded.iterations}{refused} | {seeded.cpu / default.cpu:.2f} '
            f'| {1000 * (seeded.energy - default.energy):.3f} | {seeded.residual or np.nan:.4f} |',
            flush=True,
        )


if __name__ == '__main__':
    main()
