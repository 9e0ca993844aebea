"""What a network and a code must do, as test suites to inherit (they need pytest)."""

from ase_deepdensity.testing.networks import DensityNetworkContract

__all__ = ['DensityNetworkContract']
