"""Functions that densities are written in: numpy alone."""

from ase_deepdensity.basis.splines import MAX_CUTOFF, MAX_L, MAX_NUMBER, SplineBasis

__all__ = ['MAX_CUTOFF', 'MAX_L', 'MAX_NUMBER', 'SplineBasis']
