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
    from gpaw.new.density import Density
    from gpaw.new.ibzwfs import IBZWaveFunctions


@dataclass(frozen=True)
class Protocol:
    """Figures of the first steps."""

    max_hold: int = 10
    """Eigensolver steps at the density of the seed, at most; 1 where the eigensolver is direct (LCAO)."""
    settled: float = 0.7
    """The residual has settled when a step leaves more than this fraction of it."""
    refused: float = 0.1
    """Residual, electrons per electron, above which a seed is given up; that of a superposition of atoms is 0.15–0.3."""
    beta_gap: float = 0.7
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
    """ñ and D of this rank, in GPAW's units and layout: a copy of what a density held."""

    nt_sR: np.ndarray
    D_asii: np.ndarray

    @classmethod
    def of(cls, density: Density) -> State:
        return cls(density.nt_sR.data.copy(), density.D_asii.data.copy())

    def put(self, density: Density) -> None:
        density.nt_sR.data[:] = self.nt_sR
        density.D_asii.data[:] = self.D_asii

    def minus(self, other: State) -> State:
        return State(self.nt_sR - other.nt_sR, self.D_asii - other.D_asii)

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
        hold = Hold(start, density, direct=ibzwfs.mode == 'lcao')
        try:
            for context in iterations:
                if hold.active:
                    self._one_held(context, hold, ibzwfs, density, log or (lambda *args: None))
                yield context
        finally:
            self.update_density_and_potential = True

    def _one_held(
        self,
        context: SCFContext,
        hold: Hold,
        ibzwfs: IBZWaveFunctions,
        density: Density,
        log: Callable[..., None],
    ) -> None:
        """Judge the seed after one more eigensolver step; the loop then updates the density, or does not."""
        start = hold.start
        verdict = hold.judge(ibzwfs, self.comm)
        context.dens.error = hold.residual * context.wfs.nvalence
        context.dens.fixed = False
        self.update_density_and_potential = verdict != 'hold'
        if verdict == 'refuse':
            log(f'seed refused: residual {hold.residual:.2e} electrons per electron; going on from the default start')
            _update_once(density, start.default)
            self.mixer.reset()
        elif verdict == 'release':
            if start.make_mixer is not None:
                beta = start.protocol.beta_metal if is_metal(ibzwfs) else start.protocol.beta_gap
                self.mixer = start.make_mixer(beta)
                self.mixer.mix(density)
            log(f'seed accepted: residual {hold.residual:.2e} electrons per electron; mixer: {_short(self.mixer)}')
            _update_once(density, hold.output)


class Hold:
    """The seed's density while it is held, and what its orbitals say of it."""

    def __init__(self, start: Start, density: Density, direct: bool):
        self.start = start
        self.density = density
        self.max_hold = 1 if direct else start.protocol.max_hold
        self.input = State.of(density)
        self.output = self.input
        self.residual = np.inf
        self.active = True

    def judge(self, ibzwfs: IBZWaveFunctions, comm: Any) -> str:
        """'hold', 'release' or 'refuse', the same on all ranks."""
        density, protocol, report = self.density, self.start.protocol, self.start.report
        before = self.residual
        density.update(ibzwfs)
        self.output = State.of(density)
        self.input.put(density)
        residual = self.output.minus(self.input).electrons(density) / (density.nvalence - density.charge)
        self.residual = broadcast_float(residual, comm)
        report.held += 1
        report.residual = self.residual
        if not self.residual < protocol.refused:
            verdict = 'refuse'
        elif report.held >= self.max_hold or self.residual > protocol.settled * before:
            verdict = 'release'
        else:
            return 'hold'
        self.active, report.accepted = False, verdict == 'release'
        return verdict


def is_metal(ibzwfs: IBZWaveFunctions) -> bool:
    """Are bands partly filled?  More than 10⁻³ of an electron per electron."""
    partly = sum(wfs.weight * float((wfs.occ_n * (1 - wfs.occ_n)).sum()) for wfs in ibzwfs)
    full = sum(wfs.weight * float(wfs.occ_n.sum()) for wfs in ibzwfs)
    return bool(ibzwfs.kpt_comm.sum_scalar(partly) > 1e-3 * ibzwfs.kpt_comm.sum_scalar(full))


def _update_once(density: Density, state: State) -> None:
    """Let the next ``density.update(...)`` bring this state, which is known already."""

    def update(*args: Any, **kwargs: Any) -> None:
        del density.update
        state.put(density)

    density.update = update


def _short(mixer: Any) -> str:
    beta = getattr(mixer, 'beta', None)
    return type(mixer).__name__ + ('' if beta is None else f', β = {beta:g}')
