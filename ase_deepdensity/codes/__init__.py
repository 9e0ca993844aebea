"""Where reference densities come from: one folder per program."""
