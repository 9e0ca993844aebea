"""How a training begins: the architecture, first weights and scales, and what fine-tuning keeps of its model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from ase.data import chemical_symbols

from ase_deepdensity.codes import code_of
from ase_deepdensity.collocation.density import DensityEvaluator
from ase_deepdensity.dataset import Dataset
from ase_deepdensity.level import Level
from ase_deepdensity.model import Architecture, DensityModel
from ase_deepdensity.network.contract import Coefficient, DensityNetwork
from ase_deepdensity.network.environment_distance import EnvironmentDistance, invariants_by_species
from ase_deepdensity.network.system import System
from ase_deepdensity.paw import AtomType
from ase_deepdensity.training.batch import cosets, on
from ase_deepdensity.training.config import TrainingConfig
from ase_deepdensity.training.data import TrainingData
from ase_deepdensity.training.least_squares import Expand, fit_coefficients

SCALE_ATOMS = 100
"""Atoms of each element from which the scales of inputs and outputs are taken, as far as there are so many."""

FAMILIAR_ATOMS = 20000
"""Atoms of each element whose environments count as familiar, likewise."""


NMOMENTS = 7
"""Factors of the moments of a spin-polarised system with which its environments count as familiar."""
FEW_SNAPSHOTS = 30
"""Up to so many, fine-tuning is by default that of :data:`TUNING`."""

TUNING: Mapping[str, Any] = {
    'trained': 'elements',
    'steps': 300,
    'learning_rate': 0.01,
    'warmup': 10,
    'averaging': 0.97,
    'smoothing': 0.0003,
    'validate_every': 50,
}
"""Settings for a few snapshots, of which the elements' own weights learn in a minute."""


class TrainingError(ValueError):
    """A training that cannot begin or go on; what was reached is kept."""


def split(dataset: Dataset, validate_on: Dataset | None, config: TrainingConfig) -> tuple[Dataset, Dataset]:
    """What to train on and what to validate on: other snapshots, or some that are set aside.

    Raises
    ------
    TrainingError
        Other snapshots with elements that are not trained on, or that are trained on, too.
    DatasetError
        See :meth:`.Dataset.split`.
    """
    if validate_on is None:
        number = config.validation if config.validation is not None else max(1, len(dataset) // 10)
        return dataset.split(number, seed=config.seed, compounds=config.split == 'compounds')
    if config.validation is not None:
        raise TrainingError(f'validation: {config.validation} snapshots, or a data set to validate on, not both')
    if unknown := [chemical_symbols[Z] for Z in validate_on.numbers if Z not in dataset.numbers]:
        raise TrainingError(f'the data to validate on have {", ".join(unknown)}, which nothing is trained on')
    if both := {file.resolve() for file in dataset.files} & {file.resolve() for file in validate_on.files}:
        raise TrainingError(f'{min(both)} is to be trained on and to validate on; it cannot be both')
    return dataset, validate_on


def architecture_for(config: TrainingConfig, dataset: Dataset, init: DensityModel | None) -> Architecture:
    """A new one for the elements of the data, or that of the model to start from, with elements that it does not know.

    Raises
    ------
    TrainingError
        There are such elements, and its network cannot take them; or datasets with other projectors than the model's.
    """
    l_j = {number: atom_type.l_j for number, atom_type in dataset.atom_types.items()}
    if init is None:
        return Architecture(config.network, config.hypers, tuple(l_j), tuple(l_j.values()), config.basis)
    unknown = [chemical_symbols[Z] for Z in l_j if Z not in init.species]
    if unknown and not init.network.takes_elements:
        raise TrainingError(
            f'the data set has {", ".join(unknown)}, which {init.name} does not know (it knows '
            f'{", ".join(init.symbols)}), and its network ({init.architecture.network}) cannot take new elements: '
            'start from a model that knows them, or without --init'
        )
    others = [
        f'{chemical_symbols[Z]} ({list(known)} in {init.name}, {list(l_j[Z])} in the data)'
        for Z, known in zip(init.species, init.architecture.projectors, strict=True)
        if Z in l_j and tuple(l_j[Z]) != tuple(known)
    ]
    if others:
        raise TrainingError(
            f'the data are of PAW datasets with other projectors than those that {init.name} knows: '
            f'{", ".join(others)}; train without --init'
        )
    l_j = dict(sorted((l_j | dict(zip(init.species, init.architecture.projectors, strict=True))).items()))
    return replace(init.architecture, species=tuple(l_j), projectors=tuple(l_j.values()))


def tuning_defaults(dataset: Dataset, init: DensityModel | None) -> Mapping[str, Any]:
    """Settings instead of the usual ones where few snapshots are for a model whose elements have own weights."""
    few = init is not None and init.network.takes_elements and len(dataset) <= FEW_SNAPSHOTS
    return TUNING if few else {}


def trained_weights(
    network: DensityNetwork, config: TrainingConfig, dataset: Dataset, init: DensityModel | None
) -> list[torch.nn.Parameter] | None:
    """What a training may change, None: all weights.

    Raises
    ------
    TrainingError
        The elements' own weights are asked for, and there is no model to begin with, or it has none.
    """
    if config.trained == 'all':
        return None
    if init is None:
        raise TrainingError(f'trained: {config.trained!r} is for fine-tuning: name a model to start from (--init)')
    try:
        return network.parameters_of(dataset.numbers)
    except ValueError as error:
        raise TrainingError(f'{init.name} cannot be trained with trained: {config.trained!r}: {error}') from None


def level_for(dataset: Dataset, init: DensityModel | None) -> Level:
    """The level of the model: that of the data, with the datasets of all elements that the model will know.

    Of a model that was at this level before also the name and how its seeds are driven to convergence: data may be
    converged more loosely than the calculations that are to start from predictions.
    """
    level = dataset.level.general()
    if init is None:
        return level
    if init.level == level:
        return init.level.joined(level)
    return level.joined(code_of(level).check(level, init.species))


def atom_types_for(level: Level, dataset: Dataset, init: DensityModel | None) -> dict[int, AtomType]:
    """By atomic number, for all elements that the model will know.

    Those of elements that the data lack are the first model's; at another level, the level's code is asked.
    """
    known = dict(dataset.atom_types)
    if init is not None and init.level == level:
        known |= init.atom_types
    missing = [number for number in init.species if number not in known] if init is not None else []
    known |= {number: code_of(level).atom_types(level, [number])[0] for number in missing}
    return dict(sorted(known.items()))


def initialize(
    network: DensityNetwork,
    data: TrainingData,
    evaluate: DensityEvaluator,
    atom_types: Mapping[int, AtomType],
    init: DensityModel | None,
    seed: int,
) -> None:
    """Weights and scales of another model, or random weights and scales from the data.

    At another level, too, a model is nearer to the data with the scales that its weights were trained with.
    """
    if init is not None:
        new = {Z: atom_type for Z, atom_type in atom_types.items() if Z not in init.species}
        first = init.network.with_elements(new) if new else init.network
        network.load_state_dict(first.state_dict())
        return
    device = next(network.parameters()).device
    chosen = some_of_each_element(data, network.species, SCALE_ATOMS, seed)

    def fit(expand: Expand, sizes: list[int]) -> list[list[Coefficient]]:
        fits_ts = []
        for t in chosen:  # one density at a time
            batch = cosets([data[t]], [data.target(t)], network.cutoff, 1).to(device)
            fits_ts.append([fit_coefficients(batch, s, evaluate, expand, sizes) for s in range(len(batch.target_sp))])
        return fits_ts

    systems = [data[t].system.to(device) for t in chosen]
    network.fit_scale(systems, fit, [on(device, sample.D_zsaii) for sample in data])


def some_of_each_element(data: TrainingData, species: Sequence[int], natoms: int, seed: int) -> list[int]:
    """Snapshots at random, until there are ``natoms`` atoms of each element, as far as there are so many."""
    order = np.random.default_rng((seed, 2)).permutation(len(data)).tolist()
    counts_z, chosen = np.zeros(len(species), int), list[int]()
    for t in order:
        new_z = np.array([len(data[t].system.atoms_of(Z)) for Z in species])
        if (new_z[counts_z < natoms] > 0).any():
            chosen.append(t)
            counts_z += new_z
    return chosen


def with_moments_met(system: System, scatter: float) -> list[System]:
    """A system with its moments as large as a training has them, see :attr:`.TrainingConfig.moment_scatter`."""
    if not (scatter and system.is_spin_polarized):
        return [system]
    factors = np.linspace(1 - scatter, 1 + scatter, NMOMENTS)
    return [replace(system, magmom_a=system.magmom_a * float(factor)) for factor in factors]


@torch.no_grad()
def fit_familiarity(
    network: DensityNetwork, data: TrainingData, init: DensityModel | None, config: TrainingConfig
) -> EnvironmentDistance:
    """From environments in the training data; of elements that are not in them, what the first model knew.

    Where only weights of elements are trained, features mean what they meant to the first model: what it knew stays.
    """
    keeps = init.species if init is not None and config.trained == 'elements' else ()
    if init is not None and keeps == network.species:
        return init.familiarity
    device = next(network.parameters()).device
    chosen = some_of_each_element(data, network.species, FAMILIAR_ATOMS, config.seed)
    systems = [
        system for t in sorted(chosen) for system in with_moments_met(data[t].system.to(device), config.moment_scatter)
    ]
    invariants_zac = invariants_by_species(network, systems)
    met = [z for z, x_ac in enumerate(invariants_zac) if len(x_ac) and network.species[z] not in keeps]
    familiarity = EnvironmentDistance.fit([invariants_zac[z] for z in met])
    if init is None or len(met) == len(network.species):
        return familiarity
    if init.familiarity.NAMES != familiarity.NAMES:
        raise ValueError(
            f'the file of {init.name} is of an older version, which can be fine-tuned only on data with all its '
            f'elements, {" ".join(init.symbols)}'
        )
    rows = [
        (familiarity, met.index(z)) if z in met else (init.familiarity, init.species.index(Z))
        for z, Z in enumerate(network.species)
    ]
    return EnvironmentDistance.together(rows)
