"""Starts side by side: the same calculation from GPAW's own start and from others, with iterations and times."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from ase import Atoms
from ase.units import Ha

from ase_deepdensity.codes.gpaw.seams import after_creation
from ase_deepdensity.scf.calculator import SeededGPAW

if TYPE_CHECKING:
    from gpaw.new.ase_interface import ASECalculator
    from gpaw.new.scf import SCFContext

    from ase_deepdensity.plot.figure import Picture


@dataclass
class Run:
    """One calculation, from its start to convergence."""

    label: str
    iterations: int = 0
    setup: float = 0.0
    """Seconds before the first iteration, without the inference."""
    inference: float = 0.0
    """Seconds for the prediction."""
    scf: float = 0.0
    """Seconds in the cycle."""
    cpu: float = 0.0
    """Seconds of this process, all together."""
    energy: float = 0.0
    """eV, extrapolated to zero temperature."""
    energies: list[float] = field(default_factory=list)
    """In each iteration, eV."""
    changes: list[float] = field(default_factory=list)
    """GPAW's measure of the density's change in each iteration, electrons per electron; infinite where unknown."""
    accepted: bool | None = None
    """Of a seed."""
    residual: float | None = None
    """Of a seed, when its density was let go; electrons per electron."""
    reason: str | None = None
    """Why a seed was not accepted; empty: it was."""

    @property
    def wall(self) -> float:
        """Seconds from the start of the calculation to convergence."""
        return self.setup + self.inference + self.scf

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON."""
        result = asdict(self) | {'wall': self.wall}
        return result | {'changes': [change if np.isfinite(change) else None for change in self.changes]}


def default_gpaw(**keywords: Any) -> ASECalculator:
    """GPAW's own calculator, which starts from a superposition of atoms."""
    from gpaw.new.ase_interface import GPAW

    calc: ASECalculator = GPAW(**keywords)
    return calc


def run(
    label: str, make: Callable[[], ASECalculator], atoms: Atoms, *, tell: Callable[[], object] = lambda: None
) -> tuple[Run, ASECalculator]:
    """Make a calculator, let it calculate ``atoms``, and record how that went.

    Parameters
    ----------
    tell
        Called after each iteration.
    """
    record = Run(label)
    cpu, start = time.process_time(), time.perf_counter()
    calc = make()
    first: list[float] = []

    def step(context: SCFContext) -> None:
        record.energies.append(float(context.energies.total_extrapolated) * Ha)
        record.changes.append(float(context.dens.error) / float(context.wfs.nvalence))
        tell()

    calc.hooks['scf_step'] = step
    after_creation(calc, lambda: first.append(time.perf_counter()))
    record.energy = float(calc.get_potential_energy(atoms))
    end = time.perf_counter()
    record.cpu = time.process_time() - cpu
    record.iterations = int(calc.get_number_of_iterations())
    if isinstance(calc, SeededGPAW) and calc.seed_report is not None:
        report = calc.seed_report
        record.inference, record.accepted, record.reason = report.seconds, report.accepted, report.reason
        record.residual = float(report.residual) if np.isfinite(report.residual) else None
    record.setup = first[0] - start - record.inference
    record.scf = end - first[0]
    return record, calc


def table(runs: list[Run]) -> str:
    """As text; differences are from the first."""
    reference = runs[0]
    header = f'{"start":12} {"iterations":>10} {"set-up/s":>9} {"inference/s":>11} {"SCF/s":>8} {"total/s":>8} '
    lines = [header + f'{"energy/eV":>14} {"ΔE/meV":>8}']
    lines += [
        f'{r.label:12} {r.iterations:10d} {r.setup:9.2f} {r.inference:11.3f} {r.scf:8.2f} {r.wall:8.2f} '
        f'{r.energy:14.6f} {(r.energy - reference.energy) * 1000:8.3f}'
        for r in runs
    ]
    return '\n'.join(lines)


def plot_convergence(runs: list[Run], tolerance: float = 1e-4) -> Picture:
    """The density's change in each iteration; what GPAW asks for is the dashed line."""
    from ase_deepdensity.plot.figure import Picture

    figure = Picture(figsize=(6, 4), layout='constrained')
    axes = figure.subplots()
    for record in runs:
        axes.semilogy(range(1, len(record.changes) + 1), record.changes, 'o-', label=record.label)
    axes.axhline(tolerance, color='0.5', linestyle='--')
    axes.set(xlabel='iteration', ylabel='change of the density / electrons per electron')
    axes.legend()
    return figure
