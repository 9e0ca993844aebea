"""What every network and every code must do, as test suites to inherit (pytest is needed)."""

from ase_deepdensity.testing.codes import CodeContract
from ase_deepdensity.testing.networks import DensityNetworkContract

__all__ = ['CodeContract', 'DensityNetworkContract']
