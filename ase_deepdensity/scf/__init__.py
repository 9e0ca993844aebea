"""GPAW started from a prediction: the seed, the first steps, trajectories, and one pass instead of a cycle."""

from ase_deepdensity.codes.gpaw.require import require_gpaw

require_gpaw('starting GPAW from a prediction')
