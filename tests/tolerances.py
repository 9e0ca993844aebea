"""How closely things must agree, named once."""

EXACT = 1e-12
"""The same arithmetic in another order (relative)."""

GPAW = 1e-6
"""Our figure for a state of GPAW's against GPAW's own (relative)."""

COMPENSATION_CHARGES = 2e-5
"""Gaussians and what is made of them against GPAW's splines of 50 points (relative to the maximum)."""

SUPERPOSITION_REAL_SPACE = 1e-4
"""Radial tables against GPAW's superposition on a real-space grid, where GPAW normalises each core (relative)."""

SUPERPOSITION_PLANE_WAVES = 2e-3
"""The same where GPAW cuts the cores off at the plane-wave cutoff (relative to the maximum)."""

FLOAT32 = 1e-5
"""The same prediction reached in another way, in single precision (relative to the maximum)."""

SAME_ENERGY = 1e-3
"""Converged energies of one system from different starts, eV."""

SAME_FORCE = 1e-4
"""A force against the slope of its energy, eV/Å."""

SAME_STRESS = 2e-4
"""A stress against the slope of its energy, eV/Å³."""
