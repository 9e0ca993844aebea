"""What carrying and learning gain along trajectories and relaxations: prints a table of docs/benchmarks.md.

    OMP_NUM_THREADS=1 python docs/benchmarks/learning_runs.py CASE [--ways GPAW carry learn …] [--steps N] [--fs 0.5]

Iterations and seconds of processor time per step with forces, from the second step on, of GPAW going on from the step
before and of SeededGPAW in several ways, one after the other in one process; their ratios to the first way; the largest
difference of the energy from that of the first way, µeV/atom; and the drift of the total energy, µeV/atom/fs.
"""

from __future__ import annotations

import argparse
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms, units
from ase.build import add_adsorbate, bulk, fcc111, molecule
from ase.constraints import FixAtoms
from ase.io import read
from ase.md.velocitydistribution import Stationary, thermalize_momenta
from ase.md.verlet import VelocityVerlet
from ase.optimize import BFGS
from gpaw.new.ase_interface import GPAW

from ase_deepdensity import DensityModel, SeededGPAW

GEOMETRIES = Path(__file__).parent / 'geometries'


def hot(atoms: Atoms, kelvin: float) -> Atoms:
    """Displaced and moving as at that temperature."""
    rng = np.random.default_rng(0)
    thermalize_momenta(atoms, kelvin, rng=rng)
    Stationary(atoms)
    atoms.rattle(0.05, rng=rng)
    return atoms


def water() -> Atoms:
    """32 molecules, from the model's own sampling."""
    return hot(read(GEOMETRIES / 'water32.xyz'), 300)


def slab(repeat: int = 2) -> Atoms:
    """CO on top of an atom of Cu(111), two layers, of which one may move; one CO for ``repeat``² atoms."""
    atoms = fcc111('Cu', (repeat, repeat, 2), vacuum=5.0, periodic=True)
    add_adsorbate(atoms, molecule('CO'), 2.9, 'ontop')
    atoms.positions[-2:] = atoms.positions[-2:][::-1]  # carbon below
    atoms.set_constraint(FixAtoms(mask=atoms.get_tags() == 2))
    return atoms


CASES: dict[str, tuple[str, Callable[[], Atoms]]] = {
    'water': ('water-pbe-dzp', water),
    'water-pw': ('water-pbe-pw400', water),
    'water2': ('water-pbe-dzp', lambda: hot(read(GEOMETRIES / 'water2.xyz'), 300)),
    'water2-pw': ('water-pbe-pw400', lambda: hot(read(GEOMETRIES / 'water2.xyz'), 300)),
    'Si': ('general-pbe-pw400', lambda: hot(bulk('Si', cubic=True), 600)),
    'MgO': ('general-pbe-pw400', lambda: hot(bulk('MgO', 'rocksalt', a=4.25, cubic=True), 1000)),
    'CO': ('general-pbe-pw400', slab),
    'CO-small': ('general-pbe-pw400', lambda: slab(1)),
}
WAYS: dict[str, dict[str, Any]] = {
    'alone': {'carry': False},
    'carry': {},
    'learn': {'learn': True},
    'learn alone': {'learn': True, 'carry': False},
}


def walk(atoms: Atoms, calc: Any, steps: int, femtoseconds: float) -> dict[str, Any]:
    """Verlet, or with 0 fs BFGS."""
    atoms = atoms.copy()
    atoms.calc = calc
    atoms.get_forces()
    counts, energies = [], [atoms.get_potential_energy()]
    driver = VelocityVerlet(atoms, femtoseconds * units.fs) if femtoseconds else BFGS(atoms, logfile=None)
    seconds, totals = [], list[float]()
    for _ in range(steps):
        start = time.process_time()
        driver.run(1) if femtoseconds else driver.run(fmax=1e-4, steps=1)
        atoms.get_forces()
        seconds.append(time.process_time() - start)
        counts.append(calc.get_number_of_iterations())
        energies.append(atoms.get_potential_energy())
        totals.append(atoms.get_total_energy())
    drift = np.polyfit(np.arange(steps) * femtoseconds, totals, 1)[0] if femtoseconds and steps > 1 else float('nan')
    return {'iterations': counts, 'seconds': seconds, 'energies': energies, 'drift': drift}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('case', choices=CASES)
    parser.add_argument('--ways', nargs='+', default=['GPAW', 'carry', 'learn'], choices=['GPAW', *WAYS])
    parser.add_argument('--steps', type=int, default=6)
    parser.add_argument('--fs', type=float, default=0.5, help='of a step; 0: a relaxation')
    parser.add_argument('--model', help='file in place of the shipped model')
    args = parser.parse_args()
    warnings.simplefilter('ignore')
    name, make = CASES[args.case]
    model, atoms = DensityModel.load(args.model or name), make()
    keywords = model.level.general().keywords()
    first: dict[str, Any] = {}
    for way in args.ways:
        calc = GPAW(txt=None, **keywords) if way == 'GPAW' else SeededGPAW(model, txt=None, **keywords, **WAYS[way])
        found = walk(atoms, calc, args.steps, args.fs)
        first = first or found
        n, s = (np.array(found[key][1:]) for key in ('iterations', 'seconds'))
        n0, s0 = (np.array(first[key][1:]) for key in ('iterations', 'seconds'))
        error = max(abs(np.subtract(found['energies'], first['energies']))) / len(atoms)
        print(
            f'| {args.case} | {way} | {n.mean():.2f} | {n.mean() / n0.mean():.2f} | {s.mean():.1f} | '
            f'{s.mean() / s0.mean():.2f} | {1e6 * error:.1f} | {1e6 * found["drift"] / len(atoms):.2f} |  '
            f'# iterations {found["iterations"]}',
            flush=True,
        )
        if getattr(calc, '_learning', None):
            print('#', calc.learned, flush=True)


if __name__ == '__main__':
    main()
