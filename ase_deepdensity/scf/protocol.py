"""The first steps from a seed: how long its density is held, how it is mixed, and when it is given up.

A good density does not help orbitals that come from somewhere else: the first density built of them throws it away.  So
the seed is held while the eigensolver works at its potential, and after each step the state of the orbitals is compared
with it,

    r = ∫ |ñ_out − ñ_in| dr / electrons,    r_D = the largest natural occupation of |D_out − D_in| of any atom.

As long as r falls quickly it is the orbitals that are wrong; once it stays, it is the error of the seed, and mixing may
begin.  Where r falls below GPAW's own criterion, the seed is the answer.  Where the model's error bars expect a large
error, or the mixer is told how residuals answered in the cycles before (:mod:`.secants`), one step is enough.

A seed is refused for what it is (:mod:`.bounds`), for r or r_D, or because a step from it ends in an error.  Then
the loop begins anew with all that GPAW itself would have begun with (:mod:`.default_start`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from ase_deepdensity.scf.bounds import Bounds
from ase_deepdensity.scf.default_start import DefaultStart, State

if TYPE_CHECKING:
    from ase_deepdensity.scf.occupations import NaturalOccupations
    from ase_deepdensity.scf.secants import Secant


@dataclass(frozen=True)
class Protocol:
    """Figures of the first steps."""

    max_hold: int = 10
    """Eigensolver steps at the density of the seed, at most; 1 where the eigensolver is direct (LCAO)."""
    settled: float = 0.5
    """The residual has settled when a step leaves more than this fraction of it."""
    good_orbitals: float = 1e-4
    """Error of the orbitals, eV² per electron (GPAW's criterion ``eigenstates``), below which the first residual counts
    already."""
    refused: float = 0.05
    """Residual, electrons per electron, above which a seed is given up; a superposition of atoms has 0.15–0.3."""
    refused_atomic: float = 0.1
    """Natural occupation of |D_out − D_in| above which a seed is given up; a superposition of atoms has about 0.2."""
    beta_gap: float = 0.8
    """Share of the residual in the next density, where all bands are full or empty."""
    beta_metal: float = 0.25
    """The same where bands are partly filled: charge may slosh."""
    beta_spin: float = 0.5
    """The same with two spins, metal or not: magnetisation follows slowly with less, and with more the d electrons of
    oxides overshoot."""
    energy_share: float = 0.1
    """Where the density has converged and what is left of its residual changes the energy by less than this share of
    GPAW's tolerance, by the estimate of :meth:`.Residual.energy_error`, the energy has converged, too.  GPAW itself
    waits for three equal energies; 0: so does a seeded cycle."""
    worth: float = 1.0
    """Of the predicted change of the superposition of atoms; a seed whose expected error, where its model has error
    bars, is more than this is not used: it is likely to be no better.  Infinity: whatever is expected."""
    doubtful: float = 1.0
    """NMAE of ñ, %, that a model's error bars expect of a seed, from which on its density is held for one step only:
    orbitals that follow it closely are no closer to the truth.  Infinity: whatever is expected."""
    bounds: Bounds = field(default_factory=Bounds)
    """Beyond which a seed is no density at all."""

    def beta(self, metal: bool, nspins: int) -> float:
        """Share of the residual in the next density."""
        if nspins == 2:
            return self.beta_spin
        return self.beta_metal if metal else self.beta_gap


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
    expected: float = np.nan
    """NMAE of ñ that the model's error bars expected, %; NaN: it has none, or a correction was carried along."""
    superposition: float = np.nan
    """The same of the superposition of atoms if the prediction is right, %."""


@dataclass
class Start:
    """A seed on its way into a calculation."""

    report: SeedReport
    default: DefaultStart
    """What GPAW would have started from."""
    occupations: NaturalOccupations
    """Of this calculation's atoms."""
    protocol: Protocol = field(default_factory=Protocol)
    make_mixer: Callable[[float, int], Any] | None = None
    """β and how many secants it will be told of → a mixer; None: keep the one that is there."""
    beta: float | None = None
    """Share of the residual in the next density, from the last cycle of a trajectory; None: that of the protocol."""
    step: float | None = None
    """The same as this cycle would have had it: see :meth:`.secants.Secant.share`."""
    known: list[Secant] = field(default_factory=list)
    """How residuals answered in the cycles before, the newest first."""
    secants: list[Secant] = field(default_factory=list)
    """How they do in this one, likewise; no more than are remembered."""
    rest: State | None = None
    """What was left at its end: (ñ, D) of the orbitals minus those that they were made in."""
    untouched: bool = False
    """Density, potential and orbitals are GPAW's own: the seed was refused before it touched them."""

    def refuse(self, reason: str) -> None:
        self.report.accepted, self.report.reason = False, reason


class Hold:
    """How long a seed is kept."""

    def __init__(self, start: Start, direct: bool):
        self.start = start
        is_doubtful = start.report.expected >= start.protocol.doubtful
        self.max_hold = 1 if direct or is_doubtful or start.known else start.protocol.max_hold
        self.verdict = 'hold'
        self.residual = np.inf

    def judge(self, residual: float, atomic_residual: Callable[[], float], orbital_error: float = np.inf) -> None:
        """Sets ``verdict``: 'hold', 'release' or 'refuse'.

        Parameters
        ----------
        atomic_residual
            Called only where the residual is small enough, and thus finite.
        orbital_error
            Before the last step, eV² per electron.
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
        elif (
            report.held >= self.max_hold
            or residual > protocol.settled * before
            or orbital_error < protocol.good_orbitals
        ):
            self.verdict = 'release'

    def _refuse(self, reason: str) -> None:
        self.verdict = 'refuse'
        self.start.refuse(reason)
