"""OnePassGPAW: energy and forces from one non-self-consistent pass at a predicted state that is good enough."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Generator, Iterator, Mapping
from dataclasses import dataclass
from math import inf
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from ase import Atoms
from ase.calculators.calculator import PropertyNotImplementedError
from gpaw.new.scf import SCFContext

from ase_deepdensity.model import DensityModel
from ase_deepdensity.predict import is_news
from ase_deepdensity.scf.calculator import SeededGPAW
from ase_deepdensity.scf.protocol import Hold, Output, SeededLoop, Start
from ase_deepdensity.scf.response import Residual
from ase_deepdensity.scf.seed import ModelSeed

if TYPE_CHECKING:
    from gpaw.new.density import Density
    from gpaw.new.ibzwfs import IBZWaveFunctions

TOLERANCES = ('residual', 'atomic_residual', 'energy')
DEFAULT_UNTIL: Mapping[str, float] = MappingProxyType({'residual': 7.5e-3, 'atomic_residual': 0.03})
"""What is good enough unless the user says otherwise; chosen in docs/benchmarks.md."""
DOUBTFUL: Mapping[str, float] = MappingProxyType({'residual': 4e-3, 'atomic_residual': 0.015})
"""Above which one pass comes with a warning."""


class DoubtfulPassWarning(UserWarning):
    """One pass at a prediction whose residual is larger than for atoms that the model knows."""


@dataclass(frozen=True)
class PassReport:
    """How far a prediction was from self-consistency, which needs no reference, and what was made of it."""

    residual: float
    """∫ |ñ_out − ñ_in| dr, electrons per electron; NaN where nothing was predicted."""
    residual_electrons: float
    """The same in electrons."""
    iterations: int
    """Of the eigensolver at the predicted state."""
    atomic_residual: float
    """Largest natural occupation of |D_out − D_in| of any atom, electrons: it finds one bad atom among many."""
    energy_error: float | None
    """Estimate of the energy's error, eV; only where ``until`` asks for one and the residual has settled."""
    went_on: bool
    """The prediction was not good enough: energy and forces are those of an SCF cycle."""

    @property
    def residual_per_electron(self) -> float:
        """Another name of ``residual``."""
        return self.residual


class PassLoop(SeededLoop):
    """Keeps a seed that is good enough and converges the orbitals at it; with others it is the loop of seeds.

    The residual is known long before the orbitals are converged, so that little is lost on a bad prediction.
    """

    good_enough: Callable[[Start, Output, bool], bool]
    """Judges a seed after one more step of the eigensolver; the last argument: its residual has settled."""
    kept = False
    """The state is that of one pass."""

    def iterate(self, *args: Any, **kwargs: Any) -> Iterator[SCFContext]:
        """GPAW's."""
        self.kept, self._criteria = False, dict(self.convergence)
        return super().iterate(*args, **kwargs)

    def _trial(self, start: Start, *args: Any) -> Iterator[SCFContext]:
        """As from any seed; what follows if it fails is asked for all that GPAW asks for."""
        try:
            yield from super()._trial(start, *args)
        finally:
            self._demand(self._criteria)
            self.kept = self.kept and start.report.accepted

    def _decide(
        self, hold: Hold, found: Output, density: Density, ibzwfs: IBZWaveFunctions[Any], log: Callable[..., None]
    ) -> None:
        """Keep the seed, or leave it to the loop of seeds."""
        start, report = hold.start, hold.start.report
        if not (self.kept and found.residual <= hold.residual):
            settled = report.held + 1 >= hold.max_hold or found.residual > start.protocol.settled * hold.residual
            self.kept = self.good_enough(start, found, settled)
        if not self.kept:
            self._demand(self._criteria)
            super()._decide(hold, found, density, ibzwfs, log)
            return
        report.held += 1
        report.residual = hold.residual = found.residual
        report.atomic_residual = found.atomic_residual(start.occupations)
        self.update_density_and_potential = False
        self._demand({'eigenstates': self._criteria['eigenstates']})

    def _demand(self, criteria: Mapping[str, Any]) -> None:
        """Change the criteria in the dictionary that GPAW's loop holds on to."""
        criteria = dict(criteria)
        self.convergence.clear()
        self.convergence.update(criteria)


class OnePassGPAW(SeededGPAW):
    """GPAW's energy and forces without a cycle: one pass at the predicted state, where that is good enough.

    >>> atoms.calc = OnePassGPAW('water-pbe-dzp')
    >>> atoms.get_forces()
    >>> atoms.calc.report.residual

    The error of the energy is of second order in that of the prediction, and the forces are its exact derivative
    (see :mod:`.response`), so that dynamics conserve it.  The dipole moment is that of the predicted density.

    A prediction is judged by its residual: the share of the electrons that move when the density is built anew from the
    orbitals at it.  Where that is too large, and where nothing can be predicted, energy and forces are those of an SCF
    cycle, and the log says so.  Where the one takes over from the other, the energy has a step as large as its error.

    Parameters
    ----------
    model
        Name of a shipped model, path of a model file, or a model; its network must be one that has a derivative.
    until
        What is good enough: ``{'residual': …}``, electrons per electron, ``{'energy': …}``, estimated eV per atom, or
        both; ``{}``: one pass, whatever comes out.  Default: :data:`DEFAULT_UNTIL`.
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
        One pass with a residual above :data:`DOUBTFUL`; once for a trajectory, again where it goes further.
    """

    loop_type = PassLoop

    def __init__(self, model: str | Path | DensityModel, *, until: Mapping[str, float] | None = None, **kwargs: Any):
        self.until = _checked(DEFAULT_UNTIL if until is None else until)
        super().__init__(model, carry=False, **kwargs)
        if not isinstance(self.seed, ModelSeed):
            raise ValueError('one pass needs a model, whose derivative is part of the forces, not a state')
        if not self.seed.model.network.expands:
            raise ValueError(
                f'one pass needs the derivative of the density, which the {self.seed.model.architecture.network} network '
                f'of {self.seed.model.name} does not have; use SeededGPAW'
            )
        self.report: PassReport | None = None
        self._residual: Residual | None = None
        self._energy_error: float | None = None
        self._warned: tuple[Atoms, float] | None = None

    def create_new_calculation(self, atoms: Atoms) -> None:
        """GPAW's, with a loop that asks how good the seed is."""
        super().create_new_calculation(atoms)
        self.dft.scf_loop.good_enough = self._good_enough

    def create_new_calculation_from_old(self, atoms: Atoms) -> None:
        """GPAW's, with a loop that asks how good the seed is."""
        super().create_new_calculation_from_old(atoms)
        self.dft.scf_loop.good_enough = self._good_enough

    def iconverge(self, atoms: Atoms | None, *, need_wfs: bool = False) -> Generator[SCFContext]:
        """GPAW's; where there was something to calculate, there is a new report."""
        self._energy_error, steps = None, 0
        for steps, context in enumerate(super().iconverge(atoms, need_wfs=need_wfs), start=1):
            self.report = self._residual = None
            yield context
        if steps:
            self._conclude()

    def _good_enough(self, start: Start, found: Output, settled: bool) -> bool:
        """Nothing that would be refused as a seed is, unless all is."""
        until, protocol = self.until, start.protocol
        if not until:
            return True
        if not found.residual <= min(until.get('residual', inf), protocol.refused):
            return False
        atomic_residual = found.atomic_residual(start.occupations)
        if not atomic_residual <= min(until.get('atomic_residual', inf), protocol.refused_atomic):
            return False
        if 'energy' not in until:
            return True
        if not settled:
            return False
        self._energy_error = Residual(self.dft).energy_error()
        return abs(self._energy_error) <= until['energy'] * len(self.dft.atoms)

    def _conclude(self) -> None:
        """Report what was done, and warn where it is doubtful."""
        kept, start = self.dft.scf_loop.kept, self.seed_report
        assert start is not None
        residual = float(start.residual)
        self.report = PassReport(
            residual=residual,
            residual_electrons=residual * float(self.get_number_of_electrons()),
            atomic_residual=float(start.atomic_residual),
            iterations=start.held,
            energy_error=self._energy_error,
            went_on=not kept,
        )
        error = self._energy_error
        self.log(
            f'\nOne pass: residual {residual:.2e} electrons per electron, in an atom {start.atomic_residual:.2e}'
            + ('' if error is None else f'; energy off by about {error:.4f} eV')
            + ('' if kept else '; not good enough: these are the results of an SCF cycle')
        )
        if kept:
            self._residual = Residual(self.dft)
            self._warn(self.report)

    def _warn(self, report: PassReport) -> None:
        worst = max(getattr(report, name) / limit for name, limit in DOUBTFUL.items())
        if worst <= 1 or (self._warned is not None and not is_news(self.atoms, worst, *self._warned)):
            return
        self._warned = self.atoms.copy(), worst
        warnings.warn(
            f'one pass at the {self.seed.name}: a residual of {report.residual:.2e} electrons per electron, '
            f'{report.atomic_residual:.2e} electrons in an atom, is larger than where the model is at home; energy and '
            f'forces may be off (until={dict(DOUBTFUL)} would have gone on to self-consistency)',
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
            if prop == 'stress' and not hasattr(self.dft.pot_calc, 'stress'):
                raise PropertyNotImplementedError('GPAW has a stress in the plane-wave mode only')
            if prop == 'stress' and 'stress' not in self.dft.results:
                with self.timer('Stress'):
                    stress_vv = self._residual.stress(self.seed, self.atoms)
                self.dft.results['stress'] = stress_vv.flat[[0, 4, 8, 5, 2, 1]]
            if prop == 'forces' and 'forces' not in self.dft.results:
                with self.timer('Forces'):
                    self.dft.results['forces'] = self._residual.forces(self.seed, self.atoms)
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
