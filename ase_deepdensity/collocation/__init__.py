"""Superposition and coefficients → density on a grid: the hot loop."""
