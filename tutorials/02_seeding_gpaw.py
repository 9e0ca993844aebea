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
# # GPAW from a predicted density
#
# A DFT calculation begins with a guess of the density, and most of its time goes into correcting it. Here GPAW begins
# with a prediction instead. One molecule in a small box is enough to see how; it takes about a minute. Real gains are
# measured on larger systems, in `docs/benchmarks.md`.

# %%
import numpy as np
from ase.build import molecule
from gpaw.new.ase_interface import GPAW

from ase_deepdensity import OnePassGPAW, SeededGPAW
from ase_deepdensity.scf.compare import plot_convergence, run, table

water = molecule('H2O')
water.rattle(0.04, seed=1)
water.center(vacuum=2.5)
water.pbc = True
level = {'mode': 'lcao', 'basis': 'dzp', 'h': 0.2, 'xc': 'PBE'}

# %% [markdown]
# ## The same calculation from two starts
#
# `SeededGPAW` is GPAW's own calculator with another first density: ñ on the grid and the density matrix of each atom.
# The parameters must be those of the model's level of theory; if they are not, the error names each difference. Without
# parameters the level's own are taken.

# %%
default, gpaw = run('default', lambda: GPAW(txt=None, **level), water)
seeded, calc = run('seeded', lambda: SeededGPAW('water-pbe-dzp', txt=None, **level), water)
print(table([default, seeded]))

# %%
plot_convergence([default, seeded])

# %% [markdown]
# Both end at the same energy. The seeded run also says how good its start was: the residual, electrons per electron
# that change when the density is built anew from the orbitals in its own potential.

# %%
print(calc.seed_report)
assert abs(seeded.energy - default.energy) < 1e-3 and seeded.iterations < default.iterations

# %% [markdown]
# A bad seed does no harm. If that residual is large, it is thrown away, and GPAW goes on from its own start.
#
# ## No cycle at all
#
# The energy of a single pass at a predicted density is wrong by the *square* of its error. `OnePassGPAW` stops there.
# Its forces are the exact derivative of this energy, with the term that comes from the model.

# %%
one_pass = water.copy()
one_pass.calc = OnePassGPAW('water-pbe-dzp', txt=None)
error = one_pass.get_potential_energy() - default.energy
forces = one_pass.get_forces() - gpaw.get_forces()
print(f'energy off by {1000 * error / len(water):.3f} meV/atom, forces by {np.sqrt((forces**2).mean()):.4f} eV/Å')
print(one_pass.calc.report)

# %% [markdown]
# The report is the error bar, and it needs no reference: the residual here is that of the prediction itself, electrons
# per electron. Where it is too large, `OnePassGPAW` goes on to self-consistency by itself; `until={'residual': 1e-3}`
# asks for more than the default, `until={}` for one pass whatever comes out.
