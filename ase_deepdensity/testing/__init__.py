"""The contracts as suites to inherit: what every network must pass (pytest is needed)."""

from ase_deepdensity.testing.networks import DensityNetworkContract

__all__ = ['DensityNetworkContract']
