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

from ase_deepdensity.codes.gpaw import seams
from ase_deepdensity.scf.bounds import described, may_be_refused
from ase_deepdensity.scf.default_start import DefaultStart, State
from ase_deepdensity.scf.occupations import NaturalOccupations
from ase_deepdensity.scf.protocol import Protocol, SeedReport, Start
from ase_deepdensity.scf.seed import Seed, SeedError, with_moments

if TYPE_CHECKING:
    from gpaw.new.builder import DFTComponentsBuilder
    from gpaw.new.calculation import DFT
    from gpaw.new.density import Density
    from gpaw.new.energies import DFTEnergies
    from gpaw.new.potential import Potential


class Starter:
    """Lets calculations start from a seed, and remembers how the last one did."""

    builder: DFTComponentsBuilder
    """Of the calculation at hand."""

    def __init__(self, seed: Seed, protocol: Protocol, log: Callable[..., None]):
        self.seed, self.protocol, self.log = seed, protocol, log
        self.report: SeedReport | None = None
        self.start: Start | None = None
        """Of the calculation at hand; None: the seed has not been asked yet."""
        self._predicted: State | None = None
        self._complete = True
        """The last seed knew the magnetisation too, if there is one."""

    def use(self, builder: DFTComponentsBuilder) -> None:
        """Take on the components of a new calculation."""
        self.builder = builder
        self._moment_a = builder.initial_magmom_av[:, 2].copy() if builder.ncomponents == 2 else None
        self._occupations = NaturalOccupations(builder.setups)

    def told(self, atoms: Atoms) -> Atoms:
        """A copy with the initial moments of the calculation at hand, wherever these come from."""
        return with_moments(atoms, self._moment_a)

    def seed_next_potential(
        self, pot_calc: Any, atoms: Atoms, dft: DFT | None = None, carried: State | None = None
    ) -> Callable[[], None]:
        """Let the density be replaced by the seed when its potential is calculated; returns what calls that off.

        Parameters
        ----------
        dft
            The calculation whose atoms are moved; default: a new one.
        carried
            To be added to the prediction.
        """
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
            if not seams.is_given(self.builder.params, 'mixer'):
                start.make_mixer = partial(seams.create_pulay_mixer, self.builder, density, relpos_ac)
            self._begin(start, density, atoms, pot_calc.charge, carried)
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

    def correction(self, dft: DFT) -> State | None:
        """What the cycle that has just ended has added to the prediction."""
        if self._predicted is None or not dft.results:
            return None
        correction = State.of(dft.density).minus(self._predicted)
        return correction if self._complete else correction.without_magnetisation()

    def _begin(
        self, start: Start, density: Density, atoms: Atoms, background_charge: float, carried: State | None
    ) -> None:
        """Put the seed, and what the last cycle has corrected, into GPAW's density, with the calculation's symmetry.

        Where that is no density of atoms, GPAW's own stays.
        """
        begin = time.perf_counter()
        report = self.report = start.report
        try:
            self._fill(density, atoms, background_charge, start.default.density, carried)
        except SeedError as error:
            start.refuse(str(error))
            start.untouched = True
            start.default.density.put(density)
        report.seconds = time.perf_counter() - begin
        self.log(
            f'\nSeed: ñ and D of the {self.seed.name}{" and the last correction" if carried is not None else ""}'
            f'{"" if self._complete else ", with the magnetisation of GPAW"}, '
            f'level of theory {self.seed.level.name or "unnamed"}, in {report.seconds:.3f} s\n'
            + (f"seed refused: {report.reason}; GPAW's own start is taken\n" if start.untouched else '')
        )

    def _fill(
        self, density: Density, atoms: Atoms, background_charge: float, default: State, carried: State | None
    ) -> None:
        """The seed as GPAW's density.

        Raises
        ------
        SeedError
            On all ranks, where there is no seed or where it is no density.
        """
        self._predicted = None
        self._complete = self.seed.fill(density, self.told(atoms), self.builder.communicators['D'])
        integral = _integral(density)
        density.normalize(background_charge)
        factor = _integral(density) / integral if integral else float('inf')
        if violation := self.protocol.bounds.violation(density, default, factor, self._occupations):
            raise SeedError(violation)
        symmetries = self.builder.ibz.symmetries
        if len(symmetries) > 1:  # not before the verdict, from which it would hide much
            density.symmetrize(symmetries)
            density.normalize(background_charge)
        self._predicted = State.of(density)
        if carried is not None:
            carried.add_to(density)
            density.normalize(background_charge)


def _integral(density: Density) -> float:
    """∫ ñ dr."""
    return float(density.nt_sR[: density.ndensities].integrate().sum())
