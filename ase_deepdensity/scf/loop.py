"""GPAW's loop, whose first iterations are those of a seed as long as that is good."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from gpaw import KohnShamConvergenceError
from gpaw.mpi import broadcast_float
from gpaw.new.scf import SCFContext, SCFLoop

from ase_deepdensity.codes.gpaw import seams
from ase_deepdensity.scf.bounds import described, may_be_refused
from ase_deepdensity.scf.default_start import State
from ase_deepdensity.scf.protocol import Hold, Start
from ase_deepdensity.scf.secants import DEPTH, Secant, teach

if TYPE_CHECKING:
    from gpaw.mpi import MPIComm
    from gpaw.new.density import Density
    from gpaw.new.ibzwfs import IBZWaveFunctions

    from ase_deepdensity.scf.occupations import NaturalOccupations


class SeededLoop(SCFLoop):
    """GPAW's loop; a start that it is given decides about the first iterations."""

    start: Start | None = None
    energy_error: Callable[[SCFContext], float] | None = None
    """Estimates what the residual changes of the energy, eV; None: it is not asked for."""
    kept = False
    """The state is that of one pass at a seed, not a self-consistent one."""

    @classmethod
    def of(cls, loop: SCFLoop) -> SeededLoop:
        """A loop that GPAW has made, as one of this class."""
        return seams.loop_of_class(cls, loop)

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
        potential, energies = start.default.put(ibzwfs, density)
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
        mixer, hold, criteria = self.mixer, Hold(start, direct=ibzwfs.mode == 'lcao'), dict(self.convergence)
        before: Output | None = None
        try:
            for context in iterations:
                found = Output(density, ibzwfs, self.mixer, self.comm)
                seams.report_change(context, found.change)
                if before is not None:
                    start.secants = [found.since(before), *start.secants[: DEPTH - 1]]
                    start.step = start.step or start.secants[0].share(density, self.comm)
                if hold.verdict == 'hold':
                    self._decide(hold, found, context, ibzwfs, log)
                else:
                    if not self._density_is_converged(context):
                        found.take_next()
                        # orbitals that still converge may take the density with them once more
                        self.update_density_and_potential = True
                        seams.set_criteria(self, criteria)
                start.rest = found.difference
                if hold.verdict == 'release' and self._density_is_converged(context):
                    self._keep_density(start, context, density)
                before = found if self.update_density_and_potential else None
                yield context
                if hold.verdict == 'refuse':
                    return
        except KohnShamConvergenceError as error:
            start.refuse(described(error))
        except Exception as error:
            if self.comm.size > 1 or not may_be_refused(error):  # other ranks may be waiting for this one
                raise
            start.refuse(described(error))
        finally:
            self.mixer = mixer
            self.update_density_and_potential = True
            seams.update_as_usual(density)
            seams.set_criteria(self, criteria)

    def _density_is_converged(self, context: SCFContext) -> bool:
        """Then only the eigenstates are left to be converged, for which the potential may stay."""
        return 'density' in self.convergence and self._is_met('density', context)

    def _is_met(self, name: str, context: SCFContext) -> bool:
        """Of a criterion that may be asked twice: it has no memory."""
        return bool(self.convergence[name](context)[0])  # type: ignore[operator]

    def _keep_density(self, start: Start, context: SCFContext, density: Density) -> None:
        """From now on only the eigenstates change, and the energy if it is not known well enough."""
        self.update_density_and_potential = False
        seams.update_as_usual(density)
        if 'eigenstates' in self.convergence and not self._is_met('eigenstates', context):
            return  # another iteration comes in any case, whose residual will be the one that forces need
        tolerance = seams.energy_tolerance(self, context)
        if tolerance is None or self.energy_error is None or not start.protocol.energy_share:
            return
        if abs(self.energy_error(context)) <= start.protocol.energy_share * tolerance:
            seams.set_criteria(self, self.convergence | {'energy': seams.Met(self.convergence['energy'])})

    def _decide(
        self, hold: Hold, found: Output, context: SCFContext, ibzwfs: IBZWaveFunctions[Any], log: Callable[..., None]
    ) -> None:
        """Judge the seed after one more eigensolver step; the loop then updates the density, or does not."""
        start = hold.start
        hold.judge(found.residual, lambda: found.atomic_residual(start.occupations), seams.orbital_error(context))
        self.update_density_and_potential = hold.verdict == 'release'
        if hold.verdict == 'release':
            start.default.free_memory()
            if start.make_mixer is not None:
                metal = is_metal(ibzwfs)
                beta = start.protocol.beta(metal, ibzwfs.nspins)
                if start.known or not metal:
                    beta = start.beta or beta
                self.mixer = start.make_mixer(beta, len(start.known))
                teach(self.mixer, context.density, found.difference, start.known)
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
        change = seams.density_change(density, self.difference.nt_sR, self.difference.D_asii, mixer)
        self.change = float(broadcast_float(change, comm))
        """What GPAW's density criterion looks at, electrons."""

    def atomic_residual(self, occupations: NaturalOccupations) -> float:
        """Largest natural occupation of |D_out − D_in|, electrons."""
        lowest, highest = occupations.extremes(self.difference.D_asii)
        return float(broadcast_float(max(-lowest, highest), self.comm))

    def since(self, before: Output) -> Secant:
        """What has changed."""
        dr = self.difference.minus(before.difference)
        return Secant(self.state.minus(before.state).minus(dr), dr)

    def take_next(self) -> None:
        """Spare the loop the calculation of this density."""
        seams.on_next_update(self.density, lambda *_, **__: self.state.put(self.density))


def _silent(*args: Any) -> None:
    """A log that nobody reads."""


def is_metal(ibzwfs: IBZWaveFunctions[Any]) -> bool:
    """Are bands partly filled?  More than 10⁻³ of an electron per electron."""
    partly = sum(wfs.weight * float((wfs.occ_n * (1 - wfs.occ_n)).sum()) for wfs in ibzwfs)
    full = sum(wfs.weight * float(wfs.occ_n.sum()) for wfs in ibzwfs)
    return bool(ibzwfs.kpt_comm.sum_scalar(partly) > 1e-3 * ibzwfs.kpt_comm.sum_scalar(full))


def _short(mixer: Any) -> str:
    beta = getattr(mixer, 'beta', None)
    return type(mixer).__name__ + ('' if beta is None else f', β = {beta:g}')
