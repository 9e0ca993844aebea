"""Atoms as a network sees them: the way from ASE and a level of theory into the tensors of ``network/``."""

from __future__ import annotations

import torch
from ase import Atoms

from ase_deepdensity.codes import code_of
from ase_deepdensity.geometry import total_charge
from ase_deepdensity.level import Level
from ase_deepdensity.network.contract import DensityNetwork
from ase_deepdensity.network.graph import Graph, build_graph


def atoms_graph(
    atoms: Atoms,
    network: DensityNetwork,
    level: Level,
    *,
    electrons: float | None = None,
    positions_av: torch.Tensor | None = None,
) -> Graph:
    """The graph of ``atoms`` for a network, float64.

    Parameters
    ----------
    level
        Whose k-points a network is told that asks for them.
    electrons
        Valence electrons, for such a network.  Default: those of the level's datasets, less the charge of the atoms.
    positions_av
        Instead of those of the atoms: a tensor (natoms, 3), Å, that requires a gradient.

    Raises
    ------
    ValueError
        Elements that the network does not know.
    LevelError
        See :meth:`.Code.kpoints`; for a network that is told about them.
    """
    waves = None
    if network.sees_kpoints:
        if electrons is None:
            types = code_of(level).atom_types(level, atoms.numbers)
            electrons = sum(atom_type.nvalence for atom_type in types) - total_charge(atoms)
        waves = network.waves(atoms.cell.array, code_of(level).kpoints(level, atoms), electrons)
    return build_graph(
        atoms.numbers,
        atoms.positions if positions_av is None else positions_av,
        atoms.cell.array,
        atoms.pbc,
        network.species,
        network.cutoff,
        waves,
    )
