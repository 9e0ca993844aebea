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
# # Insulators and metals on a line
#
# All of Deep Density in five minutes: solve the Kohn–Sham equations of a chain of atoms, learn the density from a
# few short chains, and predict it for a long one. In one dimension all of this takes seconds, and a density is a
# line that one can look at.
#
# The model has electrons that repel each other by a screened Coulomb force, one per orbital, and ions that are
# Gaussian charges. Narrow ions (σ = 2 bohr) go by the name He here, wide ones (σ = 6 bohr) by Be; both have charge 2.

# %%
import tempfile
import warnings
from itertools import islice
from pathlib import Path

import numpy as np

from ase_deepdensity import DeepDensity
from ase_deepdensity.analysis.compare import nmae
from ase_deepdensity.checks import UnfamiliarWarning
from ase_deepdensity.codes.ks1d.calculator import KohnSham1D
from ase_deepdensity.dataset import Dataset
from ase_deepdensity.generate import generate
from ase_deepdensity.level import Level
from ase_deepdensity.plot.pictures import plot_difference, plot_slice
from ase_deepdensity.sampling.geometries import chain
from ase_deepdensity.training.config import TrainingConfig
from ase_deepdensity.training.loop import Trainer

# %% [markdown]
# ## The Kohn–Sham equations
#
# `KohnSham1D` is an ASE calculator: energies in eV, forces in eV/Å. A chain lies along z, in a cell that is periodic
# along z only.

# %%
for kind in 'insulator', 'metal':
    atoms = next(chain(kind, 16, seed=3))
    atoms.calc = KohnSham1D()
    print(kind, atoms.symbols, atoms.get_potential_energy(), 'eV')
    print('    largest force', np.abs(atoms.get_forces()).max(), 'eV/Å')
    ground = atoms.calc.ground
    gap = np.diff(ground.eigenvalue_n[31:33])[0]
    print('    self-consistent after', ground.niter, 'iterations; gap', gap, 'hartree')

# %% [markdown]
# Narrow ions bind their electrons, and the highest occupied orbital is far below the lowest empty one: an insulator.
# Electrons of wide ions move freely. Moved ions pile up charge in some places, and in a metal the electrons screen it
# at once:

# %%
plot_slice(atoms.calc.density)

# %% [markdown]
# ## Data
#
# Ten chains of 16 atoms each, with random displacements. Every snapshot becomes a file, as GPAW's would; `ks1d` is a
# level of theory like any other. (On the command line: `deepdensity sample chain …`, `deepdensity generate …`.)

# %%
folder = Path(tempfile.mkdtemp())
level = Level.load('ks1d')
frames = list(islice(chain('insulator', 16, seed=1), 10))
print(generate(frames, folder / 'data', level, progress=False).lines()[0])

# %% [markdown]
# ## Learning
#
# The network sees, for each atom, its neighbours within 12 Å, and says how the density around this atom differs from
# the sum of the ions' own Gaussians. Here it is the invariant network, for which the electron is one more particle.
# 300 steps are few, so that this is quick; `docs/systems.md` shows what more of them bring.

# %%
config = TrainingConfig(
    network='invariant',
    hypers={'cutoff': 12.0},
    basis_cutoff=14.0,
    basis_functions=27,
    lmax=1,
    stride=1,
    smoothing=1e-5,
    matrix_weight=0.0,
    learning_rate=0.003,
    validation=2,
    validate_every=100,
    steps=300,
)
model = Trainer(Dataset(folder / 'data'), folder / 'chain.safetensors', config, progress=False).run()
print(model.number_of_parameters(), 'parameters, validation:', model.card['validation'])

# %% [markdown]
# ## A longer chain
#
# The model knows environments of atoms, not chains: four times as many atoms are no harder. The solver needs
# (number of atoms)³, the network a linear time.

# %%
warnings.simplefilter('ignore', UnfamiliarWarning)  # ten snapshots: much is unlike all of them
long = next(chain('insulator', 64, seed=2))
predicted = DeepDensity(model).predict(long)
long.calc = KohnSham1D()
long.get_potential_energy()
print('error:', nmae(predicted, long.calc.density), '%')
plot_difference(predicted, long.calc.density)

# %% [markdown]
# ## What to try
#
# - `chain('metal', …)`: screening makes the metal easier than it looks.
# - `chain('mixed', …)`: both kinds of atoms in random order. Cells of 8 atoms teach wrong things about long chains
#   here. Why? (Compare the density of a cell with that of three copies in a row: waves at the Fermi level go all the
#   way round a small cell.)
# - Fewer snapshots, or `network='equivariant'`.
