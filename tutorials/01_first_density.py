# ---
# jupyter:
#   jupytext:
#     formats: ipynb,py:percent
#     text_representation:
#       extension: .py
#       format_name: percent
#       format_version: '1.3'
#       jupytext_version: 1.19.6
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # A first density
#
# From `Atoms` to an electron density, a picture and a dipole moment. Everything here runs in seconds on a
# laptop; no DFT calculation is done, the densities are predicted.

# %%
import numpy as np
from ase.build import molecule
from ase.io import read, write
from ase.units import Bohr, Debye

from ase_deepdensity import DeepDensity

# %% [markdown]
# ## Liquid water
#
# 32 molecules in a periodic cell, a snapshot of molecular dynamics. `DeepDensity` is an ASE calculator; it
# takes the name of a shipped model (or the path of your own). `water-pbe-dzp` was trained on GPAW
# calculations with the PBE functional and the dzp basis set.

# %%
water = read('water32.xyz')
calc = DeepDensity('water-pbe-dzp')
density = calc.predict(water)
print(density.grid.size_c, 'grid points,', density.number_of_electrons(), 'valence electrons')

# %% [markdown]
# The result is a `PAWDensity`. It holds what fixes a PAW ground state, and what GPAW would hold after its SCF
# cycle:
#
# - `density.nt_sR`: the smooth pseudo density, an array (spins, n0, n1, n2) in electrons/Å³;
# - `density.D_asii`: for each atom its density matrix, with which the true density near the nuclei is put back.

# %%
print('ñ:', density.nt_sR.shape, 'from', density.nt_sR.min(), 'to', density.nt_sR.max(), 'electrons/Å³')
print('D of the first atom:', density.D_asii[0].shape, water.symbols[0])

# %% [markdown]
# ## A picture
#
# A plane of grid points through the first oxygen atom, with the atoms that lie within 1 Å of it.

# %%
density.plot(through=0)

# %% [markdown]
# What bonds are made of: the density minus that of free atoms, in the plane of the first molecule. Electrons have come
# where it is red and left where it is blue.

# %%
density.plot(through=(0, 1, 2), difference_to='atoms', limits=(-0.3, 0.3))

# %% [markdown]
# An object at the end of a cell says what it is, with a picture:

# %%
density

# %% [markdown]
# ## The usual ASE way
#
# Attached to atoms, the calculator has the density methods that GPAW's calculator has, with the same meaning
# and units. It notices when the atoms have changed.

# %%
water.calc = calc
before = calc.get_pseudo_density()
print('valence electrons:', before.sum() * water.get_volume() / before.size)

water.rattle(0.02, seed=1)
print('largest change after moving the atoms by some 0.02 Å:', np.abs(calc.get_pseudo_density() - before).max())

# %% [markdown]
# For other programs (VESTA, Bader analysis, …): a cube file. The format wants electrons/bohr³.

# %%
write('water.cube', water, data=calc.get_pseudo_density() * Bohr**3)

# %% [markdown]
# ## A dipole moment
#
# One molecule in a box. In the gas phase water has 1.85 D.

# %%
one = molecule('H2O', vacuum=4)
one.pbc = True
one.calc = DeepDensity('water-pbe-dzp')
dipole = one.get_dipole_moment()
print(dipole, 'e·Å;', np.linalg.norm(dipole) / Debye, 'D')

# %% [markdown]
# A surface in space, which one can turn with the mouse: around 80 % of the electrons, or of 0.1 electrons/Å³ with
# `view(0.1)`. `….view().save('water.html')` makes a page of it.

# %%
one.calc.predict().view()

# %% [markdown]
# The all-electron density, with cusps and core electrons, is put together by GPAW's own routine (which takes its time
# for many atoms).

# %%
all_R = one.calc.get_all_electron_density(gridrefinement=2)
print(all_R.shape, 'grid points,', all_R.sum() * one.get_volume() / all_R.size, 'electrons')

# %% [markdown]
# In a periodic liquid the dipole of the cell depends on where the cell begins, but its changes have a
# meaning: in an infrared spectrum, for example. The calculator can look on while another one drives the
# atoms, `dynamics.attach(lambda: dipoles.append(calc.get_dipole_moment(atoms)))`.
#
# ## What a model does not know
#
# A model speaks for what it was trained on. Elements that it does not know are an error, and strange
# surroundings a warning.

# %%
try:
    calc.predict(molecule('CH3CH2OH', vacuum=4))
except ValueError as error:
    print(error)
