"""Pseudo density and electrostatic potential of a prediction against GPAW's own routines.

    python docs/benchmarks/without_gpaw.py GEOMETRY MODEL ...

Prints the largest deviation, relative to the largest value, and seconds.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable

import numpy as np
from ase.io import read

from ase_deepdensity import DeepDensity
from ase_deepdensity.analysis.potential import electrostatic_potential
from ase_deepdensity.analysis.pseudo import pseudo_density
from ase_deepdensity.codes.gpaw import densities, potential
from ase_deepdensity.state import PAWDensity


def timed(function: Callable[[PAWDensity], np.ndarray], state: PAWDensity) -> tuple[np.ndarray, float]:
    """The result and the shortest of three times."""
    seconds = []
    for _ in range(3):
        start = time.perf_counter()
        result = function(state)
        seconds.append(time.perf_counter() - start)
    return result, min(seconds)


PAIRS = {
    'pseudo density': (pseudo_density, lambda state: densities.pseudo_densities(state, 1).sum(axis=0)),
    'electrostatic potential': (electrostatic_potential, potential.electrostatic_potential),
}

if __name__ == '__main__':
    geometry, *models = sys.argv[1:]
    for name in models:
        state = DeepDensity(name).predict(read(geometry))
        for quantity, (ours, gpaws) in PAIRS.items():
            (found, seconds), (expected, gpaw_seconds) = timed(ours, state), timed(gpaws, state)
            deviation = np.abs(found - expected).max() / np.abs(expected).max()
            print(f'{name}, {quantity}: {deviation:.1e}; {seconds:.2f} s, GPAW {gpaw_seconds:.2f} s')
