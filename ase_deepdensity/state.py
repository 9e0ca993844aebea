"""PAWDensity: the smooth density on a grid and the density matrix of each atom, which together fix a ground state."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import pi, sqrt
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from ase import Atoms

from ase_deepdensity.arguments import formula
from ase_deepdensity.grid import Grid
from ase_deepdensity.level import Level
from ase_deepdensity.paw import (
    AtomType,
    compensation_charges,
    magnetic_moments,
    pseudo_electrons,
    spin_compensation_charges,
    total_compensation_charge,
)
from ase_deepdensity.spin import components, spins

if TYPE_CHECKING:
    from gpaw.new.ase_interface import ASECalculator

    from ase_deepdensity.analysis.moments import Moments
    from ase_deepdensity.analysis.slab import SlabPotential
    from ase_deepdensity.plot.figure import Picture
    from ase_deepdensity.plot.view import View

ROUNDING = 1e-4
"""Antisymmetric part of a density matrix, of its largest element (or of 1), that may come from single precision."""


def relpos_ac(atoms: Atoms) -> np.ndarray:
    """(natoms, 3) positions in units of the lattice vectors, wrapped into the cell as GPAW does."""
    relpos_ac: np.ndarray = atoms.cell.scaled_positions(atoms.positions)
    return relpos_ac % 1 % 1  # −1e-20 % 1 is 1.0


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
    charge: float = 0.0
    """Total charge of the system, |e|."""
    atom_types: Sequence[AtomType] | None = None
    """For each atom what its dataset says of it.  None: asked of the level's code where it is needed."""
    sigma_sR: np.ndarray | None = None
    """As ``nt_sR`` the standard deviation of its likely error, electrons/Å³; None: not known."""
    sigma_D_asii: Sequence[np.ndarray] | None = None
    """As ``D_asii`` the same of its numbers; None: not known."""
    sigma_dipole_v: np.ndarray | None = None
    """(3,) the same of :meth:`dipole_moment`, e·Å; None: not known."""

    def __post_init__(self) -> None:
        def put(name: str, value: Any) -> None:
            object.__setattr__(self, name, value)

        put('atoms', self.atoms.copy())
        put('nt_sR', np.asarray(self.nt_sR, dtype=float))
        put('D_asii', [np.asarray(D_sii, dtype=float) for D_sii in self.D_asii])
        put('charge', float(self.charge))
        if self.sigma_sR is not None:
            put('sigma_sR', np.asarray(self.sigma_sR, dtype=float))
        if self.sigma_D_asii is not None:
            put('sigma_D_asii', [np.asarray(sigma_sii, dtype=float) for sigma_sii in self.sigma_D_asii])
        if self.sigma_dipole_v is not None:
            put('sigma_dipole_v', np.asarray(self.sigma_dipole_v, dtype=float))
        self._check_shapes()
        self._check_sigma()
        self._check_types()
        if not np.isfinite(self.charge):
            raise ValueError(f'the charge must be finite, not {self.charge}')
        if not np.isfinite(self.nt_sR).all():
            raise ValueError(f'nt_sR holds {np.sum(~np.isfinite(self.nt_sR))} values that are not finite')
        self._check_matrices()

    def _check_matrices(self) -> None:
        difference_x = np.concatenate([(D_sii - D_sii.swapaxes(1, 2)).ravel() for D_sii in self.D_asii] or [[]])
        if (np.abs(difference_x) <= ROUNDING).all():  # not so for NaN
            return
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

    def _check_sigma(self) -> None:
        """Each σ, if it is known, has the shape of what it belongs to."""
        checked = [('sigma_sR', self.sigma_sR, 'nt_sR', self.nt_sR.shape)]
        checked.append(('sigma_dipole_v', self.sigma_dipole_v, 'a dipole moment', (3,)))
        if self.sigma_D_asii is not None:
            if len(self.sigma_D_asii) != len(self.D_asii):
                raise ValueError(f'sigma_D_asii must be of {len(self.D_asii)} atoms, not {len(self.sigma_D_asii)}')
            for a, (sigma_sii, D_sii) in enumerate(zip(self.sigma_D_asii, self.D_asii, strict=True)):
                checked.append((f'sigma_D_asii[{a}]', sigma_sii, f'D_asii[{a}]', D_sii.shape))
        for name, sigma_x, of_what, shape in checked:
            if sigma_x is None:
                continue
            if sigma_x.shape != shape:
                raise ValueError(f'{name} must have the shape of {of_what}, {shape}, not {sigma_x.shape}')
            if not (np.isfinite(sigma_x) & (sigma_x >= 0)).all():
                raise ValueError(f'{name} holds values that are negative or not finite')

    def _check_types(self) -> None:
        if self.atom_types is None:
            return
        numbers = [atom_type.number for atom_type in self.atom_types]
        if numbers != self.atoms.numbers.tolist():
            raise ValueError(f'the atom types are of the elements {numbers}, the atoms {self.atoms.numbers.tolist()}')

    @classmethod
    def from_gpaw(cls, calc: ASECalculator, *, level: Level | None = None) -> PAWDensity:
        """See :func:`.codes.gpaw.state.state_of_calculator`."""
        from ase_deepdensity.codes.gpaw.state import state_of_calculator

        return state_of_calculator(calc, level=level)

    @classmethod
    def from_gpw(cls, path: str | Path) -> PAWDensity:
        """The state stored in a file of GPAW's."""
        from ase_deepdensity.codes.gpaw.state import state_of_file

        return state_of_file(path)

    def new(self, **changes: Any) -> PAWDensity:
        """A changed copy; each σ stays only with what it belongs to, unless it is given."""
        if {'nt_sR', 'grid'} & changes.keys():
            changes = {'sigma_sR': None, 'sigma_dipole_v': None} | changes
        if 'D_asii' in changes:
            changes = {'sigma_D_asii': None, 'sigma_dipole_v': None} | changes
        return replace(self, **changes)

    def plot(
        self,
        plane: str = 'ab',
        *,
        position: float = 0.5,
        through: int | Sequence[int] | None = None,
        limits: Sequence[float] | None = None,
        quantity: str = 'smooth',
        difference_to: str | PAWDensity | Sequence[PAWDensity] | None = None,
        reach: float = 1.0,
    ) -> Picture:
        """A picture of a plane, with the atoms near it: see :func:`.plot_slice` and :func:`.shown_density`.

        >>> density.plot('ac', through=0)                  # a plane of lattice vectors through the first atom
        >>> density.plot(through=(0, 1, 2))                # the plane through three atoms
        >>> density.plot(difference_to='atoms', limits=(-0.3, 0.3))    # bonding: red where electrons have come
        """
        from ase_deepdensity.plot.pictures import plot_state

        return plot_state(
            self,
            quantity,
            difference_to,
            plane=plane,
            position=position,
            through=through,
            limits=limits,
            reach=reach,
        )

    def view(
        self,
        isovalue: float | None = None,
        *,
        quantity: str = 'smooth',
        difference_to: str | PAWDensity | Sequence[PAWDensity] | None = None,
    ) -> View:
        """An isosurface to be turned in a notebook, or as a page: see :class:`.View`.

        >>> density.view(0.1)                              # electrons/Å³
        >>> density.view(difference_to='atoms').save('bonding.html')
        """
        from ase_deepdensity.plot.view import View

        return View(self, isovalue, quantity=quantity, difference_to=difference_to)

    def __repr__(self) -> str:
        grid = self.grid
        size = '×'.join(map(str, grid.shape))
        spins = ', spin-polarised' if self.nspins == 2 else ''
        periodic = ''.join(name for name, pbc in zip('abc', grid.pbc_c, strict=True) if pbc) or 'no direction'
        lines = [
            f'PAWDensity({formula(self.atoms)}, {size} grid points, level {self.level.name or "unnamed"}{spins})',
            f'  spacing    {" ".join(f"{h:.3f}" for h in grid.spacing_c)} Å, periodic along {periodic}',
            f'  ñ          from {self.nt_sR.min():.3g} to {self.nt_sR.max():.3g} electrons/Å³',
        ]
        if grid.is_whole and self.atom_types is not None:
            dipole = ', '.join(f'{component:.4f}' for component in self.dipole_moment())
            lines += [f'  electrons  {self.number_of_electrons():.4f} (valence)', f'  dipole     ({dipole}) e·Å']
        return '\n'.join([*lines, '  to see it  .plot(), .view()'])

    def _repr_html_(self) -> str:
        from ase_deepdensity.plot.cards import density_card

        return density_card(self)

    @property
    def nspins(self) -> int:
        """1: spin-paired, one component holds both; 2: two spin densities."""
        return self.nt_sR.shape[0]

    @property
    def has_matrices(self) -> bool:
        """Do the atoms have density matrices?  Without them (one-dimensional models) ñ is all of the density."""
        return any(D_sii.size for D_sii in self.D_asii)

    def integral(self) -> float:
        """Electrons in the pseudo density, ∫ ñ dr (GPAW's pseudo charge)."""
        return float(self.nt_sR.sum()) * self.grid.dv

    def types(self) -> Sequence[AtomType]:
        """For each atom its type: :attr:`atom_types`, or what the level's code says.

        Raises
        ------
        LevelError
            The code lacks an element.
        ImportError
            The code is not installed.
        """
        if self.atom_types is None:
            from ase_deepdensity.codes import code_of

            return code_of(self.level).atom_types(self.level, self.atoms.numbers)
        return self.atom_types

    def compensation_charge(self) -> float:
        """All compensation charges together, √(4π) Σ_a Q^a_00, in electrons (−∫ ñ dr for a neutral system).

        See :func:`.paw.compensation_charges`.
        """
        return total_compensation_charge(self.D_asii, self.types())

    def number_of_electrons(self) -> float:
        """Valence electrons, compensation charges included."""
        self.check_whole('number_of_electrons')
        nvalence = sum(atom_type.nvalence for atom_type in self.types())
        return float(self.integral() + self.compensation_charge() + nvalence)

    def magnetic_moment(self) -> float:
        """Of the cell, μB: electrons with spin up minus those with spin down, GPAW's ``get_magnetic_moment()``."""
        self.check_whole('magnetic_moment')
        if self.nspins == 1:
            return 0.0
        charges = spin_compensation_charges(self.D_asii, self.types())
        Q_s = sqrt(4 * pi) * np.sum([Q_sL[:, 0] for Q_sL in charges], axis=0) + self.nt_sR.sum((1, 2, 3)) * self.grid.dv
        return float(Q_s[0] - Q_s[1])

    def magnetic_moments(self) -> np.ndarray:
        """(natoms,) inside the augmentation sphere of each atom, μB: see :func:`.paw.magnetic_moments`.

        Raises
        ------
        ValueError
            A spin-polarised state from an old file whose datasets the level's code does not have.
        """
        types = self.types()
        if self.nspins == 2 and any(atom_type.N0_ii is None for atom_type in types):
            from ase_deepdensity.codes import code_of

            installed = code_of(self.level).atom_types(self.level, self.atoms.numbers)
            types = [new if new.is_like(old) else old for new, old in zip(installed, types, strict=True)]
        return magnetic_moments(self.D_asii, types)

    def with_spins(self, nspins: int) -> PAWDensity:
        """With two spin densities, which are the same where it was spin-paired; or with the sum of both.

        Raises
        ------
        ValueError
            A number that is not 1 or 2.
        """
        if nspins not in (1, 2):
            raise ValueError(f'there are 1 or 2 spin densities, not {nspins}')
        if nspins == self.nspins:
            return self

        def changed(x_s: np.ndarray) -> np.ndarray:
            return spins(components(x_s)[:1], nspins)

        return self.new(nt_sR=changed(self.nt_sR), D_asii=[changed(D_sii) for D_sii in self.D_asii])

    def dipole_moment(self) -> np.ndarray:
        """(3,) dipole moment of the cell, e·Å, as GPAW's ``Density.calculate_dipole_moment`` has it.

            μ = −∫ r ñ(r) dr − Σ_a [√(4π) Q^a_00 R^a + √(4π/3) (Q^a_1x, Q^a_1y, Q^a_1z)]

        Points on a periodic boundary count half on either side.  Where matter reaches across a periodic boundary the
        value depends on where the cell begins, as any such value does: see :func:`.dipole.depends_on_origin_c`.
        """
        dipole_v = -self._first_moment()
        position_av = self.relpos_ac() @ self.grid.cell_cv
        for Q_L, position_v in zip(compensation_charges(self.D_asii, self.types()), position_av, strict=True):
            dipole_v -= sqrt(4 * pi) * Q_L[0] * position_v
            if len(Q_L) > 1:
                y, z, x = Q_L[1:4]
                dipole_v -= sqrt(4 * pi / 3) * np.array([x, y, z])
        return dipole_v

    def multipole_moments(self, centre: Sequence[float] | None = None) -> Moments:
        """Charge, dipole and quadrupole moment: see :func:`.moments.multipole_moments`."""
        from ase_deepdensity.analysis.moments import multipole_moments

        return multipole_moments(self, centre)

    def electrostatic_potential(self) -> np.ndarray:
        """Of an electron, eV, on a grid twice as fine: see :func:`.potential.electrostatic_potential`."""
        from ase_deepdensity.analysis.potential import electrostatic_potential

        return electrostatic_potential(self)

    def slab_potential(self) -> SlabPotential:
        """Across a slab, with its vacuum levels: see :func:`.slab.slab_potential`."""
        from ase_deepdensity.analysis.slab import slab_potential

        return slab_potential(self)

    def hirshfeld_charges(self, *, gridrefinement: int = 2) -> np.ndarray:
        """(natoms,) |e|: see :func:`.hirshfeld.hirshfeld_charges`."""
        from ase_deepdensity.analysis.hirshfeld import hirshfeld_charges

        return hirshfeld_charges(self, gridrefinement=gridrefinement)

    def mbis_charges(self, *, gridrefinement: int = 1) -> np.ndarray:
        """(natoms,) |e|: see :func:`.mbis.mbis_charges`."""
        from ase_deepdensity.analysis.mbis import mbis_charges

        return mbis_charges(self, gridrefinement=gridrefinement)

    def bader_charges(self, *, gridrefinement: int = 4) -> np.ndarray:
        """(natoms,) |e|: see :func:`.bader.bader_charges`."""
        from ase_deepdensity.analysis.bader import bader_charges

        return bader_charges(self, gridrefinement=gridrefinement)

    def voronoi_charges(self, *, deformation: bool = False, gridrefinement: int = 2) -> np.ndarray:
        """(natoms,) |e|: see :func:`.voronoi.voronoi_charges`."""
        from ase_deepdensity.analysis.voronoi import voronoi_charges

        return voronoi_charges(self, deformation=deformation, gridrefinement=gridrefinement)

    def volume_ratios(self, *, gridrefinement: int = 2) -> np.ndarray:
        """(natoms,) Hirshfeld volumes over those of isolated atoms: see :func:`.volumes.volume_ratios`."""
        from ase_deepdensity.analysis.volumes import volume_ratios

        return volume_ratios(self, gridrefinement=gridrefinement)

    def overlap(self, other: PAWDensity, *, gridrefinement: int = 2) -> float:
        """∫ n_A n_B dr with another density, electrons²/Å³: see :func:`.overlap.density_overlap`."""
        from ase_deepdensity.analysis.overlap import density_overlap

        return density_overlap(self, other, gridrefinement=gridrefinement)

    def similarity(self, other: PAWDensity) -> float:
        """0 to 1, with another density on the same grid: see :func:`.overlap.similarity`."""
        from ase_deepdensity.analysis.overlap import similarity

        return similarity(self, other)

    def _first_moment(self) -> np.ndarray:
        """(3,) ∫ r ñ(r) dr, electrons · Å."""
        grid, nt_R = self.grid, self.nt_sR.sum(axis=0)
        moment_c = np.empty(3)
        for c in range(3):
            index_i = np.arange(grid.start_c[c], grid.stop_c[c], dtype=float)
            if len(index_i) and index_i[0] == 0:
                index_i[0] = 0.5 * grid.size_c[c]
            moment_c[c] = index_i @ nt_R.sum(axis=tuple({0, 1, 2} - {c})) / grid.size_c[c]
        return moment_c @ grid.cell_cv * grid.dv

    def normalized(self) -> PAWDensity:
        """ñ rescaled so that the number of electrons is right at the given D: GPAW's ``Density.normalize``."""
        self.check_whole('normalized')
        integral = self.integral()
        if integral <= 0.0:
            raise ValueError(f'a pseudo density of {integral} electrons cannot be normalised')
        electrons = pseudo_electrons(self.D_asii, self.types(), self.charge)
        return self.new(nt_sR=self.nt_sR * (electrons / integral))

    def relpos_ac(self) -> np.ndarray:
        """(natoms, 3) positions in units of the lattice vectors, wrapped into the cell as GPAW does."""
        return relpos_ac(self.atoms)

    def check_whole(self, what: str) -> None:
        """Refuse a state that has a part of the grid only; ``what`` needs all of it."""
        if not self.grid.is_whole:
            raise ValueError(
                f'{what} needs the density on the whole grid, not on the block '
                f'{self.grid.start_c.tolist()} to {self.grid.stop_c.tolist()} of {self.grid.size_c.tolist()}'
            )
