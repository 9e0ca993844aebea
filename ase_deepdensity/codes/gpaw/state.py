"""The way between a :class:`.PAWDensity` and GPAW's own objects."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from ase import Atoms
from ase.units import Bohr

from ase_deepdensity.codes.gpaw.datasets import setups, types_of
from ase_deepdensity.codes.gpaw.parameters import level_of_calculation
from ase_deepdensity.codes.gpaw.require import require_gpaw
from ase_deepdensity.grid import Grid
from ase_deepdensity.level import Level
from ase_deepdensity.state import PAWDensity

if TYPE_CHECKING:
    from gpaw.core import UGArray, UGDesc
    from gpaw.core.atom_arrays import AtomArrays
    from gpaw.densities import Densities
    from gpaw.dft import Parameters
    from gpaw.new.ase_interface import ASECalculator
    from gpaw.setup import Setups


def state_of_calculator(calc: ASECalculator, *, level: Level | None = None) -> PAWDensity:
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
    atoms = calc.dft.atoms.copy()
    is_polarised = density.ncomponents == 2
    atoms.set_initial_magnetic_moments(assumed_moments(atoms, calc.params, calc.dft.setups) if is_polarised else None)
    return PAWDensity(
        atoms=atoms,
        grid=grid_of(nt_sR.desc),
        nt_sR=nt_sR.data * Bohr**-3,
        D_asii=[(D_asii[a] + D_asii[a].swapaxes(1, 2)) / 2 for a in range(len(calc.dft.atoms))],
        level=level_of_calculation(calc) if level is None else level,
        charge=float(calc.params.charge),
        atom_types=types_of(calc.dft.setups),
    )


def assumed_moments(atoms: Atoms, params: Parameters, datasets: Setups | None = None) -> np.ndarray | None:
    """(natoms,) μB: what a spin-polarised calculation begins with, from ``magmoms=``, ``hund=True`` or its atoms.

    None where they are all zero, as GPAW may be told with ``spinpol=True``.  ``datasets``: for each atom, needed with
    ``hund`` only.
    """
    from gpaw.new.builder import normalize_initial_magmoms

    if params.hund:
        charge = params.charge / len(atoms)
        moment_a = np.array([setup.get_hunds_rule_moment(charge) for setup in datasets or ()])
    else:
        moment_a = normalize_initial_magmoms(atoms, params.magmoms)[0][:, 2]
    return moment_a if moment_a.any() else None


def grid_of(desc: UGDesc) -> Grid:
    """The whole grid that a descriptor of GPAW's belongs to."""
    return Grid(desc.cell_cv * Bohr, desc.size_c, desc.pbc_c, desc.zerobc_c)


def state_of_file(path: str | Path) -> PAWDensity:
    """The state stored in a file of GPAW's."""
    require_gpaw('reading its files')
    from gpaw.new.ase_interface import GPAW

    return state_of_calculator(GPAW(path, txt=None))


def densities(state: PAWDensity) -> Densities:
    """GPAW's own ``Densities`` of a state, on one process."""
    require_gpaw('this density')
    from gpaw.densities import Densities

    datasets = setups(state.level, state.atoms.numbers)
    return Densities(ugarray(state), atom_arrays(state), state.relpos_ac(), datasets)


def ugdesc(grid: Grid) -> UGDesc:
    """A grid as GPAW's descriptor (bohr), on one process."""
    from gpaw.core import UGDesc

    return UGDesc(cell=grid.cell_cv / Bohr, size=grid.size_c, pbc=grid.pbc_c, zerobc=grid.zerobc_c)


def ugarray(state: PAWDensity) -> UGArray:
    """ñ as GPAW's array (bohr⁻³), on one process."""
    state.check_whole('GPAW')
    return ugdesc(state.grid).from_data(state.nt_sR * Bohr**3)


def atom_arrays(state: PAWDensity) -> AtomArrays:
    """D as GPAW's array, on one process."""
    from gpaw.core.atom_arrays import AtomArraysLayout

    D_asii = AtomArraysLayout([D_sii.shape[1:] for D_sii in state.D_asii]).empty(state.nspins)
    for a, D_sii in enumerate(state.D_asii):
        D_asii[a] = D_sii
    return D_asii
