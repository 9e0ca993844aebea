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
# # A work function, and an STM image
#
# What an electron needs to leave a surface, and what a microscope sees of it. First a metal whose surface the model
# does not know, so that a cycle is needed; then a layer of molecules, where the predicted density is enough.

# %%
import numpy as np
from ase.build import fcc100, molecule
from ase.dft.stm import STM

from ase_deepdensity import DeepDensity, OnePassGPAW, PAWDensity
from ase_deepdensity.plot.figure import Picture
from ase_deepdensity.scf.orbitals import orbitals_of

slab = fcc100('Al', (1, 1, 2), vacuum=4)
slab.pbc = (True, True, False)
slab.calc = OnePassGPAW('aluminium-pbe-pw400', txt=None)
slab.get_potential_energy()
report = slab.calc.report
print(f'residual {report.residual:.2f} electrons per electron; a cycle was needed: {report.went_on}')

# %% [markdown]
# The model was trained on the inside of crystals. `OnePassGPAW` has seen from the residual that its density is not good
# enough for a surface, and has gone on to self-consistency.
#
# ## Work function
#
# The electrostatic potential, averaged over planes, is flat in the vacuum. There it is the energy of an electron at
# rest; the Fermi level is that of the highest electrons in the metal.

# %%
density = PAWDensity.from_gpaw(slab.calc)
potential = density.slab_potential()
fermi_level = slab.calc.get_fermi_level()
print('work functions:', np.round(potential.work_functions(fermi_level), 2), 'eV')

figure = Picture(figsize=(6, 3), layout='constrained')
axes = figure.subplots()
axes.plot(potential.z_i, potential.v_i - fermi_level)
axes.axhline(0, color='0.5', linestyle=':', label='Fermi level')
axes.set(xlabel='height / Å', ylabel='potential / eV')
axes.legend()
figure

# %% [markdown]
# ## STM image
#
# ASE's microscope looks at the orbitals between the Fermi level and the bias. It wants all k-points, also those that
# are alike by symmetry.

# %%
slab.calc = slab.calc.fixed_density(symmetry='off', txt=None)
microscope = STM(slab)
top = slab.positions[:, 2].max()
current = microscope.get_averaged_current(-1.0, top + 2.5)
x, y, heights = microscope.scan(-1.0, current, repeat=(3, 3))
print(f'the tip moves by {np.ptp(heights):.3f} Å')

figure = Picture(figsize=(4.5, 3.5), layout='constrained')
axes = figure.subplots()
image = axes.contourf(x, y, heights - top, 30)
figure.colorbar(image, label='height over the atoms / Å')
axes.set(xlabel='Å', ylabel='Å', aspect='equal')
figure

# %% [markdown]
# ## A layer of molecules, without a cycle
#
# Formaldehyde, all molecules upright: a polar layer. The potential is flat on both sides, at different heights. The
# organic model predicts the density; nothing else is calculated.

# %%
layer = molecule('H2CO')
layer.rotate([0, 0, 1], layer.positions[0] - layer.positions[1])
layer.set_cell([4.5, 4.5, 0])
layer.center(vacuum=4, axis=2)
layer.center(axis=(0, 1))
layer.pbc = (True, True, False)
predicted = DeepDensity('organics-pbe-pw400').predict(layer)
potential = predicted.slab_potential()
below, above = potential.vacuum_levels
print(f'dipole moment {potential.dipole:.2f} e·Å, step of the potential {above - below:.2f} eV')
figure = Picture(figsize=(6, 3), layout='constrained')
axes = figure.subplots()
axes.plot(potential.z_i, potential.v_i)
axes.set(xlabel='height / Å', ylabel='potential / eV')
figure

# %% [markdown]
# The image of its occupied states, from orbitals in the potential of the predicted density.

# %%
layer.calc = orbitals_of(predicted)
microscope = STM(layer)
top = layer.positions[:, 2].max()
current = microscope.get_averaged_current(-6.0, top + 1.5)
x, y, heights = microscope.scan(-6.0, current, repeat=(2, 2))
figure = Picture(figsize=(4.5, 3.5), layout='constrained')
axes = figure.subplots()
image = axes.contourf(x, y, heights - top, np.linspace(0, 2, 31), extend='min')
figure.colorbar(image, label='height over the oxygen atoms / Å')
axes.set(xlabel='Å', ylabel='Å', aspect='equal')
figure
