"""The first steps from a seed: how long its density is held, how it is mixed, and when it is given up.

A good density does not help orbitals that come from somewhere else: the first density built of them throws it away.  So
the seed is held while the eigensolver works at its potential, and after each step the state of the orbitals is compared
with it,

    r = ∫ |ñ_out − ñ_in| dr / electrons,    r_D = the largest natural occupation of |D_out − D_in| of any atom.

As long as r falls quickly it is the orbitals that are wrong; once it stays, it is the error of the seed, and mixing may
begin.  Where r falls below GPAW's own criterion, the seed is the answer.

A seed is refused for what it is (:mod:`.plausible`), for r or r_D, or because a step from it ends in an error.  Then
the loop begins anew with all that GPAW itself would have begun with (:mod:`.own_start`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from gpaw import KohnShamConvergenceError
from gpaw.mpi import broadcast_float
from gpaw.new.scf import SCFContext, SCFLoop

from ase_deepdensity.scf.own_start import OwnStart, State
from ase_deepdensity.scf.plausible import Bounds, described

if TYPE_CHECKING:
    from gpaw.mpi import MPIComm
    from gpaw.new.density import Density
    from gpaw.new.ibzwfs import IBZWaveFunctions

    from ase_deepdensity.scf.occupations import NaturalOccupations


@dataclass(frozen=True)
class Protocol:
    """Figures of the first steps."""

    max_hold: int = 10
    """Eigensolver steps at the density of the seed, at most; 1 where the eigensolver is direct (LCAO)."""
    settled: float = 0.5
    """The residual has settled when a step leaves more than this fraction of it."""
    refused: float = 0.05
    """Residual, electrons per electron, above which a seed is given up; a superposition of atoms has 0.15–0.3."""
    refused_atomic: float = 0.1
    """Natural occupation of |D_out − D_in| above which a seed is given up; a superposition of atoms has about 0.2."""
    beta_gap: float = 0.8
    """Share of the residual in the next density, where all bands are full or empty."""
    beta_metal: float = 0.25
    """The same where bands are partly filled: charge may slosh."""
    bounds: Bounds = field(default_factory=Bounds)
    """Beyond which a seed is no density at all."""


@dataclass
class SeedReport:
    """How a start went."""

    name: str
    """Where it came from."""
    seconds: float = 0.0
    """For the prediction, on this rank."""
    residual: float = np.nan
    """‖ñ_out − ñ_in‖ per electron when the density was let go."""
    held: int = 0
    """Iterations at the density of the seed."""
    accepted: bool = True
    """False: the calculation went on from GPAW's own start."""
    reason: str = ''
    """Why it was not accepted."""
    atomic_residual: float = np.nan
    """Largest natural occupation of |D_out − D_in|, electrons, when the density was let go."""


@dataclass
class Start:
    """A seed on its way into a calculation."""

    report: SeedReport
    own: OwnStart
    """What GPAW would have started from."""
    make_mixer: Callable[[float], Any] | None
    """β → a mixer; None: keep the one that is there."""
    occupations: NaturalOccupations
    """Of this calculation's atoms."""
    protocol: Protocol = field(default_factory=Protocol)
    untouched: bool = False
    """Density, potential and orbitals are GPAW's own: the seed was refused before it touched them."""

    def refuse(self, reason: str) -> None:
        self.report.accepted, self.report.reason = False, reason


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
        if start is None or start.untouched or not self.update_density_and_potential:
            yield from iterations
            return
        self.niter = 0
        if start.report.accepted:
            yield from self._trial(start, iterations, density, ibzwfs, log or _silent)
        if start.report.accepted:
            return
        (log or _silent)(f'seed refused: {start.report.reason}; GPAW goes on from its own start\n')
        potential, energies = start.own.put(ibzwfs, density)
        for criterion in self.convergence.values():
            criterion.reset()
        spent = self.niter
        for context in super().iterate(ibzwfs, density, potential, energies, pot_calc, log=log, **kwargs):
            context.niter += spent
            yield context
        self.niter += spent

    def _trial(
        self,
        start: Start,
        iterations: Iterator[SCFContext],
        density: Density,
        ibzwfs: IBZWaveFunctions[Any],
        log: Callable[..., None],
    ) -> Iterator[SCFContext]:
        """Iterations from the seed: all, or those until it is refused.

        GPAW's own mixer is what it was afterwards.
        """
        mixer, hold = self.mixer, Hold(start, direct=ibzwfs.mode == 'lcao')
        try:
            for context in iterations:
                found = Output(density, ibzwfs, self.mixer, self.comm)
                context.dens.error = found.change
                context.dens.fixed = False
                if hold.verdict == 'hold':
                    self._decide(hold, found, density, ibzwfs, log)
                else:
                    self.update_density_and_potential = not self._density_is_converged(context)
                    if self.update_density_and_potential:
                        found.take_next()
                yield context
                if hold.verdict == 'refuse':
                    return
        except KohnShamConvergenceError as error:
            start.refuse(described(error))
        except Exception as error:
            if self.comm.size > 1:
                raise  # other ranks may be waiting for this one
            start.refuse(described(error))
        finally:
            self.mixer = mixer
            self.update_density_and_potential = True
            density.__dict__.pop('update', None)

    def _density_is_converged(self, context: SCFContext) -> bool:
        """Then only the eigenstates are left to be converged, for which the potential may stay."""
        criterion = self.convergence.get('density')
        return criterion is not None and bool(criterion(context)[0])  # type: ignore[operator]

    def _decide(
        self, hold: Hold, found: Output, density: Density, ibzwfs: IBZWaveFunctions[Any], log: Callable[..., None]
    ) -> None:
        """Judge the seed after one more eigensolver step; the loop then updates the density, or does not."""
        start = hold.start
        hold.judge(found.residual, lambda: found.atomic_residual(start.occupations))
        self.update_density_and_potential = hold.verdict == 'release'
        if hold.verdict == 'release':
            start.own.free_memory()
            if start.make_mixer is not None:
                beta = start.protocol.beta_metal if is_metal(ibzwfs) else start.protocol.beta_gap
                self.mixer = start.make_mixer(beta)
                self.mixer.mix(density)
            log(f'seed accepted: residual {found.residual:.2e} electrons per electron; mixer: {_short(self.mixer)}')
            found.take_next()


class Output:
    """The density of the orbitals as they are; the density that they were made in stays where it is."""

    def __init__(
        self,
        density: Density,
        ibzwfs: IBZWaveFunctions[Any],
        mixer: Any,
        comm: MPIComm,
    ):
        self.density, self.comm = density, comm
        before = State.of(density)
        density.update(ibzwfs)
        self.state = State.of(density)
        before.put(density)
        self.difference = self.state.minus(before)
        residual = self.difference.electrons(density) / (density.nvalence - density.charge)
        self.residual = float(broadcast_float(residual, comm))
        """∫ |ñ_out − ñ_in| per electron."""
        self.change = float(broadcast_float(_change(self.difference, density, mixer), comm))
        """What GPAW's density criterion looks at, electrons."""

    def atomic_residual(self, occupations: NaturalOccupations) -> float:
        """Largest natural occupation of |D_out − D_in|, electrons."""
        lowest, highest = occupations.extremes(self.difference.D_asii)
        return float(broadcast_float(max(-lowest, highest), self.comm))

    def take_next(self) -> None:
        """Spare the loop the calculation of this density."""
        update_once(self.density, self.state)


def _change(difference: State, density: Density, mixer: Any) -> float:
    """GPAW's measure of a change: with the compensation charges on the grid."""
    nt_sR = density.nt_sR.new(data=difference.nt_sR)
    return float(mixer.calculate_charge_sloshing(mixer.add_compensation_charge(nt_sR, difference.D_asii, density)))


def _silent(*args: Any) -> None:
    """A log that nobody reads."""


class Hold:
    """How long a seed is kept."""

    def __init__(self, start: Start, direct: bool):
        self.start = start
        self.max_hold = 1 if direct else start.protocol.max_hold
        self.verdict = 'hold'
        self.residual = np.inf

    def judge(self, residual: float, atomic_residual: Callable[[], float]) -> None:
        """Sets ``verdict``: 'hold', 'release' or 'refuse'.

        Parameters
        ----------
        atomic_residual
            Called only where the residual is small enough, and thus finite.
        """
        protocol, report = self.start.protocol, self.start.report
        before, self.residual = self.residual, residual
        report.held += 1
        report.residual = residual
        if residual < protocol.refused:
            report.atomic_residual = atomic_residual()
        if not residual < protocol.refused:
            self._refuse(f'residual {residual:.2e} electrons per electron')
        elif not report.atomic_residual < protocol.refused_atomic:
            self._refuse(f'residual {report.atomic_residual:.2e} electrons in the density matrix of an atom')
        elif report.held >= self.max_hold or residual > protocol.settled * before:
            self.verdict = 'release'

    def _refuse(self, reason: str) -> None:
        self.verdict = 'refuse'
        self.start.refuse(reason)


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
