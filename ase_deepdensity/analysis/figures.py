"""What can be told of a density in figures, by name."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from ase_deepdensity.analysis.bader import bader_charges
from ase_deepdensity.analysis.dipole import origin_caveat
from ase_deepdensity.analysis.hirshfeld import hirshfeld_charges
from ase_deepdensity.analysis.mbis import mbis_charges
from ase_deepdensity.analysis.moments import multipole_moments
from ase_deepdensity.analysis.overlap import TOO_CLOSE, density_overlap, nearest_nuclei, similarity
from ase_deepdensity.analysis.slab import slab_potential
from ase_deepdensity.analysis.volumes import volume_ratios
from ase_deepdensity.analysis.voronoi import voronoi_charges
from ase_deepdensity.state import PAWDensity

OF_ATOMS: dict[str, tuple[Callable[..., np.ndarray], str, str]] = {
    'hirshfeld': (hirshfeld_charges, '|e|', 'Hirshfeld charges'),
    'bader': (bader_charges, '|e|', 'Bader charges'),
    'mbis': (mbis_charges, '|e|', 'minimal-basis iterative stockholder charges'),
    'voronoi': (voronoi_charges, '|e|', 'Voronoi charges'),
    'vdd': (partial(voronoi_charges, deformation=True), '|e|', 'Voronoi deformation density charges'),
    'volumes': (volume_ratios, '', 'Hirshfeld volumes over those of isolated atoms, for TS and MBD dispersion'),
}
"""name: (function of a state and a ``gridrefinement``, unit, what it is), a figure for each atom."""


def moments(state: PAWDensity) -> dict[str, Any]:
    """Of :func:`.multipole_moments`, with JSON's types, and what must be said beside them."""
    found = multipole_moments(state)
    figures: dict[str, Any] = {
        'charge, |e|': found.charge,
        'dipole, e·Å': found.dipole_v.tolist(),
        'quadrupole, e·Å²': found.quadrupole_vv.tolist(),
        'centre, Å': found.centre_v.tolist(),
    }
    return figures | ({'caveat': caveat} if (caveat := origin_caveat(state)) else {})


def slab(state: PAWDensity) -> dict[str, Any]:
    """Of :func:`.slab_potential`, with JSON's types."""
    found = slab_potential(state)
    below, above = found.vacuum_levels
    return {
        'dipole along the normal, e·Å': found.dipole,
        'vacuum level below, eV': below,
        'vacuum level above, eV': above,
        'heights, Å': found.z_i.tolist(),
        'plane averages, eV': found.v_i.tolist(),
    }


def overlap(state: PAWDensity, other: PAWDensity, gridrefinement: int = 2) -> dict[str, Any]:
    """Of :func:`.similarity`, and where all atoms are in other places of :func:`.density_overlap`."""
    figures = {'similarity of ñ': similarity(state, other)}
    if nearest_nuclei(state, other)[0] >= TOO_CLOSE:
        figures['overlap, electrons²/Å³'] = density_overlap(state, other, gridrefinement=gridrefinement)
    return figures


OF_THE_WHOLE: dict[str, tuple[Callable[[PAWDensity], dict[str, Any]], str]] = {
    'multipoles': (moments, 'charge, dipole and quadrupole moment about the centre of mass'),
    'slab': (slab, 'plane averages of the electrostatic potential, vacuum levels and dipole moment of a slab'),
}
"""name: (function of a state, what it is); the figures by name, with JSON's types."""
