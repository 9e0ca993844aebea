"""Atoms as a network sees them: the way from ASE and a level of theory into the tensors of ``network/``."""

from __future__ import annotations

import torch
from ase import Atoms

from ase_deepdensity.codes.gpaw.kpoints import kpoints
from ase_deepdensity.level import Level
from ase_deepdensity.network.contract import DensityNetwork
from ase_deepdensity.network.graph import Graph, build_graph


def atoms_graph(
    atoms: Atoms,
    network: DensityNetwork,
    level: Level,
    *,
    positions_av: torch.Tensor | None = None,
) -> Graph:
    """The graph of ``atoms`` for a network, float64.

    Parameters
    ----------
    level
        Whose k-points and valence electrons a network is told that asks for them.
    positions_av
        Instead of those of the atoms: a tensor (natoms, 3), Å, that requires a gradient.

    Raises
    ------
    ValueError
        Elements that the network does not know.
    LevelError
        See :func:`kpoints`; for a network that is told about them.
    """
    waves = None
    if network.sees_kpoints:
        electrons = level.setups(atoms.numbers).nvalence - level.charge
        waves = network.waves(atoms.cell.array, kpoints(level, atoms), electrons)
    return build_graph(
        atoms.numbers,
        atoms.positions if positions_av is None else positions_av,
        atoms.cell.array,
        atoms.pbc,
        network.species,
        network.cutoff,
        waves,
    )
