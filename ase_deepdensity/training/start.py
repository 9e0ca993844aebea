"""How a training begins: the architecture, first weights and scales, and what fine-tuning keeps of its model."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from ase.data import chemical_symbols

from ase_deepdensity.dataset import Dataset
from ase_deepdensity.evaluate.superposition import RadialTable
from ase_deepdensity.level import Level
from ase_deepdensity.model import Architecture, DensityModel
from ase_deepdensity.network.contract import Coefficient, DensityNetwork
from ase_deepdensity.network.environment_distance import EnvironmentDistance, invariants_by_species
from ase_deepdensity.reference.codes import code
from ase_deepdensity.training.config import TrainingConfig
from ase_deepdensity.training.least_squares import fit_coefficients
from ase_deepdensity.training.samples import GridSampler, Sample

SCALE_ATOMS = 100
"""Atoms of each element from which the scales of inputs and outputs are taken, as far as there are so many."""


class TrainingError(ValueError):
    """A training that cannot begin or go on; what was reached is kept."""


def architecture_for(config: TrainingConfig, dataset: Dataset, init: DensityModel | None) -> Architecture:
    """That of the model to start from, or a new one for the elements of the data.

    Raises
    ------
    TrainingError
        Elements that the model to start from does not know.
    """
    if init is None:
        species = tuple(dataset.numbers)
        setups = dataset.level.setups(species)
        projectors = tuple(tuple(int(l) for l in setup.l_j) for setup in setups)
        return Architecture(config.network, config.hypers, species, projectors, config.basis)
    if unknown := [chemical_symbols[Z] for Z in dataset.numbers if Z not in init.species]:
        raise TrainingError(
            f'the data set has {", ".join(unknown)}, which {init.name} does not know (it knows '
            f'{", ".join(init.symbols)}): start from a model that does, or without --init'
        )
    return init.architecture


def level_for(dataset: Dataset, init: DensityModel | None) -> Level:
    """The level of the model: that of the data, with the datasets of all elements that the model will know."""
    level = dataset.level.general()
    if init is None:
        return level
    return level.joined(init.level if init.level == level else level.with_versions(init.species))


def superposition_for(level: Level, dataset: Dataset, init: DensityModel | None) -> dict[int, RadialTable]:
    """Pseudo densities of the isolated atoms by atomic number, for all elements that the model will know."""
    kept = init.superposition if init is not None and init.level == level else {}
    wanted = dataset.numbers if init is None else init.species
    tables = code(level).atomic_tables(level, [Z for Z in wanted if Z in dataset.numbers or Z not in kept])
    return dict(sorted((kept | {Z: RadialTable.fit(r_g, n_g) for Z, (r_g, n_g) in tables.items()}).items()))


def initialize(
    network: DensityNetwork,
    samples: Sequence[Sample],
    sampler: GridSampler,
    level: Level,
    init: DensityModel | None,
    seed: int,
) -> None:
    """Weights of another model, or random ones; scales from the data unless that model is of their level."""
    if init is not None:
        network.load_state_dict(init.network.state_dict())
        if init.level == level:
            return
    chosen = _for_scales(samples, network.species, seed)

    def fit(expand: Callable[[Coefficient], Coefficient], sizes: list[int]) -> list[list[Coefficient]]:
        return [[fit_coefficients(sample, sampler, expand, sizes)] for sample in chosen]

    D_tzsaii = [{Z: D_aii[None] for Z, D_aii in sample.D_zaii.items()} for sample in samples]
    network.fit_scale([sample.system for sample in chosen], fit, D_tzsaii)


def _for_scales(samples: Sequence[Sample], species: Sequence[int], seed: int) -> list[Sample]:
    """Snapshots at random, until there are enough atoms of each element."""
    order = np.random.default_rng((seed, 2)).permutation(len(samples))
    counts_z, chosen = np.zeros(len(species), int), []
    for sample in (samples[i] for i in order):
        new_z = np.array([len(sample.system.atoms_of(Z)) for Z in species])
        if (new_z[counts_z < SCALE_ATOMS] > 0).any():
            chosen.append(sample)
            counts_z += new_z
    return chosen


@torch.no_grad()
def fit_familiarity(network: DensityNetwork, samples: Sequence[Sample], init: DensityModel | None) -> EnvironmentDistance:
    """From the environments in the training data; of elements that are not in them, what the first model knew."""
    invariants_zac = invariants_by_species(network, [sample.system for sample in samples])
    met = [z for z, x_ac in enumerate(invariants_zac) if len(x_ac)]
    distance = EnvironmentDistance.fit([invariants_zac[z] for z in met])
    if init is None or len(met) == len(network.species):
        return distance
    state, new = init.familiarity.state_dict(), distance.state_dict()
    if state.keys() != new.keys():
        raise ValueError(
            f'the file of {init.name} is of an older version, which can be fine-tuned only on data with all its '
            f'elements, {" ".join(init.symbols)}'
        )
    state = {name: x_sx.clone() for name, x_sx in state.items()}
    for name, x_sx in new.items():
        state[name][met] = x_sx.to(state[name])
    return EnvironmentDistance(**state)
