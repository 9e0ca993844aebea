"""Energies and forces of one calculator with the dipole moments of a predicted density."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ase import Atoms
from ase.calculators.calculator import BaseCalculator, Calculator, all_changes

from ase_deepdensity.calculator import DeepDensity

OURS = ('dipole',)


class WithDipoles(Calculator):
    """A potential whose atoms have the dipole moments that a model predicts, as infrared spectra need both.

    >>> atoms.calc = WithDipoles(potential, DeepDensity('water-pbe-dzp'))
    >>> Infrared(atoms).run()

    (ASE's ``SumCalculator`` adds up what all its calculators have; these two have nothing in common.)

    Parameters
    ----------
    potential
        Any calculator of ASE's: all but dipole moments are its own.
    density
        The calculator of predicted densities.
    """

    def __init__(self, potential: BaseCalculator, density: DeepDensity) -> None:
        super().__init__()
        self.potential, self.density = potential, density
        self.implemented_properties = [*dict.fromkeys([*potential.implemented_properties, *OURS])]

    def calculate(
        self,
        atoms: Atoms | None = None,
        properties: Sequence[str] = ('energy',),
        system_changes: Sequence[str] = all_changes,
    ) -> None:
        super().calculate(atoms, properties, system_changes)
        for name in properties:
            calc: Any = self.density if name in OURS else self.potential
            self.results[name] = calc.get_property(name, self.atoms)
