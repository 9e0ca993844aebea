"""Electrostatic potential across a slab: plane averages, vacuum levels on both sides, dipole moment of the slab."""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import pi

import numpy as np
from ase.units import Bohr, Hartree

from ase_deepdensity.analysis.dipole import depends_on_origin_c
from ase_deepdensity.analysis.poisson import orthogonal_c
from ase_deepdensity.analysis.potential import electrostatic_potential
from ase_deepdensity.state import PAWDensity

COULOMB = Hartree * Bohr
"""e²/4πε₀, eV·Å."""


@dataclass(frozen=True)
class SlabPotential:
    """The potential energy of an electron, averaged over planes parallel to a slab, as if the slab stood alone."""

    z_i: np.ndarray
    """Heights of the planes along the normal, from the beginning of the cell, Å."""
    v_i: np.ndarray
    """The averages, eV."""
    vacuum_levels: tuple[float, float]
    """Below and above the slab, at the beginning and the end of the cell, eV."""
    dipole: float
    """Dipole moment of the cell along the normal, e·Å."""

    def work_functions(self, fermi_level: float) -> tuple[float, float]:
        """Of the lower and the upper surface, eV; the Fermi level must refer to the same zero of the potential."""
        below, above = self.vacuum_levels
        return below - fermi_level, above - fermi_level


def plane_average(v_R: np.ndarray, axis: int) -> np.ndarray:
    """Mean over all axes of a grid but one."""
    v_i: np.ndarray = v_R.mean(axis=tuple({0, 1, 2} - {axis}))
    return v_i


def slab_axis(state: PAWDensity) -> int:
    """The lattice vector normal to a slab: the one that is not periodic.

    Raises
    ------
    ValueError
        No slab in vacuum: not one such vector, one that is not normal to the others, or matter at its ends; a charge.
    """
    axes = np.flatnonzero(~state.grid.pbc_c).tolist()
    if len(axes) != 1:
        raise ValueError(
            f'a slab is periodic along two lattice vectors, as atoms.pbc = (True, True, False) says; this density has '
            f'pbc {state.grid.pbc_c.tolist()}'
        )
    axis = int(axes[0])
    if not orthogonal_c(state.grid)[axis]:
        raise ValueError(
            f'lattice vector {axis + 1} must be normal to the slab; the cell is {state.grid.cell_cv.tolist()} Å'
        )
    boundary = state.new(grid=state.grid.new(pbc_c=(True,) * 3, zerobc_c=state.grid.zerobc_c))
    if depends_on_origin_c(boundary)[axis]:
        raise ValueError(
            'there must be vacuum at both ends of the cell: atoms.center(vacuum=5, axis='
            f'{axis}) puts the slab into the middle'
        )
    if abs(state.charge) > 0:
        raise ValueError(f'a charged slab has no vacuum level; the charge is {state.charge:+g}')
    return axis


def slab_potential(state: PAWDensity) -> SlabPotential:
    """The potential across a slab, without the field that its dipole moment has between periodic images or boundaries.

        v(z) + (z/L − 1/2) Δ,     Δ = v(above) − v(below) = −4π e² μ_z / A

    (doi:10.1103/PhysRevB.59.12301): GPAW's potential with ``poissonsolver={'dipolelayer': …}``, of the same density,
    but for half an Å at each end, where GPAW's falls smoothly.  (In plane waves GPAW's dipole moment there is a series
    that ends at the cutoff, which leaves a little of the field.)

    Raises
    ------
    ValueError
        No slab, see :func:`slab_axis`.
    """
    axis = slab_axis(state)
    cell_cv = state.grid.cell_cv
    length = float(np.linalg.norm(cell_cv[axis]))
    dipole = float(state.dipole_moment() @ cell_cv[axis] / length)
    v_i = plane_average(electrostatic_potential(_with_solver(state, dipolelayer=None)), axis)
    step = -4 * pi * COULOMB * dipole * length / float(state.atoms.get_volume())
    z_i = np.arange(len(v_i)) * length / len(v_i)
    end = float(v_i[0])
    v_i = v_i + step * (z_i / length - 0.5)
    return SlabPotential(z_i, v_i, (end - step / 2, end + step / 2), dipole)


def with_dipole_layer(state: PAWDensity) -> PAWDensity:
    """The same density at a level with GPAW's dipole correction across the slab."""
    return _with_solver(state, dipolelayer=slab_axis(state))


def _with_solver(state: PAWDensity, *, dipolelayer: int | None) -> PAWDensity:
    parameters = dict(state.level.parameters)
    solver = dict(parameters.pop('poissonsolver', None) or {})
    solver.pop('dipolelayer', None)
    if dipolelayer is not None:
        solver['dipolelayer'] = dipolelayer
    if solver:
        parameters['poissonsolver'] = solver
    return state.new(level=replace(state.level, name='', parameters=parameters))
