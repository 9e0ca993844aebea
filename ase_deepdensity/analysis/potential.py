"""Electrostatic potential of ñ and the compensation charges, on the grid and by the rules of the state's level."""

from __future__ import annotations

from math import pi

import numpy as np
from ase.units import Bohr, Hartree
from scipy.fft import irfftn, rfftn

from ase_deepdensity.analysis.charges import compensation_multipoles
from ase_deepdensity.analysis.compensation import Multipoles, reciprocal_vectors
from ase_deepdensity.analysis.poisson import refine_by_polynomials, refine_by_waves, solve_by_differences
from ase_deepdensity.codes.gpaw.grid import DEFAULT_CUTOFF, mode_of
from ase_deepdensity.dataset.volumetric import with_boundaries
from ase_deepdensity.grid import Grid
from ase_deepdensity.paw import pseudo_electrons
from ase_deepdensity.state import PAWDensity

SPECIAL = 'poissonsolver', 'extensions', 'experimental'
"""Parameters that choose another solver."""
STENCIL = 3
"""Points on either side that GPAW's real-space modes interpolate with."""


def electrostatic_potential(state: PAWDensity) -> np.ndarray:
    """Hartree potential of ñ and the compensation charges on GPAW's fine grid, (n0, n1, n2), eV.

    What ``calc.get_electrostatic_potential()`` returns, to 2·10⁻⁵ of its maximum: two points per interval of
    ``state.grid``, zero boundaries included, the sign that of an electron's energy.  In plane waves −∇²v = 4πρ is
    solved by Fourier series up to eight times the cutoff, in real space by finite differences of sixth order; where
    there is a charge, with a uniform background.

    GPAW does it where a level asks for another solver, for charges between boundaries that are not periodic, and for
    datasets whose compensation charges are no Gaussians.

    Raises
    ------
    LevelError
        A density of a one-dimensional model.
    MissingGPAWError
        Where GPAW is needed and not installed.
    """
    mode = mode_of(state.level.parameters)
    multipoles = compensation_multipoles(state)
    if multipoles is None or _is_special(state):
        from ase_deepdensity.codes.gpaw.potential import electrostatic_potential

        return electrostatic_potential(state)
    if mode['name'] == 'pw':
        return _by_waves(state, multipoles, mode.get('ecut', DEFAULT_CUTOFF) / Hartree)
    return _by_differences(state, multipoles)


def _is_special(state: PAWDensity) -> bool:
    parameters = state.level.parameters
    charged = abs(state.charge) > 0 and not state.grid.pbc_c.all()
    return charged or any(parameters.get(name) for name in SPECIAL) or parameters.get('interpolation') == 'fft'


def _by_waves(state: PAWDensity, multipoles: Multipoles, cutoff: float) -> np.ndarray:
    """Fourier series; ñ up to twice the cutoff (Ha), or what its grid holds, and the multipoles up to eight times."""
    grid = state.grid
    fine = grid.new(size_c=2 * grid.size_c)
    size_c = fine.size_c.tolist()
    energy_G = (reciprocal_vectors(size_c, grid.cell_cv) ** 2).sum(axis=-1) * Bohr**2 / 2
    rho_G = rfftn(refine_by_waves(state.nt_sR.sum(axis=0), 2)) * fine.dv
    rho_G[energy_G > min(2 * cutoff, _largest_energy(grid))] = 0.0
    rho_G += multipoles.of_plane_waves(size_c, grid.cell_cv)
    rho_G[energy_G > 8 * cutoff] = 0.0
    rho_G[0, 0, 0], energy_G[0, 0, 0] = 0.0, 1.0
    v_R: np.ndarray = irfftn(2 * pi * rho_G / energy_G, s=size_c) / (fine.dv / Bohr**3) * Hartree
    return v_R


def _largest_energy(grid: Grid) -> float:
    """½ G² (Ha) up to which all plane waves are told apart by a grid."""
    length2_c = (grid.cell_cv**2).sum(axis=1) / Bohr**2
    return float((pi**2 * grid.size_c**2 / length2_c).min()) / 2


def _by_differences(state: PAWDensity, multipoles: Multipoles) -> np.ndarray:
    """Finite differences; ñ is interpolated and scaled so that it neutralises the multipoles."""
    grid = state.grid
    fine = grid.new(size_c=2 * grid.size_c)
    points = state.level.parameters.get('interpolation') or STENCIL
    nt_R = refine_by_polynomials(state.nt_sR.sum(axis=0), grid, points)
    nt_R *= pseudo_electrons(state.D_asii, state.types(), state.charge) / (nt_R.sum() * fine.dv)
    rho_R = nt_R + multipoles.on_grid(fine)
    v_R = solve_by_differences(rho_R, fine) * Bohr * Hartree  # e/Å to Ha
    return with_boundaries(fine, v_R)
