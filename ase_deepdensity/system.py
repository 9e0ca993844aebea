"""Atoms as a network sees them: the way from ASE and a level of theory into the tensors of ``network/``."""

from __future__ import annotations

import numpy as np
import torch
from ase import Atoms

from ase_deepdensity.arguments import reason
from ase_deepdensity.level import Level, LevelError
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


def kpoints(level: Level, atoms: Atoms) -> np.ndarray:
    """(K, 3) all k-points of the Brillouin zone that the level has for these atoms, scaled.

    Raises
    ------
    LevelError
        A level that has none, or k-points that GPAW refuses.
    """
    params = level.gpaw_parameters()
    try:
        kpt_Kc: np.ndarray = params.kpts.build(atoms).kpt_Kc
    except Exception as error:
        raise LevelError(
            f'GPAW refuses the k-points {level.parameters.get("kpts")!r} ({reason(error)}): give three numbers, a list '
            'of points, {"size": …} or {"density": …}'
        ) from error
    return kpt_Kc
