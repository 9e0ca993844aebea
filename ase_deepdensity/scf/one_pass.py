"""OnePassGPAW: energy and forces from one non-self-consistent pass at a predicted state that is good enough."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Generator, Iterator, Mapping
from dataclasses import dataclass, replace
from math import inf, nan
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ase import Atoms
from ase.calculators.calculator import PropertyNotImplementedError
from gpaw.new.scf import SCFContext

from ase_deepdensity.checks import DoubtfulPassWarning, warrants_another_warning
from ase_deepdensity.codes.gpaw import seams
from ase_deepdensity.model import DensityModel
from ase_deepdensity.scf import compatible
from ase_deepdensity.scf.calculator import SeededGPAW
from ase_deepdensity.scf.local_residual import local_residual
from ase_deepdensity.scf.loop import Output, SeededLoop
from ase_deepdensity.scf.protocol import Hold, Protocol, Start
from ase_deepdensity.scf.response import Residual
from ase_deepdensity.scf.seed import ModelSeed

if TYPE_CHECKING:
    from gpaw.dft import Parameters
    from gpaw.new.ibzwfs import IBZWaveFunctions

TOLERANCES = ('residual', 'energy')
MAX_RESIDUAL = 6e-3
"""Electrons per electron: what is good enough unless the user says otherwise; chosen in docs/benchmarks.md."""
DOUBTFUL = 4e-3
"""The same, above which one pass comes with a warning."""
LOCAL, ATOMIC = 2.0, 4.0
"""Near any atom the residual may be so many times as large as in all, and its density matrix, electrons, as far off."""
PROTOCOL = Protocol(refused=0.35)
"""Of a cycle that goes on from a prediction: one that is no worse than a superposition of atoms is no worse a start."""


@dataclass(frozen=True)
class PassReport:
    """How far a prediction was from self-consistency, which needs no reference, and what was made of it.

    Residuals are NaN where nothing was predicted.
    """

    residual: float = nan
    """∫ |ñ_out − ñ_in| dr, electrons per electron."""
    residual_electrons: float = nan
    """The same in electrons."""
    local_residual: float = nan
    """The largest near any atom, electrons per electron (:mod:`.local_residual`): it finds one bad atom among many."""
    atomic_residual: float = nan
    """Largest natural occupation of |D_out − D_in| of any atom, electrons."""
    iterations: int = 0
    """Of the eigensolver at the predicted state."""
    energy_error: float | None = None
    """Estimate of the energy's error, eV; only where ``until`` asks for one and the residual has settled."""
    went_on: bool = True
    """The prediction was not good enough: energy and forces are those of an SCF cycle."""

    @property
    def residual_per_electron(self) -> float:
        """Another name of ``residual``."""
        return self.residual

    @property
    def worst(self) -> float:
        """What is bounded: the largest of ``residual``, ``local_residual`` / LOCAL and ``atomic_residual`` / ATOMIC."""
        return max(self.residual, self.local_residual / LOCAL, self.atomic_residual / ATOMIC)


class PassLoop(SeededLoop):
    """Keeps a seed that is good enough and converges the orbitals at it; with others it is the loop of seeds.

    The residual is known long before the orbitals are converged, so that little is lost on a bad prediction.
    """

    is_good_enough: Callable[[Start, Output, bool], bool]
    """Is a seed good enough, after one more step of the eigensolver?  The last argument: its residual has settled."""

    def iterate(self, *args: Any, **kwargs: Any) -> Iterator[SCFContext]:
        """GPAW's."""
        self.kept, self._criteria = False, dict(self.convergence)
        return super().iterate(*args, **kwargs)

    def _trial(self, start: Start, *args: Any) -> Iterator[SCFContext]:
        """As from any seed; what follows if it fails is asked for all that GPAW asks for."""
        try:
            yield from super()._trial(start, *args)
        finally:
            seams.set_criteria(self, self._criteria)
            self.kept = self.kept and start.report.accepted

    def _decide(
        self, hold: Hold, found: Output, context: SCFContext, ibzwfs: IBZWaveFunctions[Any], log: Callable[..., None]
    ) -> None:
        """Keep the seed, or leave it to the loop of seeds."""
        start, report = hold.start, hold.start.report
        last = report.held + 1 >= hold.max_hold
        self.kept = self.is_good_enough(start, found, last or found.residual > start.protocol.settled * hold.residual)
        if not self.kept:
            seams.set_criteria(self, self._criteria)
            super()._decide(hold, found, context, ibzwfs, log)
            return
        report.held += 1
        report.residual = hold.residual = found.residual
        self.update_density_and_potential = False
        seams.set_criteria(self, {'eigenstates': self._criteria['eigenstates']})


class OnePassGPAW(SeededGPAW):
    """GPAW's energy and forces without a cycle: one pass at the predicted state, where that is good enough.

    >>> atoms.calc = OnePassGPAW('water-pbe-dzp')
    >>> atoms.get_forces()
    >>> atoms.calc.report.residual

    The error of the energy is of second order in that of the prediction, and the forces are its exact derivative
    (see :mod:`.response`), so that dynamics conserve it.  The dipole moment is that of the predicted density.

    A prediction is judged by its residual: the share of the electrons that move when the density is built anew from the
    orbitals at it.  Where that is too large, and where nothing can be predicted, energy and forces are those of an SCF
    cycle, and the log says so.  So are those of spin-polarised calculations if the model is not told magnetic moments.
    Where the one takes over from the other, the energy has a step as large as its error.

    Parameters
    ----------
    model
        Name of a shipped model, path of a model file, or a model; its network must be one that has a derivative.
        Default: as for :class:`SeededGPAW`.
    until
        What is good enough: ``{'residual': …}``, a bound on :attr:`PassReport.worst`, electrons per electron,
        ``{'energy': …}``, estimated eV per atom, or both; ``{}``: one pass at any prediction that is a density at all.
        Default: a residual of :data:`MAX_RESIDUAL`.
    kwargs
        As for :class:`SeededGPAW`.

    Raises
    ------
    LevelError, ImportError
        As :class:`SeededGPAW`.
    ValueError
        ``until`` with other keys or values; no model, or one without a derivative.

    Warns
    -----
    DoubtfulPassWarning
        One pass whose worst residual is above :data:`DOUBTFUL`; once for a trajectory, again where it goes further.
    """

    loop_type = PassLoop

    def __init__(
        self, model: str | Path | DensityModel | None = None, *, until: Mapping[str, float] | None = None, **kwargs: Any
    ):
        self.until = _checked({'residual': MAX_RESIDUAL} if until is None else until)
        protocol = kwargs.pop('protocol', PROTOCOL)
        if not self.until:
            protocol = replace(protocol, worth=inf)
        super().__init__(model, carry=False, protocol=protocol, **kwargs)
        if not isinstance(self.seed, ModelSeed):
            raise ValueError('one pass needs a model, whose derivative is part of the forces, not a state')
        if not self.seed.has_derivative:
            raise ValueError(
                f'one pass needs the derivative of the density, which the {self.seed.model.architecture.network} '
                f'network of {self.seed.model.name} does not have; use SeededGPAW'
            )
        self.report: PassReport | None = None
        self._found = PassReport()
        self._residual: Residual | None = None
        self._warned: tuple[Atoms, float] | None = None

    def _use_charge(self, params: Parameters) -> None:
        super()._use_charge(params)
        compatible.check_charge(params, self.seed.charge, self.seed.name)

    def create_new_calculation(self, atoms: Atoms) -> None:
        """GPAW's, with a loop that asks how good the seed is."""
        super().create_new_calculation(atoms)
        self.dft.scf_loop.is_good_enough = self._good_enough

    def create_new_calculation_from_old(self, atoms: Atoms) -> None:
        """GPAW's, with a loop that asks how good the seed is."""
        super().create_new_calculation_from_old(atoms)
        self.dft.scf_loop.is_good_enough = self._good_enough

    def iconverge(self, atoms: Atoms | None, *, need_wfs: bool = False) -> Generator[SCFContext]:
        """GPAW's; where there was something to calculate, there is a new report."""
        self._found, calculated = PassReport(), False
        for context in super().iconverge(atoms, need_wfs=need_wfs):
            self.report, self._residual, calculated = None, None, True
            yield context
        if calculated:
            self._conclude()

    def _good_enough(self, start: Start, found: Output, settled: bool) -> bool:
        """Judge a seed by its residuals, which are noted down, and by an estimate of the energy's error."""
        before, until = self._found, self.until
        report = self._found = self._look(start, found, not self.dft.scf_loop.kept)
        if not self._has_derivative():
            return False
        if not until:
            return True
        if 'residual' not in until and not found.residual <= start.protocol.refused:
            return False
        if not report.worst <= until.get('residual', inf):
            return False
        if 'energy' not in until:
            return True
        if not report.went_on and report.worst <= before.worst:  # it has been good enough already
            self._found = replace(report, energy_error=before.energy_error)
            return True
        if not settled:
            return False
        error = Residual(self.dft).energy_error()
        self._found = replace(report, energy_error=error)
        return abs(error) <= until['energy'] * len(self.dft.atoms)

    def _look(self, start: Start, found: Output, went_on: bool) -> PassReport:
        density = self.dft.density
        start.report.atomic_residual = found.atomic_residual(start.occupations)
        return PassReport(
            residual=float(found.residual),
            residual_electrons=float(found.residual * (density.nvalence - density.charge)),
            local_residual=local_residual(found.difference.nt_sR, found.state.nt_sR, density, self.dft.relpos_ac),
            atomic_residual=start.report.atomic_residual,
            iterations=start.report.held + 1,
            went_on=went_on,
        )

    def _conclude(self) -> None:
        """Report what was done, and warn where it is doubtful."""
        kept = self.dft.scf_loop.kept
        report = self.report = replace(self._found, went_on=not kept)
        error = report.energy_error
        self.log(
            f'\nOne pass: residual {report.residual:.2e} electrons per electron, near an atom up to '
            f'{report.local_residual:.2e}'
            + ('' if error is None else f'; energy off by about {error:.4f} eV')
            + ('' if kept else '; not good enough: these are the results of an SCF cycle')
        )
        self.log.fd.flush()
        if kept:
            self._residual = Residual(self.dft)
            self._warn(report)

    def _warn(self, report: PassReport) -> None:
        """Where a pass is doubtful, once for a trajectory."""
        if report.worst <= DOUBTFUL:
            return
        if self._warned is not None and not warrants_another_warning(self.atoms, report.worst, *self._warned):
            return
        self._warned = self.atoms.copy(), report.worst
        warnings.warn(
            f'one pass at the {self.seed.name}: its residual, {report.residual:.2e} electrons per electron and near an '
            f'atom up to {report.local_residual:.2e}, is larger than where the model is at home; energy and forces '
            f"may be off (until={{'residual': {DOUBTFUL:g}}} would have gone on to self-consistency)",
            DoubtfulPassWarning,
            stacklevel=2,
        )

    def calculate_property(self, atoms: Atoms | None, prop: str) -> Any:
        """GPAW's, with forces and stress that are derivatives of this energy.

        Raises
        ------
        PropertyNotImplementedError
            The stress outside the plane-wave mode, where GPAW has none.
        """
        if prop in ('forces', 'stress'):
            super().calculate_property(atoms, 'energy')
        if self._residual is not None:
            assert isinstance(self.seed, ModelSeed)
            if prop == 'stress' and not seams.has_stress(self.dft):
                raise PropertyNotImplementedError('GPAW has a stress in the plane-wave mode only')
            if prop == 'stress' and 'stress' not in self.dft.results:
                with self.timer('Stress'):
                    stress_vv = self._residual.stress(self.seed, self._starter.told(self.atoms))
                self.dft.results['stress'] = stress_vv.flat[[0, 4, 8, 5, 2, 1]]
            if prop == 'forces' and 'forces' not in self.dft.results:
                with self.timer('Forces'):
                    self.dft.results['forces'] = self._residual.forces(self.seed, self._starter.told(self.atoms))
        return super().calculate_property(atoms, prop)


def _checked(until: Mapping[str, float]) -> dict[str, float]:
    """A copy."""
    if (
        not isinstance(until, Mapping)
        or not until.keys() <= set(TOLERANCES)
        or not all(isinstance(value, int | float) and value > 0 for value in until.values())
    ):
        raise ValueError(
            f'until must be a dictionary with positive {" or ".join(TOLERANCES)}, or empty for one pass whatever comes '
            f'out, not {until!r}'
        )
    return dict(until)
