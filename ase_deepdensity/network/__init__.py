"""Atoms → coefficients and PAW matrices. Pure torch: knows neither ASE nor GPAW."""
