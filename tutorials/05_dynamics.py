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
# # Molecular dynamics with forces of one pass
#
# GPAW finds its density by a cycle of a dozen passes. `OnePassGPAW` does one, at a predicted density, and its
# forces are the exact derivative of the energy that this pass gives: dynamics conserve it. Here a water molecule
# vibrates for some 20 fs; the recipe is the same for a liquid or a metal.

# %%
import numpy as np
from ase import units
from ase.build import molecule
from ase.md.velocitydistribution import MaxwellBoltzmannDistribution, Stationary
from ase.md.verlet import VelocityVerlet
from matplotlib.ticker import ScalarFormatter

from ase_deepdensity import OnePassGPAW
from ase_deepdensity.plot.figure import Picture

water = molecule('H2O')
water.rattle(0.02, seed=1)  # GPAW keeps the symmetry that a calculation begins with
water.center(vacuum=2.5)
water.pbc = True
water.calc = OnePassGPAW('water-pbe-dzp', txt=None)
MaxwellBoltzmannDistribution(water, temperature_K=400, rng=np.random.default_rng(1))
Stationary(water)

# %% [markdown]
# ## The run
#
# 30 steps of 0.6 fs. The calculator counts how often one pass was not enough: its report holds the residual, which
# needs no reference, and whether a cycle followed.

# %%
times, kinetic, total, residuals, dipoles = [], [], [], [], []


def look() -> None:
    times.append(dynamics.get_time() / units.fs)
    kinetic.append(water.get_kinetic_energy())
    total.append(water.get_total_energy())
    residuals.append(water.calc.report.residual)
    dipoles.append(np.linalg.norm(water.get_dipole_moment()) / units.Debye)


dynamics = VelocityVerlet(water, timestep=0.6 * units.fs)
dynamics.attach(look)
dynamics.run(30)
drift = np.ptp(total)
print(f'{1000 * np.ptp(kinetic):.0f} meV go to and fro, and the sum is kept to {1000 * drift:.2f} meV')
print(f'largest residual {max(residuals):.2g} electrons per electron')
assert drift < 0.05 * np.ptp(kinetic)

# %%
figure = Picture(figsize=(7, 3.5), layout='constrained')
energy_axes, dipole_axes = figure.subplots(1, 2)
energy_axes.plot(times, np.array(kinetic) - kinetic[0], label='kinetic')
energy_axes.plot(times, np.array(total) - total[0], label='total')
energy_axes.set(xlabel='fs', ylabel='change of energy / eV')
energy_axes.legend()
dipole_axes.plot(times, dipoles)
dipole_axes.yaxis.set_major_formatter(ScalarFormatter(useOffset=False))
dipole_axes.set(xlabel='fs', ylabel='dipole moment / D')
figure

# %% [markdown]
# ## What to try
#
# - `OnePassGPAW(..., until={'residual': 2e-3})`: a cycle where one pass is worse than that; `until={}`: never.
# - `SeededGPAW` in its place: self-consistent forces, in fewer iterations than from GPAW's own start.
# - The dipole moment along the path is that of the predicted density, and costs nothing more: its spectrum is infrared
#   absorption.
