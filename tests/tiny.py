"""A small untrained model of water and atoms to try it on: right in form, wrong in its figures."""

from __future__ import annotations

import numpy as np
import torch
from ase import Atoms
from ase.build import molecule

from ase_deepdensity.basis import SplineBasis
from ase_deepdensity.codes import code_of
from ase_deepdensity.level import Level
from ase_deepdensity.model import Architecture, DensityModel
from ase_deepdensity.network.contract import DensityNetwork
from ase_deepdensity.network.environment_distance import EnvironmentDistance
from ase_deepdensity.system import system_of

SPECIES = (1, 8)
HYPERS = {'cutoff': 3.5, 'lmax': 2, 'radial': 4, 'channels': 8, 'message_channels': 4, 'pseudo_channels': 4}
INVARIANT_HYPERS = {'cutoff': 3.5, 'lmax': 2, 'radial': 4, 'embedding': 4, 'axes': 2, 'width': 8, 'depth': 1}
BASIS = SplineBasis(2.5, 4, 2)


def water_box(repeat: tuple[int, int, int] = (2, 2, 2), *, spacing: float = 3.1, seed: int = 0) -> Atoms:
    """Randomly turned molecules on a simple cubic lattice (spacing in Å)."""
    rng = np.random.default_rng(seed)
    box = Atoms(cell=spacing * np.array(repeat), pbc=True)
    for site_c in np.ndindex(*repeat):
        water = molecule('H2O')
        water.rotate(rng.uniform(0, 360), rng.normal(size=3), center='COM')
        water.translate(spacing * (np.array(site_c) + 0.5) + rng.normal(scale=0.1, size=3))
        box += water
    return box


def build_model(
    level: Level,
    *,
    network: str = 'equivariant',
    seed: int = 0,
    species: tuple[int, ...] = SPECIES,
    **hypers: object,
) -> DensityModel:
    """The model, with GPAW's superposition of atoms and random weights that add a few hundredths to it."""
    torch.manual_seed(seed)
    code = code_of(level)
    level = code.check(level, species)
    atom_types = dict(zip(species, code.atom_types(level, species), strict=True))
    projectors = tuple(atom_type.l_j for atom_type in atom_types.values())
    usual = INVARIANT_HYPERS if network == 'invariant' else HYPERS
    architecture = Architecture(network, usual | hypers, species, projectors, BASIS)
    built = architecture.build().eval()
    built.set_elements(atom_types)
    for name, buffer in built.named_buffers():
        if '.scale' in name and 'scale_z' not in name:
            buffer.fill_(0.01)
        if name == 'input_scale_lx' and network == 'equivariant':
            buffer[:, len(species) * HYPERS['radial'] :] = 3000.0  # so that k-points count, where they are told
    card = {'name': 'tiny', 'training': {'steps': 0}, 'validation': {'NMAE of ñ, %': 10.9}}
    return DensityModel(architecture, built, level, atom_types, _familiarity(built, level), card)


def _familiarity(network: DensityNetwork, level: Level) -> EnvironmentDistance:
    boxes = [water_box(spacing=2.8 + 0.1 * seed, seed=seed) for seed in range(8)]
    for atoms in boxes:
        atoms.rattle(0.08, seed=1)
    known = [atoms[np.isin(atoms.numbers, network.species)] for atoms in boxes]
    return EnvironmentDistance.of(
        network, [system_of(atoms, network, level).to(dtype=torch.float32) for atoms in known]
    )
