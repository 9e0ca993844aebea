"""Starts of GPAW side by side, one core: prints the tables of docs/benchmarks.md and writes seeding.json.

    OMP_NUM_THREADS=1 python docs/benchmarks/seeding.py [--only NAME ...] [--model NAME=PATH ...] [--dynamics STEPS]

For each system, on the same machine and in one process: GPAW's own start with the mixer that is best for it, the start
from the model, the start from the converged state (the oracle), and one pass with forces.  Wall times count from the
start of the calculation to convergence, inference included.  Nothing else should run meanwhile.
"""

from __future__ import annotations

import argparse
import json
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms, units
from ase.io import read
from ase.md.velocitydistribution import Stationary, thermalize_momenta
from ase.md.verlet import VelocityVerlet
from ase.optimize import BFGS
from gpaw.new.ase_interface import GPAW

from ase_deepdensity import DensityModel, OnePassGPAW, PAWDensity, SeededGPAW
from ase_deepdensity.model import ModelError
from ase_deepdensity.predict import Predictor
from ase_deepdensity.scf.compare import run

HERE = Path(__file__).parent
GEOMETRIES = HERE / 'geometries'
MIXERS: list[dict[str, Any]] = [{}, {'beta': 0.25}, {'name': 'pulay', 'beta': 0.4}]
"""What GPAW's own start is tried with, on the first geometry of a system; the fastest is used for all."""


@dataclass(frozen=True)
class System:
    name: str
    geometry: str
    model: str


SYSTEMS = [
    System('32 H2O, dzp', 'water32.xyz', 'water-pbe-dzp'),
    System('64 H2O, dzp', 'water64.xyz', 'water-pbe-dzp'),
    System('32 H2O, pw400', 'water32.xyz', 'water-pbe-pw400'),
    System('32 Al, pw400', 'aluminium32.xyz', 'aluminium-pbe-pw400'),
    System('molecules, pw400', 'molecules.xyz', 'organics-pbe-pw400'),
]


def main() -> None:
    args = _arguments()
    paths = dict(argument.split('=', 1) for argument in args.model)
    warnings.simplefilter('ignore')
    results: dict[str, Any] = {}
    for system in SYSTEMS:
        if args.only and not any(word in system.name for word in args.only):
            continue
        try:
            model = DensityModel.load(paths.get(system.model, system.model))
        except ModelError as error:
            print(f'{system.name}: left out ({error})', flush=True)
            continue
        results[system.name] = measure(system, model, args.frames)
        args.out.write_text(json.dumps(results, indent=1) + '\n')
    if args.dynamics:
        model = DensityModel.load(paths.get('water-pbe-dzp', 'water-pbe-dzp'))
        atoms = read(GEOMETRIES / 'water32.xyz')
        results['dynamics'] = dynamics(model, atoms, min(args.dynamics, 10))
        results['relaxation'] = relaxation(model, atoms)
        results['drift'] = drift(model, read(GEOMETRIES / 'water2.xyz'), args.dynamics)
        args.out.write_text(json.dumps(results, indent=1) + '\n')
    print_tables(results)


def frames(system: System) -> list[Atoms]:
    return read(GEOMETRIES / system.geometry, ':')


def measure(system: System, model: DensityModel, number: int | None) -> list[dict[str, Any]]:
    """For each geometry: the three starts and one pass."""
    parameters = model.level.general().keywords()
    all_frames = frames(system)[:number]
    Predictor(model).predict(all_frames[0])  # kernels are compiled or loaded once for all
    trials = {
        i: run('default', lambda m=m: GPAW(txt=None, **parameters | {'mixer': m}), all_frames[0])
        for i, m in enumerate(MIXERS)
    }
    best = min(trials, key=lambda i: trials[i][0].wall)
    print(f'{system.name}: best mixer for the default start {MIXERS[best]}', flush=True)
    rows = []
    for i, atoms in enumerate(all_frames):
        default, calc = (
            trials[best]
            if i == 0
            else run('default', lambda: GPAW(txt=None, **parameters | {'mixer': MIXERS[best]}), atoms)
        )
        forces_av, seconds = timed(calc.get_forces)
        state = PAWDensity.from_gpaw(calc)
        seeded, calc = run('seeded', lambda: SeededGPAW(model, txt=None, **parameters), atoms)
        seeded_av = calc.get_forces()
        oracle, _ = run('oracle', lambda state=state: SeededGPAW(state, txt=None, **parameters), atoms)
        one, calc = run('one pass', lambda: OnePassGPAW(model, until={}, txt=None, **parameters), atoms)
        one_av, one_seconds = timed(calc.get_forces)
        rows.append(
            {record.label: record.to_dict() for record in (default, seeded, oracle, one)}
            | {
                'atoms': len(atoms),
                'mixer': MIXERS[best],
                'eta': (default.wall - seeded.wall) / (default.wall - oracle.wall),
                'forces of the seeded run, RMS difference, eV/Å': rms(seeded_av - forces_av),
                'forces of one pass, RMS error, eV/Å': rms(one_av - forces_av),
                'seconds of forces': [seconds, one_seconds],
                'residual of one pass': calc.report.residual,
            }
        )
        print(row(system.name, rows[-1]), flush=True)
    return rows


def dynamics(model: DensityModel, atoms: Atoms, steps: int) -> dict[str, Any]:
    """Iterations and seconds per step of 0.5 and 1 fs."""
    return {
        f'{label}, {femtoseconds} fs': reported(label, verlet(make(), atoms, femtoseconds, steps))
        for femtoseconds in (0.5, 1.0)
        for label, make in calculators(model).items()
    }


def drift(model: DensityModel, atoms: Atoms, steps: int) -> dict[str, Any]:
    """Of the total energy, over many steps of 0.5 fs."""
    makers = calculators(model)
    return {label: reported(label, verlet(makers[label](), atoms, 0.5, steps)) for label in ('GPAW', 'one pass')}


def calculators(model: DensityModel) -> dict[str, Callable[[], Any]]:
    parameters = model.level.general().keywords()
    return {
        'GPAW': lambda: GPAW(txt=None, **parameters),
        'seeded': lambda: SeededGPAW(model, txt=None, **parameters),
        'seeded, nothing carried': lambda: SeededGPAW(model, txt=None, carry=False, **parameters),
        'one pass': lambda: OnePassGPAW(model, until={}, txt=None, **parameters),
    }


def reported(label: str, r: dict[str, Any]) -> dict[str, Any]:
    print(label, {key: r[key] for key in list(r)[:3]}, flush=True)
    return r


def verlet(calc: Any, atoms: Atoms, femtoseconds: float, steps: int) -> dict[str, Any]:
    atoms = atoms.copy()
    thermalize_momenta(atoms, 300, rng=np.random.default_rng(0))
    Stationary(atoms)
    atoms.calc = calc
    atoms.get_forces()
    counts: list[int] = []
    totals: list[float] = [atoms.get_total_energy()]
    integrator = VelocityVerlet(atoms, femtoseconds * units.fs)
    start = time.perf_counter()
    for _ in range(steps):
        integrator.run(1)
        counts.append(int(calc.get_number_of_iterations()))
        totals.append(float(atoms.get_total_energy()))
    seconds = (time.perf_counter() - start) / steps
    drift = float(np.polyfit(np.arange(len(totals)) * femtoseconds, totals, 1)[0]) if steps > 1 else 0.0
    return {
        'iterations per step': float(np.mean(counts)),
        'seconds per step': seconds,
        'drift, µeV/atom/fs': drift * 1e6 / len(atoms),
        'total energy, eV': totals,
    }


def relaxation(model: DensityModel, atoms: Atoms, steps: int = 8) -> dict[str, float]:
    """Iterations per BFGS step, after the first."""
    result = {}
    for label in 'GPAW', 'seeded':
        calc = calculators(model)[label]()
        moving = atoms.copy()
        moving.calc = calc
        counts: list[int] = []
        optimizer = BFGS(moving, logfile=None)
        optimizer.attach(lambda calc=calc, counts=counts: counts.append(calc.get_number_of_iterations()))
        optimizer.run(fmax=1e-3, steps=steps)
        result[label] = float(np.mean(counts[1:]))
    return result


def timed(function: Any) -> tuple[Any, float]:
    start = time.perf_counter()
    return function(), time.perf_counter() - start


def rms(x: np.ndarray) -> float:
    return float(np.sqrt((x**2).mean()))


HEADER = (
    '| system | iterations: default / seeded / oracle | seconds: default / seeded / oracle | seeded/default | η '
    '| inference, % of default SCF | ΔE seeded, meV '
    '| one pass: ΔE, meV/atom; force error, eV/Å; seconds with forces |\n'
    '|---|---|---|---|---|---|---|---|'
)


def row(name: str, r: dict[str, Any]) -> str:
    default, seeded, oracle, one = (r[label] for label in ('default', 'seeded', 'oracle', 'one pass'))
    return ' | '.join(
        [
            f'| {name}',
            f'{default["iterations"]} / {seeded["iterations"]} / {oracle["iterations"]}',
            f'{default["wall"]:.1f} / {seeded["wall"]:.1f} / {oracle["wall"]:.1f}',
            f'{seeded["wall"] / default["wall"]:.2f}',
            f'{r["eta"]:.2f}',
            f'{100 * seeded["inference"] / default["scf"]:.1f}',
            f'{1000 * (seeded["energy"] - default["energy"]):.3f}',
            f'{1000 * (one["energy"] - default["energy"]) / r["atoms"]:.3f}; '
            f'{r["forces of one pass, RMS error, eV/Å"]:.4f}; {one["wall"] + r["seconds of forces"][1]:.1f} '
            f'(default {default["wall"] + r["seconds of forces"][0]:.1f}) |',
        ]
    )


def print_tables(results: dict[str, Any]) -> None:
    print(HEADER)
    for name, rows in results.items():
        if isinstance(rows, list):
            for r in rows:
                print(row(name, r))
    for label, r in (results.get('dynamics', {}) | results.get('drift', {})).items():
        print(f'| {label} | ' + ' | '.join(f'{r[key]:.2f}' for key in list(r)[:3]) + ' |')
    print(results.get('relaxation', ''))


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--only', nargs='*', default=[], help='systems whose name holds one of these words')
    parser.add_argument(
        '--model', nargs='*', default=[], metavar='NAME=PATH', help='model files in place of shipped ones'
    )
    parser.add_argument('--frames', type=int, help='geometries of each system')
    parser.add_argument('--dynamics', type=int, default=0, metavar='STEPS', help='of the longest, 0.5 fs each; 0: none')
    parser.add_argument('--out', type=Path, default=HERE / 'seeding.json')
    return parser.parse_args()


if __name__ == '__main__':
    main()
