"""Electrostatic potential of a state, by the potential calculator that GPAW uses at its level."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from ase.units import Ha

from ase_deepdensity.codes.gpaw.parameters import gpaw_parameters
from ase_deepdensity.codes.gpaw.require import require_gpaw
from ase_deepdensity.codes.gpaw.state import atom_arrays, ugarray
from ase_deepdensity.state import PAWDensity

if TYPE_CHECKING:
    from gpaw.new.builder import DFTComponentsBuilder
    from gpaw.new.density import Density


def electrostatic_potential(state: PAWDensity) -> np.ndarray:
    """What ``calc.get_electrostatic_potential()`` returns, eV, with all the options of GPAW's Poisson solvers.

    Raises
    ------
    ValueError
        A meta-GGA: its kinetic energy density is not part of the state.
    MissingGPAWError
        Without GPAW.
    """
    require_gpaw('the electrostatic potential of such a state')
    from gpaw.core import UGArray

    builder = component_builder(state)
    if builder.xc.type == 'MGGA':
        raise ValueError(f'the potential of a meta-GGA ({builder.xc.name}) needs the kinetic energy density')
    calculator = builder.create_potential_calculator()
    potential, _, _ = calculator.calculate(gpaw_density(state, builder))
    vHt_x = potential.vHt_x
    if isinstance(vHt_x, UGArray):
        return vHt_x.to_pbc_grid().data * Ha
    return vHt_x.ifft(grid=calculator.fine_grid).data * Ha


def component_builder(state: PAWDensity) -> DFTComponentsBuilder:
    """GPAW's builder for the atoms at the level and on the grid of a state, on one process, without symmetry."""
    from gpaw.mpi import serial_comm

    atoms = state.atoms.copy()
    if state.nspins == 1:
        atoms.set_initial_magnetic_moments(None)
    params = gpaw_parameters(
        state.level,
        charge=state.charge,
        gpts=state.grid.size_c,
        h=None,
        symmetry='off',
        parallel=None,
        magmoms=None,
        spinpol=state.nspins == 2,
    )
    return params.dft_component_builder(atoms, log=None, comm=serial_comm)


def gpaw_density(state: PAWDensity, builder: DFTComponentsBuilder) -> Density:
    """The state as GPAW's own density object."""
    from gpaw.new.density import Density

    return Density.from_data_and_setups(
        ugarray(state),
        None,  # type: ignore[arg-type]  # the kinetic energy density, for meta-GGAs only
        atom_arrays(state),
        builder.charge,
        builder.setups,
        builder.get_pseudo_core_densities(),
        builder.get_pseudo_core_ked(),
    )
