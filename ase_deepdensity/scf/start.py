"""The seed in GPAW's density: put there at the moment when the potential of the first density is calculated.

That moment is the same for a new calculation, moved atoms and another cell: GPAW's own density is complete, and nothing
has been made of it yet.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

from ase import Atoms
from gpaw.mpi import broadcast

from ase_deepdensity.checks import PredictionError
from ase_deepdensity.codes.gpaw import seams
from ase_deepdensity.scf.bounds import described, may_be_refused
from ase_deepdensity.scf.carried_orbitals import CarriedOrbitals
from ase_deepdensity.scf.default_start import DefaultStart, State
from ase_deepdensity.scf.history import DEPTH, History
from ase_deepdensity.scf.occupations import NaturalOccupations
from ase_deepdensity.scf.protocol import Protocol, SeedReport, Start
from ase_deepdensity.scf.secants import DEPTH as SECANTS
from ase_deepdensity.scf.secants import Secant, add_next_step
from ase_deepdensity.scf.seed import Seed, SeedError, with_moments

if TYPE_CHECKING:
    from gpaw.new.builder import DFTComponentsBuilder
    from gpaw.new.calculation import DFT
    from gpaw.new.density import Density
    from gpaw.new.energies import DFTEnergies
    from gpaw.new.potential import Potential


DAMPING = 0.5
"""Of a residual where no cycle has told what is best."""


class Starter:
    """Lets calculations start from a seed, and remembers how the last one did."""

    builder: DFTComponentsBuilder
    """Of the calculation at hand."""

    def __init__(self, seed: Seed, protocol: Protocol, log: Callable[..., None]):
        self.seed, self.protocol, self.log = seed, protocol, log
        self.report: SeedReport | None = None
        self.start: Start | None = None
        """Of the calculation at hand; None: the seed has not been asked yet."""
        self.history = History()
        """Of the trajectory: empty where nothing is carried."""
        self.orbitals = CarriedOrbitals(DEPTH - 1)
        self._secants: list[Secant] = []
        self._predicted: State | None = None
        self.complete = True
        """The last seed knew the magnetisation too, if there is one."""

    def use(self, builder: DFTComponentsBuilder) -> None:
        """Take on the components of a new calculation."""
        self.builder = builder
        self._moment_a = builder.initial_magmom_av[:, 2].copy() if builder.ncomponents == 2 else None
        self._occupations = NaturalOccupations(builder.setups)

    def told(self, atoms: Atoms) -> Atoms:
        """A copy with the initial moments of the calculation at hand, wherever these come from."""
        return with_moments(atoms, self._moment_a)

    def seed_next_potential(self, pot_calc: Any, atoms: Atoms, dft: DFT | None = None) -> Callable[[], None]:
        """Let the density be replaced by the seed when its potential is calculated; returns what calls that off.

        Parameters
        ----------
        dft
            The calculation whose atoms are moved; default: a new one.
        """
        beta = None if dft is None or self.start is None else self.start.step or self.start.beta
        self.start = None

        def default_potential(density: Density) -> tuple[Potential, DFTEnergies]:
            """As GPAW calculates it from a density without a history."""
            if dft is not None:
                return pot_calc.calculate(density, dft.ibzwfs)[:2]
            return pot_calc.calculate_without_orbitals(density, kpt_band_comm=self.builder.communicators['D'])[:2]

        def calculate_from_seed(calculate: Callable[..., Any], density: Density, *args: Any, **kwargs: Any) -> Any:
            default = DefaultStart(State.of(density), lambda: default_potential(density))
            relpos_ac = self.builder.relpos_ac if dft is None else dft.relpos_ac
            start = self.start = Start(SeedReport(self.seed.name), default, self._occupations, self.protocol)
            start.beta, start.known = beta, self._secants
            if not seams.is_given(self.builder.params, 'mixer'):
                start.make_mixer = partial(seams.create_pulay_mixer, self.builder, density, relpos_ac)
            self._begin(start, density, atoms, pot_calc.charge)
            try:
                return calculate(density, *args, **kwargs)
            except Exception as error:
                if not self.refuse(error):
                    raise
                start.default.density.put(density)
                return calculate(density, *args, **kwargs)

        return seams.on_next_potential(pot_calc, calculate_from_seed)

    def refuse(self, error: Exception) -> bool:
        """Give a seed up whose first potential, or what was made of it, ended in an error; False: it is not the seed's.

        Not under MPI, where other ranks may be waiting for this one.
        """
        if self.start is None or self.start.untouched or not may_be_refused(error):
            return False
        if self.builder.communicators['w'].size > 1:
            return False
        self.start.refuse(described(error))
        return True

    def remember(self, dft: DFT, atoms: Atoms) -> None:
        """Note what the cycle that has just ended for these atoms has added to the prediction.

        Nothing where that was of the total only: the magnetisation of the moved density holds its part already.
        """
        if self._predicted is None or not dft.results or not self.complete:
            self.forget()
        else:
            self.history.add(atoms, self._predicted, self._converged(dft))
            self.orbitals.remember(dft.ibzwfs)
        self._secants = self._all_secants()

    def forget(self) -> None:
        """What comes next is no step of the same trajectory."""
        self.history.clear()
        self.orbitals.clear()
        self._secants = []

    def keep_orbitals(self, dft: DFT, *, moved: bool = False) -> None:
        """As they are, for as long as a seed is on trial; those that have ``moved`` with the atoms then go further."""
        if self.start is None or self.start.untouched:
            return
        self.start.default.orbitals = orbitals = seams.Orbitals(dft.ibzwfs)
        if moved:
            self.orbitals.extrapolate(dft.ibzwfs, orbitals, self.history.b_k)

    def _converged(self, dft: DFT) -> State:
        """What the last cycle came to, and one step further: its residual is known, and would count several times."""
        state = State.of(dft.density)
        if self.start is not None and self.start.report.accepted and self.start.rest is not None:
            share = self.start.step or DAMPING
            add_next_step(state, self.start.rest, self._all_secants(), share, dft.density)
        return state

    def _all_secants(self) -> list[Secant]:
        """Of the cycle at hand, unless its seed was refused, and those before."""
        own = self.start.secants if self.start is not None and self.start.report.accepted else []
        return [*own, *self._secants][:SECANTS]

    def predict_again(self, dft: DFT, atoms: Atoms) -> None:
        """The seed's model has changed: note what it says of the cycle that has just ended, and of those before."""

        def predict(some: Atoms) -> State | None:
            before = State.of(dft.density)
            try:
                self._predict(dft.density, some, dft.pot_calc.charge)
                self._symmetrize(dft.density, dft.pot_calc.charge)
            except SeedError:
                return None
            else:
                return State.of(dft.density)
            finally:
                before.put(dft.density)

        if self._predicted is not None:
            self._predicted = predict(atoms)
        self.history.predict_again(predict)

    def _begin(self, start: Start, density: Density, atoms: Atoms, background_charge: float) -> None:
        """Put the seed, and what the last cycle has corrected, into GPAW's density, with the calculation's symmetry.

        Where that is no density of atoms, GPAW's own stays.
        """
        begin = time.perf_counter()
        report = self.report = start.report
        try:
            self._fill(density, atoms, background_charge, start.default.density, report)
        except SeedError as error:
            start.refuse(str(error))
            start.untouched = True
            start.default.density.put(density)
        report.seconds = time.perf_counter() - begin
        self.log(
            f'\nSeed: ñ and D of the {self.seed.name}{_carried(len(self.history))}'
            f'{"" if self.complete else ", with the magnetisation of GPAW"}, '
            f'level of theory {self.seed.level.name or "unnamed"}, in {report.seconds:.3f} s\n'
            + _weighed(report)
            + (f"seed refused: {report.reason}; GPAW's own start is taken\n" if start.untouched else '')
        )

    def _fill(
        self, density: Density, atoms: Atoms, background_charge: float, default: State, report: SeedReport
    ) -> None:
        """The seed as GPAW's density.

        Raises
        ------
        SeedError
            On all ranks, where there is no seed, where it is no density, or likely to be a worse one than the default.
        """
        self._predicted = None
        self._check_charge(density.nvalence - density.charge)
        factor = self._predict(density, atoms, background_charge)
        if violation := self.protocol.bounds.violation(density, default, factor, self._occupations):
            raise SeedError(violation)
        if not len(self.history):  # what is carried along makes it better than its model knows
            self._weigh(density, atoms, default, report)
        self._symmetrize(density, background_charge)  # not before the verdict, from which it would hide much
        self._predicted = State.of(density)
        if len(self.history):
            self.history.add_correction(density)
            density.normalize(background_charge)

    def _check_charge(self, electrons: float) -> None:
        charge = float(self.builder.params.charge)
        if abs(charge - self.seed.charge) > self.protocol.bounds.charge * electrons:
            raise SeedError(
                f'it is for a charge of {self.seed.charge:g} |e|, not {charge:g}, of {electrons:g} electrons'
            )

    def _weigh(self, density: Density, atoms: Atoms, default: State, report: SeedReport) -> None:
        """Is the seed worth it?  Its expected error against the change that it predicts, both noted down.

        Raises
        ------
        SeedError
            On all ranks, where it is not.
        """
        world, expected = self.builder.communicators['w'], None
        if world.rank == 0:
            try:
                expected = self.seed.expected_error(self.told(atoms))
            except PredictionError:  # whatever it was did not keep the seed from being evaluated
                expected = None
        (expected,) = broadcast((expected,) if world.rank == 0 else None, 0, comm=world)
        if expected is None:
            return
        electrons = float(expected.error_a.sum())
        change = State.of(density).minus(default).total_electrons(density)
        report.expected, report.superposition = expected.nmae, 100 * change / expected.electrons
        if not electrons <= self.protocol.worth * change:
            raise SeedError('its density is not expected to be closer than a superposition of atoms')

    def _predict(self, density: Density, atoms: Atoms, background_charge: float) -> float:
        """Put what the seed says into a density, normalised; returns the factor that its own charge asks for."""
        self.complete = self.seed.fill(density, self.told(atoms), self.builder.communicators['D'])
        integral = _integral(density)
        density.normalize(background_charge + float(self.builder.params.charge) - self.seed.charge)
        factor = _integral(density) / integral if integral else float('inf')
        density.normalize(background_charge)
        return factor

    def _symmetrize(self, density: Density, background_charge: float) -> None:
        symmetries = self.builder.ibz.symmetries
        if len(symmetries) > 1:
            density.symmetrize(symmetries)
            density.normalize(background_charge)


def _weighed(report: SeedReport) -> str:
    """For the log: what was expected before the start, and what was decided."""
    if not report.expected >= 0:
        return ''
    decision = 'the seed is used' if report.accepted else 'the seed is not used'
    return (
        f'expected before the start: NMAE {report.expected:.2g} % of the seed, {report.superposition:.2g} % of the '
        f'superposition of atoms; {decision}\n'
    )


def _carried(number: int) -> str:
    """For the log: from how many steps a correction comes."""
    if not number:
        return ''
    return ' and the last correction' if number == 1 else f' and a correction from the last {number} steps'


def _integral(density: Density) -> float:
    """∫ ñ dr."""
    return float(density.nt_sR[: density.ndensities].integrate().sum())
