"""How long should a seed be held whose model expects a large error?  Iterations with one step and with more.

    python docs/benchmarks/hold.py MODEL GEOMETRIES ...     (files in any format that ASE reads)

One line for each geometry: the expected NMAE, iterations where the density is held until its residual has settled, and
where it is held for one step, with the residual then (electrons per electron, %).
"""

from __future__ import annotations

import sys
import warnings

import numpy as np
from ase.io import read

from ase_deepdensity import DensityModel, SeededGPAW
from ase_deepdensity.predict import Predictor
from ase_deepdensity.scf.compare import run
from ase_deepdensity.scf.protocol import Protocol

PROTOCOLS = Protocol(worth=np.inf, doubtful=np.inf), Protocol(worth=np.inf, max_hold=1)
"""Until it has settled, and for one step."""


def main(name: str, *files: str) -> None:
    """All geometries of some files."""
    warnings.simplefilter('ignore')
    model = DensityModel.load(name)
    predictor = Predictor(model, extrapolate=True)
    parameters = model.level.general().keywords()
    for atoms in (atoms for file in files for atoms in read(file, ':')):
        expected = predictor.expected_error(predictor.coefficients(atoms)).nmae
        line = f'{atoms.symbols!s:20} expected {expected:5.2f} %'
        for protocol in PROTOCOLS:
            record, _ = run(
                'seed', lambda p=protocol: SeededGPAW(model, txt=None, protocol=p, **parameters), atoms.copy()
            )
            residual = np.nan if record.residual is None else record.residual
            refused = '' if record.accepted else ' (refused)'
            line += f' | {record.iterations:3} iterations, residual {100 * residual:.2f} %{refused}'
        print(line, flush=True)


if __name__ == '__main__':
    main(*sys.argv[1:])
