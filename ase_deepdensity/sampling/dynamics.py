"""Molecular dynamics of any atoms with any calculator of ASE's."""

from __future__ import annotations

import importlib
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from ase import Atoms
from ase.calculators.calculator import BaseCalculator
from ase.units import kB

from ase_deepdensity.arguments import did_you_mean, formula, real
from ase_deepdensity.sampling.geometries import check_dynamics, langevin

CALCULATORS: dict[str, tuple[str, str, dict[str, Any]]] = {
    'EMT': ('ase.calculators.emt', 'EMT', {}),
    'tblite': ('tblite.ase', 'TBLite', {'method': 'GFN2-xTB', 'verbosity': 0}),
    'chgnet': ('chgnet.model.dynamics', 'CHGNetCalculator', {'use_device': 'cpu'}),
    'mace': ('mace.calculators', 'mace_mp', {'model': 'small', 'default_dtype': 'float64', 'device': 'cpu'}),
}
"""Names for what is often used: module, what to call there, and with which arguments."""
HOT = 20.0
"""Times the temperature asked for, at which a dynamics has blown up."""


def calculator(name: str) -> BaseCalculator:
    """A calculator by a name of :data:`CALCULATORS`, or by its import path, ``package.module:Class``, no arguments.

    Raises
    ------
    ValueError
        No such name, module or class, or one that is no calculator.
    ImportError
        A package that a name needs is not installed.
    """
    if name in CALCULATORS:
        module, attribute, arguments = CALCULATORS[name]
        try:
            made: BaseCalculator = getattr(importlib.import_module(module), attribute)(**arguments)
        except ModuleNotFoundError as error:
            raise ImportError(f'the calculator {name} needs {error.name}, which is not installed') from error
        return made
    module, colon, attribute = name.partition(':')
    if not colon:
        names = ', '.join(CALCULATORS)
        raise ValueError(
            f'a calculator is {names} or an import path such as ase.calculators.lj:LennardJones, not {name!r}'
            f'{did_you_mean(name, CALCULATORS)}'
        )
    try:
        made = getattr(importlib.import_module(module), attribute)()
    except (ImportError, AttributeError, TypeError, ValueError) as error:
        raise ValueError(f'calculator {name}: {error}') from error
    if not hasattr(made, 'get_forces'):
        raise ValueError(f'calculator {name}: a {type(made).__name__} is no calculator of ASE, it has no get_forces')
    return made


def dynamics(
    frames: Sequence[Atoms],
    calculator_name: str,
    *,
    seed: int = 0,
    temperature: float = 300.0,
    equilibration: float = 1.0,
    interval: float = 0.1,
    timestep: float = 1.0,
) -> Iterator[Atoms]:
    """Snapshots of Langevin dynamics that begins at each of ``frames``, one of each in turn, without end.

    Parameters
    ----------
    calculator_name
        See :func:`calculator`; each start has one of its own.
    temperature
        Of the thermostat, K.
    equilibration, interval
        Before the first snapshot and between two, ps.
    timestep
        fs.

    Raises
    ------
    ValueError
        Numbers out of bounds, a calculator that does not know the elements, atoms that fly apart.
    """
    real('timestep', timestep, above=0, most=20, unit='fs')
    check_dynamics(seed, temperature, equilibration, interval, timestep)
    if not frames:
        raise ValueError('there are no geometries to begin with')
    times = temperature, equilibration, interval
    rng = np.random.default_rng(seed)
    runs = [
        _run(atoms, calculator(calculator_name), calculator_name, timestep, child, times)
        for atoms, child in zip(frames, rng.spawn(len(frames)), strict=True)
    ]
    return (next(run) for _ in iter(int, 1) for run in runs)


def _run(
    start: Atoms,
    calc: BaseCalculator,
    name: str,
    timestep: float,
    rng: np.random.Generator,
    times: tuple[float, float, float],
) -> Iterator[Atoms]:
    """One trajectory; charges stay."""
    atoms = start.copy()
    atoms.set_constraint()
    atoms.calc = calc
    try:
        atoms.get_forces()
    except Exception as error:
        raise ValueError(f'{name} cannot calculate {formula(start)}: {type(error).__name__}: {error}') from error
    info = {'kind': 'dynamics'} | {key: value for key, value in start.info.items() if key == 'charge'}
    for snapshot in langevin(atoms, calc, timestep, rng, *times):
        found = 2 * atoms.get_kinetic_energy() / (3 * len(atoms) * kB)
        if not (np.isfinite(snapshot.positions).all() and found < HOT * max(times[0], 100.0)):
            raise ValueError(
                f'the dynamics of {formula(start)} with {name} has blown up ({found:.3g} K); a shorter --timestep '
                f'than {timestep:g} fs, a lower temperature or a better start may help'
            )
        snapshot.info |= info
        yield snapshot
