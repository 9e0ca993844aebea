"""The functions that densities are written in: numpy and torch side by side."""

from ase_deepdensity.basis.radial_table import RadialTable
from ase_deepdensity.basis.splines import MAX_CUTOFF, MAX_L, SplineBasis

__all__ = ['MAX_CUTOFF', 'MAX_L', 'RadialTable', 'SplineBasis']
