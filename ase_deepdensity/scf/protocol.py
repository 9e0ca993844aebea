"""The first steps from a seed: how long its density is held, how it is mixed, and when it is given up.

A good density does not help orbitals that come from somewhere else: the first density built of them throws it away.  So
the seed is held while the eigensolver works at its potential, and after each step the density of the orbitals is
compared with it,

    r = ∫ |ñ_out − ñ_in| dr / electrons.

As long as r falls quickly it is the orbitals that are wrong; once it stays, it is the error of the seed, and mixing may
begin.  Where r falls below GPAW's own criterion, the seed is the answer.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from gpaw.mpi import broadcast_float
from gpaw.new.scf import SCFContext, SCFLoop

if TYPE_CHECKING:
    from gpaw.core.atom_arrays import AtomArrays
    from gpaw.mpi import MPIComm
    from gpaw.new.density import Density
    from gpaw.new.ibzwfs import IBZWaveFunctions


@dataclass(frozen=True)
class Protocol:
    """Figures of the first steps."""

    max_hold: int = 10
    """Eigensolver steps at the density of the seed, at most; 1 where the eigensolver is direct (LCAO)."""
    settled: float = 0.5
    """The residual has settled when a step leaves more than this fraction of it."""
    refused: float = 0.05
    """Residual, electrons per electron, above which a seed is given up; a superposition of atoms has 0.15–0.3."""
    beta_gap: float = 0.8
    """Share of the residual in the next density, where all bands are full or empty."""
    beta_metal: float = 0.25
    """The same where bands are partly filled: charge may slosh."""


@dataclass
class SeedReport:
    """How a start went."""

    name: str
    """Where it came from."""
    seconds: float
    """For the prediction, on this rank."""
    residual: float = np.nan
    """‖ñ_out − ñ_in‖ per electron when the density was let go."""
    held: int = 0
    """Iterations at the density of the seed."""
    accepted: bool = True
    """False: the calculation went on from GPAW's own start."""


@dataclass
class State:
    """ñ and D of this rank, in GPAW's units and layout: a copy of what a density held, or a difference of two."""

    nt_sR: np.ndarray
    D_asii: AtomArrays

    @classmethod
    def of(cls, density: Density) -> State:
        return cls(density.nt_sR.data.copy(), density.D_asii.copy())

    def put(self, density: Density) -> None:
        density.nt_sR.data[:] = self.nt_sR
        density.D_asii.data[:] = self.D_asii.data

    def add_to(self, density: Density) -> None:
        """Add it to a density whose atoms may have gone to other ranks meanwhile."""
        density.nt_sR.data += self.nt_sR
        density.D_asii.data += self.D_asii.moved(density.D_asii.layout.atomdist).data

    def minus(self, other: State) -> State:
        return State(self.nt_sR - other.nt_sR, self.D_asii.new(data=self.D_asii.data - other.D_asii.data))

    def electrons(self, density: Density) -> float:
        """∫ |ñ| dr over the whole grid."""
        grid = density.nt_sR.desc
        return float(grid.comm.sum_scalar(float(np.abs(self.nt_sR).sum())) * grid.dv)


@dataclass
class Start:
    """A seed on its way into a calculation."""

    report: SeedReport
    default: State
    """What GPAW would have started from."""
    make_mixer: Callable[[float], Any] | None
    """β → a mixer; None: keep the one that is there."""
    protocol: Protocol = field(default_factory=Protocol)


class SeededLoop(SCFLoop):
    """GPAW's loop; a start that it is given decides about the first iterations."""

    start: Start | None = None

    @classmethod
    def of(cls, loop: SCFLoop) -> SeededLoop:
        seeded = cls.__new__(cls)
        seeded.__dict__.update(loop.__dict__)
        return seeded

    def iterate(  # type: ignore[no-untyped-def]
        self, ibzwfs, density, potential, energies, pot_calc, *, log=None, **kwargs
    ) -> Iterator[SCFContext]:
        iterations = super().iterate(ibzwfs, density, potential, energies, pot_calc, log=log, **kwargs)
        start, self.start = self.start, None
        if start is None or not self.update_density_and_potential:
            yield from iterations
            return
        hold = Hold(start, direct=ibzwfs.mode == 'lcao')
        try:
            for context in iterations:
                if hold.verdict == 'refuse':
                    yield context
                    continue
                found = Output(density, ibzwfs, self.mixer, self.comm)
                context.dens.error = found.change
                context.dens.fixed = False
                if hold.verdict == 'hold':
                    self._decide(hold, found, density, ibzwfs, log or (lambda *args: None))
                else:
                    self.update_density_and_potential = not self._density_is_converged(context)
                    if self.update_density_and_potential:
                        found.take_next()
                yield context
        finally:
            self.update_density_and_potential = True

    def _density_is_converged(self, context: SCFContext) -> bool:
        """Then only the eigenstates are left to be converged, for which the potential may stay."""
        criterion = self.convergence.get('density')
        return criterion is not None and bool(criterion(context)[0])  # type: ignore[operator]

    def _decide(
        self, hold: Hold, found: Output, density: Density, ibzwfs: IBZWaveFunctions[Any], log: Callable[..., None]
    ) -> None:
        """Judge the seed after one more eigensolver step; the loop then updates the density, or does not."""
        start = hold.start
        hold.judge(found.residual)
        self.update_density_and_potential = hold.verdict != 'hold'
        if hold.verdict == 'refuse':
            log(f'seed refused: residual {found.residual:.2e} electrons per electron; GPAW goes on from its own start')
            update_once(density, start.default)
            self.mixer.reset()
        elif hold.verdict == 'release':
            if start.make_mixer is not None:
                beta = start.protocol.beta_metal if is_metal(ibzwfs) else start.protocol.beta_gap
                self.mixer = start.make_mixer(beta)
                self.mixer.mix(density)
            log(f'seed accepted: residual {found.residual:.2e} electrons per electron; mixer: {_short(self.mixer)}')
            found.take_next()


class Output:
    """The density of the orbitals as they are; the density that they were made in stays where it is."""

    def __init__(self, density: Density, ibzwfs: IBZWaveFunctions[Any], mixer: Any, comm: MPIComm):
        self.density = density
        before = State.of(density)
        density.update(ibzwfs)
        self.state = State.of(density)
        before.put(density)
        difference = self.state.minus(before)
        self.residual = broadcast_float(difference.electrons(density) / (density.nvalence - density.charge), comm)
        """∫ |ñ_out − ñ_in| per electron."""
        self.change = broadcast_float(_change(difference, density, mixer), comm)
        """What GPAW's density criterion looks at, electrons."""

    def take_next(self) -> None:
        """Spare the loop the calculation of this density."""
        update_once(self.density, self.state)


def _change(difference: State, density: Density, mixer: Any) -> float:
    """GPAW's measure of a change: with the compensation charges on the grid."""
    nt_sR = density.nt_sR.new(data=difference.nt_sR)
    return float(mixer.calculate_charge_sloshing(mixer.add_compensation_charge(nt_sR, difference.D_asii, density)))


class Hold:
    """How long a seed is kept."""

    def __init__(self, start: Start, direct: bool):
        self.start = start
        self.max_hold = 1 if direct else start.protocol.max_hold
        self.verdict = 'hold'
        self.residual = np.inf

    def judge(self, residual: float) -> None:
        """Sets ``verdict``: 'hold', 'release' or 'refuse'."""
        protocol, report = self.start.protocol, self.start.report
        before, self.residual = self.residual, residual
        report.held += 1
        report.residual = residual
        if not residual < protocol.refused:
            self.verdict, report.accepted = 'refuse', False
        elif report.held >= self.max_hold or residual > protocol.settled * before:
            self.verdict = 'release'


def is_metal(ibzwfs: IBZWaveFunctions[Any]) -> bool:
    """Are bands partly filled?  More than 10⁻³ of an electron per electron."""
    partly = sum(wfs.weight * float((wfs.occ_n * (1 - wfs.occ_n)).sum()) for wfs in ibzwfs)
    full = sum(wfs.weight * float(wfs.occ_n.sum()) for wfs in ibzwfs)
    return bool(ibzwfs.kpt_comm.sum_scalar(partly) > 1e-3 * ibzwfs.kpt_comm.sum_scalar(full))


def update_once(density: Density, state: State) -> None:
    """Let the next ``density.update(...)`` bring this state, which is known already."""

    def update(*args: Any, **kwargs: Any) -> None:
        del density.update
        state.put(density)

    density.update = update  # type: ignore[method-assign]


def _short(mixer: Any) -> str:
    beta = getattr(mixer, 'beta', None)
    return type(mixer).__name__ + ('' if beta is None else f', β = {beta:g}')
