"""GPAW started from a prediction: the seed, the first steps, trajectories, and one pass instead of a cycle."""
