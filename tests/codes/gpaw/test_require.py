"""Where GPAW is missing."""
