"""Work functions of the two surfaces of a slab, of a density that stays."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ase_deepdensity.analysis.slab import SlabPotential, slab_potential, with_dipole_layer
from ase_deepdensity.scf.orbitals import orbitals_of
from ase_deepdensity.state import PAWDensity


@dataclass(frozen=True)
class WorkFunctions:
    """Of a slab."""

    below: float
    """Of the surface towards the beginning of the cell, eV."""
    above: float
    """Of that towards its end, eV."""
    fermi_level: float
    """eV, from the same zero as the potential."""
    potential: SlabPotential
    """Across the slab."""


def work_functions(state: PAWDensity, **keywords: Any) -> WorkFunctions:
    """Vacuum levels minus Fermi level, without an SCF cycle.

    The Fermi level is that of the orbitals in the potential of the density with GPAW's dipole correction; of a
    molecular layer it lies between occupied and empty states.

    Parameters
    ----------
    state
        Of a slab in the middle of its cell, ``pbc`` (True, True, False): see :func:`.slab_axis`.
    keywords
        ``txt``: see :func:`.orbitals_of`.

    Raises
    ------
    ValueError
        No slab in vacuum, or no density of its atoms.
    """
    potential = slab_potential(state)
    fermi_level = float(orbitals_of(with_dipole_layer(state), **keywords).get_fermi_level())
    below, above = potential.work_functions(fermi_level)
    return WorkFunctions(below, above, fermi_level, potential)
