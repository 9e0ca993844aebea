"""A reference calculation: a PAW density with its energy, forces and what it took."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from ase import Atoms

from ase_deepdensity.arguments import formula
from ase_deepdensity.level import Level
from ase_deepdensity.state import PAWDensity


@dataclass(frozen=True, eq=False)
class Snapshot:
    """A converged ground state: what a model learns from."""

    density: PAWDensity
    """The state, with its atoms and level."""
    energy: float
    """eV, extrapolated to zero smearing."""
    forces: np.ndarray | None
    """(natoms, 3) eV/Å; None: they were not calculated."""
    dipole: np.ndarray
    """(3,) e·Å; where matter reaches across a periodic boundary it depends on where the cell begins."""
    niter: int
    """SCF iterations from the superposition of atoms."""
    seconds: float
    """Wall time of the SCF, set-up included."""
    info: dict[str, Any] = field(default_factory=dict)
    """Anything else that JSON can hold."""

    def __post_init__(self) -> None:
        natoms = len(self.density.atoms)
        for name, shape in ('forces', (natoms, 3)), ('dipole', (3,)):
            if getattr(self, name) is None and name == 'forces':
                continue
            array = np.asarray(getattr(self, name), dtype=float)
            if array.shape != shape:
                raise ValueError(f'{name} must have the shape {shape}, not {array.shape}')
            if not np.isfinite(array).all():
                raise ValueError(f'{name} must be finite, not {array.tolist()}')
            object.__setattr__(self, name, array)
        for name, kind in ('energy', float), ('niter', int), ('seconds', float):
            object.__setattr__(self, name, kind(getattr(self, name)))
        if not np.isfinite(self.energy):
            raise ValueError(f'the energy must be finite, not {self.energy!r}')

    def __repr__(self) -> str:
        return (
            f'Snapshot({formula(self.atoms)}, {self.energy:.6f} eV, {self.niter} iterations in {self.seconds:.1f} s, '
            f'level {self.level.name or "unnamed"})'
        )

    @property
    def atoms(self) -> Atoms:
        """Of the density."""
        return self.density.atoms

    @property
    def level(self) -> Level:
        """The level of theory of the density."""
        return self.density.level
