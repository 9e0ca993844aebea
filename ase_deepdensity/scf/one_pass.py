"""OnePassGPAW: energy and forces from one non-self-consistent pass at the predicted state."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ase import Atoms
from ase.calculators.calculator import PropertyNotImplementedError
from gpaw.new.scf import SCFContext, SCFLoop

from ase_deepdensity.model import DensityModel
from ase_deepdensity.scf.calculator import SeededGPAW
from ase_deepdensity.scf.protocol import SeededLoop
from ase_deepdensity.scf.response import Residual
from ase_deepdensity.scf.seed import ModelSeed

TOLERANCES = ('residual', 'energy')


@dataclass(frozen=True)
class PassReport:
    """How far one pass is from self-consistency; it needs no reference."""

    residual: float
    """‖ñ_out − ñ_in‖, electrons."""
    residual_per_electron: float
    iterations: int
    """Of the eigensolver at the predicted state."""
    energy_error: float | None
    """Estimate of the energy's error, eV; only where ``until`` asks for an energy."""
    went_on: bool
    """The tolerance was exceeded: energy and forces are those of an SCF cycle."""


class PassLoop(SeededLoop):
    """The eigensolver at the density of the seed; then GPAW's loop, if that is not good enough."""

    def one_pass(self, dft: Any, **kwargs: Any) -> Iterator[SCFContext]:
        """Converge the orbitals in the potential of the density that there is."""
        criteria = self.convergence
        self.convergence = {'eigenstates': criteria['eigenstates']}
        self.update_density_and_potential = False
        try:
            yield from SCFLoop.iterate(
                self, dft.ibzwfs, dft.density, dft.potential, dft.energies, dft.pot_calc, log=dft.log, **kwargs
            )
        finally:
            self.convergence = criteria
            self.update_density_and_potential = True


class OnePassGPAW(SeededGPAW):
    """GPAW's energy and forces without a cycle: one pass at the predicted state.

    >>> atoms.calc = OnePassGPAW('water-pbe-dzp')
    >>> atoms.get_forces()
    >>> atoms.calc.report.residual_per_electron

    The error of the energy is of second order in that of the prediction, and the forces are its exact derivative
    (see :mod:`.response`), so that dynamics conserve it.  The dipole moment is that of the predicted density.

    Parameters
    ----------
    model
        Name of a shipped model, path of a model file, or a model.
    until
        What is good enough: ``{'residual': …}``, electrons per electron, or ``{'energy': …}``, estimated eV per atom.
        Where a prediction is not, an ordinary cycle goes on from it.  Default: one pass, whatever comes out.
    kwargs
        As for :class:`SeededGPAW`.

    Raises
    ------
    LevelError, ImportError
        As :class:`SeededGPAW`.
    ValueError
        ``until`` with other keys or values; no model.
    """

    loop_type = PassLoop

    def __init__(self, model: str | Path | DensityModel, *, until: Mapping[str, float] | None = None, **kwargs: Any):
        self.until = dict(until or {})
        if not self.until.keys() <= set(TOLERANCES) or not all(value > 0 for value in self.until.values()):
            raise ValueError(f'until must be a dictionary with positive {" or ".join(TOLERANCES)}, not {until!r}')
        super().__init__(model, carry=False, **kwargs)
        if not isinstance(self.seed, ModelSeed):
            raise ValueError('one pass needs a model, whose derivative is part of the forces, not a state')
        self.report: PassReport | None = None
        self._residual: Residual | None = None

    def create_new_calculation(self, atoms: Atoms) -> None:
        super().create_new_calculation(atoms)
        self._wrap()

    def create_new_calculation_from_old(self, atoms: Atoms) -> None:
        super().create_new_calculation_from_old(atoms)
        self._wrap()

    def move_atoms(self, atoms: Atoms) -> None:
        super().move_atoms(atoms)
        self._wrap()

    def _wrap(self) -> None:
        """Let the calculation be converged by :meth:`_pass`."""
        self.report, self._residual = None, None
        self.dft.iconverge = self._pass  # type: ignore[method-assign]

    def _pass(self, maxiter: int | None = None, calculate_forces: Any = None) -> Iterator[SCFContext]:
        """One pass, and what follows if it is not good enough."""
        dft, loop = self.dft, self.dft.scf_loop
        del dft.iconverge
        start, loop.start = loop.start, None
        for context in loop.one_pass(dft, maxiter=maxiter, calculate_forces=calculate_forces):
            dft.energies = context.energies
            yield context
        residual = Residual(dft)
        error = residual.energy_error() if 'energy' in self.until else None
        went_on = residual.per_electron > self.until.get('residual', float('inf')) or (
            error is not None and abs(error) > self.until['energy'] * len(self.atoms)
        )
        self.report = PassReport(residual.electrons, residual.per_electron, loop.niter, error, went_on)
        self.log(
            f'\nOne pass: residual {residual.electrons:.4f} electrons, {residual.per_electron:.2e} per electron'
            + ('' if error is None else f'; energy off by about {error:.4f} eV')
            + ('; going on to self-consistency' if went_on else '')
        )
        if not went_on:
            self._residual = residual
            return
        loop.start = start
        for context in dft.iconverge(maxiter, calculate_forces):
            yield context
        loop.niter += self.report.iterations

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
