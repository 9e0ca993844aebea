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
# # A model of my own from the .gpw files that I have
#
# Years of calculations lie on the disk as `.gpw` files. Those that hold a converged state are all that
# a model needs. Here a few small ones are made first, so that this runs by itself in some minutes: a hydrogen
# molecule at several lengths. With files of your own, begin at "A data set".

# %%
import tempfile
import warnings
from pathlib import Path

import numpy as np
from ase import Atoms
from gpaw.new.ase_interface import GPAW

from ase_deepdensity import Dataset, DeepDensity, PAWDensity
from ase_deepdensity.analysis.compare import nmae
from ase_deepdensity.checks import UnfamiliarWarning
from ase_deepdensity.generate.gpw import import_gpw
from ase_deepdensity.plot.pictures import plot_difference
from ase_deepdensity.training.config import TrainingConfig
from ase_deepdensity.training.loop import Trainer

folder = Path(tempfile.mkdtemp())


def hydrogen(length: float) -> Atoms:
    """A molecule in the middle of a box, turned a little so that no axis is special."""
    molecule = Atoms('H2', [(0, 0, 0), (0, 0, length)], cell=[5, 5, 5], pbc=True)
    molecule.rotate(40, (1, 1, 0))
    molecule.center()
    return molecule


for i, length in enumerate(np.linspace(0.68, 0.86, 8)):
    atoms = hydrogen(length)
    atoms.calc = GPAW(mode='lcao', basis='dzp', h=0.25, xc='PBE', txt=None)
    atoms.get_forces()
    atoms.calc.write(folder / f'{i}.gpw')

# %% [markdown]
# ## A data set
#
# Each file becomes a snapshot, with its level of theory: GPAW's parameters, its version, the checksums of its
# datasets. (On the command line: `deepdensity import *.gpw data/`.) A file of another level, or one that has not
# converged, is named and left out.

# %%
result = import_gpw(sorted(folder.glob('*.gpw')), folder / 'data', progress=False)
print(result.lines()[0])
dataset = Dataset(folder / 'data')
dataset

# %% [markdown]
# ## A model
#
# Two of eight snapshots are set aside to validate on. A real model wants some hundred snapshots and the default
# settings (`deepdensity train data/ --out mymodel`); here 300 steps of a small network are enough.

# %%
config = TrainingConfig(
    hypers={'channels': 16, 'message_channels': 4, 'layers': 1},
    validation=2,
    validate_every=100,
    steps=300,
)
model = Trainer(dataset, folder / 'hydrogen.safetensors', config, progress=False).run()
model

# %% [markdown]
# ## What it is worth
#
# A length between those of the files, against GPAW. The picture shows the plane through the middle of the bond.

# %%
warnings.simplefilter('ignore', UnfamiliarWarning)  # eight snapshots: much is unlike all of them
atoms = hydrogen(0.745)
predicted = DeepDensity(model).predict(atoms)
atoms.calc = GPAW(mode='lcao', basis='dzp', h=0.25, xc='PBE', txt=None)
atoms.get_potential_energy()
reference = PAWDensity.from_gpaw(atoms.calc)
print(f'error {nmae(predicted, reference):.2f} % of the density')
plot_difference(predicted, reference)

# %% [markdown]
# ## What to try
#
# - Files of your own, in the folder's place.
# - `deepdensity sample perturb` and `deepdensity generate` for more snapshots where the data lack something.
# - `SeededGPAW('0.gpw')`: the next calculation starts from a finished one.
