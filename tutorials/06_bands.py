# ---
# jupyter:
#   jupytext:
#     formats: ipynb,py:percent
#     text_representation:
#       extension: .py
#       format_name: percent
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Bands and density of states without a cycle
#
# Bands are eigenvalues in the potential of a density. Where the density is predicted, one diagonalisation for each
# k-point is all that is left to do. Here that is shown for aluminium, beside self-consistent bands.

# %%
import numpy as np
from ase.build import bulk

from ase_deepdensity import OnePassGPAW, SeededGPAW
from ase_deepdensity.plot.figure import Picture
from ase_deepdensity.scf.orbitals import band_structure, density_of_states

aluminium = bulk('Al')
aluminium.calc = OnePassGPAW('aluminium-pbe-pw400', txt=None)
aluminium.get_potential_energy()
print('residual', f'{aluminium.calc.report.residual:.1e}', 'electrons per electron')
print('Fermi level', f'{aluminium.calc.get_fermi_level():.3f} eV')

# %% [markdown]
# One pass gives the energy, the Fermi level, and how far the density of its orbitals is from the predicted one. The
# density stays for all that follows: `band_structure` calls GPAW's `fixed_density` with the k-points of a path.

# %%
bands = band_structure(aluminium.calc, 'GXWLGK', npoints=36, empty=3)
figure = Picture(figsize=(6, 4), layout='constrained')
bands.subtract_reference().plot(ax=figure.subplots(), emin=-12, emax=10, ylabel='energy from the Fermi level / eV')
figure

# %% [markdown]
# ## Density of states
#
# With more k-points than the level of theory has, and linear tetrahedra between them (`width=0`). Aluminium is nearly
# a free-electron metal: the density of states rises as the square root of the energy above the lowest band.

# %%
energies = np.linspace(-12, 6, 361)
dos = density_of_states(aluminium.calc, energies, width=0.0, kpts=(8, 8, 8))
figure = Picture(figsize=(6, 3), layout='constrained')
axes = figure.subplots()
axes.plot(energies, dos)
axes.axvline(0, color='0.5', linestyle=':')
axes.set(xlabel='energy from the Fermi level / eV', ylabel='states per eV', ylim=(0, None))
print(f'electrons below the Fermi level: {np.trapezoid(dos[energies <= 0], energies[energies <= 0]):.2f}')
figure

# %% [markdown]
# ## How far from self-consistency?
#
# The same with a cycle. Eigenvalues are compared as they are.

# %%
aluminium.calc = SeededGPAW('aluminium-pbe-pw400', txt=None)
aluminium.get_potential_energy()
reference = band_structure(aluminium.calc, 'GXWLGK', npoints=36, empty=3)
error = 1000 * (bands.energies - reference.energies)[..., :3]
print(f'RMS {np.sqrt((error**2).mean()):.2f} meV, largest {abs(error).max():.2f} meV')
assert abs(error).max() < 20

# %% [markdown]
# ## What to try
#
# - `orbitals_of(density)` of `ase_deepdensity.scf.orbitals` takes any `PAWDensity`, from a file too;
# - `deepdensity bands al.xyz aluminium-pbe-pw400 --path GXWLGK --out bands.png --dos dos.png` does all of this;
# - a model that does not know the atoms: `OnePassGPAW` goes on to self-consistency, and says so in its `report`.
