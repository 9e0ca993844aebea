"""PAWDensity: the smooth density on a grid and the density matrix of each atom, which together fix a ground state."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import pi, sqrt
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from ase import Atoms
from ase.units import Bohr

from ase_deepdensity.grid import Grid
from ase_deepdensity.level import Level

if TYPE_CHECKING:
    from gpaw.core import UGArray, UGDesc
    from gpaw.core.atom_arrays import AtomArrays
    from gpaw.densities import Densities
    from gpaw.new.ase_interface import ASECalculator


ROUNDING = 1e-4
"""Antisymmetric part of a density matrix, of its largest element (or of 1), that may come from single precision."""


@dataclass(frozen=True, eq=False)
class PAWDensity:
    """The electrons of ``atoms`` as the projector augmented-wave method keeps them.

    A spin-paired state holds the full density in one component.

    Raises
    ------
    ValueError
        Shapes that do not fit each other, values that are not finite, density matrices that are not symmetric.
    """

    atoms: Atoms
    """The atoms, without a calculator."""
    grid: Grid
    """Where ``nt_sR`` is given."""
    nt_sR: np.ndarray
    """(nspins, *grid.shape) smooth pseudo density ñ with the smooth core, without compensation charges, electrons/Å³:
    GPAW's ``dft.density.nt_sR``.  No point on a zero boundary (see :attr:`Grid.zerobc_c`)."""
    D_asii: Sequence[np.ndarray]
    """For each atom its density matrix (nspins, ni, ni) in the order and sign of GPAW's projectors, dimensionless;
    symmetric."""
    level: Level
    """The level of theory the state belongs to."""

    def __post_init__(self) -> None:
        def put(name: str, value: Any) -> None:
            object.__setattr__(self, name, value)

        put('atoms', self.atoms.copy())
        put('nt_sR', np.asarray(self.nt_sR, dtype=float))
        put('D_asii', [np.asarray(D_sii, dtype=float) for D_sii in self.D_asii])
        self._check_shapes()
        if not np.isfinite(self.nt_sR).all():
            raise ValueError(f'nt_sR holds {np.sum(~np.isfinite(self.nt_sR))} values that are not finite')
        for a, D_sii in enumerate(self.D_asii):
            if not np.isfinite(D_sii).all():
                raise ValueError(f'the density matrix of atom {a} ({self.atoms.symbols[a]}) is not finite')
            difference = abs(D_sii - D_sii.swapaxes(1, 2)).max(initial=0.0)
            if difference > ROUNDING * max(1.0, abs(D_sii).max(initial=0.0)):
                raise ValueError(
                    f'the density matrix of atom {a} ({self.atoms.symbols[a]}) is not symmetric: D_ij and D_ji differ '
                    f'by up to {difference:.3g}; pass (D_sii + D_sii.swapaxes(1, 2)) / 2'
                )

    def _check_shapes(self) -> None:
        nspins = self.nt_sR.shape[0] if self.nt_sR.ndim == 4 else 0
        if nspins not in (1, 2) or self.nt_sR.shape[1:] != self.grid.shape:
            raise ValueError(
                f'nt_sR must have the shape (1 or 2, {", ".join(map(str, self.grid.shape))}), '
                f'not {self.nt_sR.shape}: spin first, then the points of the grid'
            )
        if not np.allclose(self.atoms.cell.array, self.grid.cell_cv, rtol=0, atol=1e-8):
            raise ValueError(
                f'the cell of the grid, {self.grid.cell_cv.tolist()} Å, is not the cell of the atoms, '
                f'{self.atoms.cell.array.tolist()} Å'
            )
        if len(self.D_asii) != len(self.atoms):
            raise ValueError(f'{len(self.atoms)} atoms need as many density matrices, not {len(self.D_asii)}')
        for a, D_sii in enumerate(self.D_asii):
            if D_sii.ndim != 3 or D_sii.shape != (nspins, D_sii.shape[1], D_sii.shape[1]):
                raise ValueError(
                    f'the density matrix of atom {a} ({self.atoms.symbols[a]}) must have the shape '
                    f'({nspins}, ni, ni), not {D_sii.shape}'
                )

    @classmethod
    def from_gpaw(cls, calc: ASECalculator, *, level: Level | None = None) -> PAWDensity:
        """The state that a calculator of GPAW's new interface holds; under MPI every rank gets the whole.

        Antisymmetric parts of D are left out: no orbital makes them, though GPAW's mixers may carry them along.

        Raises
        ------
        ValueError
            A calculator of the old interface, one without a density, or non-collinear spins.
        """
        if getattr(calc, 'old', True):
            raise ValueError(f"a calculator of GPAW's new interface is needed (gpaw.new), not {type(calc).__name__}")
        if not calc.initialized:
            raise ValueError('the calculator has no density yet: run atoms.get_potential_energy() first')
        density = calc.dft.density
        if density.ncomponents == 4:
            raise ValueError('non-collinear spins are not supported: use collinear or no magnetic moments')
        nt_sR = density.nt_sR.gather(broadcast=True)
        D_asii = density.D_asii.gather(broadcast=True)
        desc = nt_sR.desc
        return cls(
            atoms=calc.dft.atoms,
            grid=Grid(desc.cell_cv * Bohr, desc.size_c, desc.pbc_c, desc.zerobc_c),
            nt_sR=nt_sR.data * Bohr**-3,
            D_asii=[(D_asii[a] + D_asii[a].swapaxes(1, 2)) / 2 for a in range(len(calc.dft.atoms))],
            level=Level.from_gpaw(calc) if level is None else level,
        )

    @classmethod
    def from_gpw(cls, path: str | Path) -> PAWDensity:
        """The state stored in a file of GPAW's."""
        from gpaw.new.ase_interface import GPAW

        return cls.from_gpaw(GPAW(path, txt=None))

    def new(self, **changes: Any) -> PAWDensity:
        """A changed copy."""
        return replace(self, **changes)

    @property
    def nspins(self) -> int:
        return self.nt_sR.shape[0]

    @property
    def has_matrices(self) -> bool:
        """Do the atoms have density matrices?  Without them (one-dimensional models) ñ is all of the density."""
        return any(D_sii.size for D_sii in self.D_asii)

    def integral(self) -> float:
        """Electrons in the pseudo density, ∫ ñ dr (GPAW's pseudo charge)."""
        return float(self.nt_sR.sum()) * self.grid.dv

    def compensation_charge(self) -> float:
        """All compensation charges together, √(4π) Σ_a Q^a_00, in electrons (−∫ ñ dr for a neutral system).

        Q^a_00 = Σ_sij D^a_sij Δ^a_ij00 + Δ0^a, doi:10.1103/PhysRevB.71.035109, eq. 20.
        """
        Q_a = [
            np.einsum('sij, ij ->', D_sii, setup.Delta_iiL[:, :, 0]) + setup.Delta0
            for D_sii, setup in zip(self.D_asii, self.level.setups(self.atoms.numbers), strict=True)
        ]
        return sqrt(4 * pi) * float(sum(Q_a))

    def number_of_electrons(self) -> float:
        """Valence electrons, compensation charges included."""
        self._whole('number_of_electrons')
        nvalence = self.level.setups(self.atoms.numbers).nvalence
        return self.integral() + self.compensation_charge() + nvalence

    def normalized(self) -> PAWDensity:
        """ñ rescaled so that the number of electrons is right at the given D: GPAW's ``Density.normalize``."""
        self._whole('normalized')
        integral = self.integral()
        if integral <= 0.0:
            raise ValueError(f'a pseudo density of {integral} electrons cannot be normalised')
        charge = self.level.charge + self.level.setups(self.atoms.numbers).core_charge
        return self.new(nt_sR=self.nt_sR * (-(self.compensation_charge() + charge) / integral))

    def to_densities(self) -> Densities:
        """GPAW's own ``Densities`` of this state, on one process."""
        from gpaw.densities import Densities

        nt_sR = self.to_ugarray()
        return Densities(nt_sR, self.to_atom_arrays(), self.relpos_ac(), self.level.setups(self.atoms.numbers))

    def relpos_ac(self) -> np.ndarray:
        """(natoms, 3) positions in units of the lattice vectors, wrapped into the cell as GPAW does."""
        relpos_ac = self.atoms.cell.scaled_positions(self.atoms.positions)
        return relpos_ac % 1 % 1  # −1e-20 % 1 is 1.0

    def to_ugdesc(self) -> UGDesc:
        """The grid as GPAW's descriptor (bohr), on one process."""
        from gpaw.core import UGDesc

        grid = self.grid
        return UGDesc(cell=grid.cell_cv / Bohr, size=grid.size_c, pbc=grid.pbc_c, zerobc=grid.zerobc_c)

    def to_ugarray(self) -> UGArray:
        """ñ as GPAW's array (bohr⁻³), on one process."""
        self._whole('GPAW')
        return self.to_ugdesc().from_data(self.nt_sR * Bohr**3)

    def to_atom_arrays(self) -> AtomArrays:
        """D as GPAW's array, on one process."""
        from gpaw.core.atom_arrays import AtomArraysLayout

        D_asii = AtomArraysLayout([D_sii.shape[1:] for D_sii in self.D_asii]).empty(self.nspins)
        for a, D_sii in enumerate(self.D_asii):
            D_asii[a] = D_sii
        return D_asii

    def _whole(self, what: str) -> None:
        if not self.grid.is_whole:
            raise ValueError(
                f'{what} needs the density on the whole grid, not on the block '
                f'{self.grid.start_c.tolist()} to {self.grid.stop_c.tolist()} of {self.grid.size_c.tolist()}'
            )
