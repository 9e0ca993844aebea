"""Coefficients and superposition → density on grids and at points, with derivatives: the hot loops."""
