"""Atoms as a network sees them: the way from ASE and a level of theory into the tensors of ``network/``."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from ase import Atoms

from ase_deepdensity.arguments import reason
from ase_deepdensity.level import Level, LevelError
from ase_deepdensity.network.contract import DensityNetwork
from ase_deepdensity.network.electron_gas import Waves
from ase_deepdensity.network.system import System, build_system


def system_of(
    atoms: Atoms | Sequence[Atoms],
    network: DensityNetwork,
    level: Level,
    *,
    charges: Sequence[float] | None = None,
    position_av: torch.Tensor | None = None,
) -> System:
    """What a network sees of atoms, or of several at once, float64.

    Parameters
    ----------
    level
        Whose k-points and valence electrons a network is told that asks for them.
    charges
        Total charge of each, |e|; default: that of the level.
    position_av
        Instead of those of the atoms: a tensor (natoms of all, 3), Å, that requires a gradient.

    Raises
    ------
    LevelError
        See :func:`kpoints`; for a network that is told about them.
    """
    all_atoms = [atoms] if isinstance(atoms, Atoms) else list(atoms)
    charges = [level.charge] * len(all_atoms) if charges is None else charges
    if position_av is None:
        position_tav: Sequence[np.ndarray | torch.Tensor] = [one.positions for one in all_atoms]
    else:
        position_tav = position_av.split([len(one) for one in all_atoms])
    systems = [
        build_system(
            one.numbers,
            positions,
            one.cell.array,
            one.pbc,
            network.cutoff,
            charge=charge,
            magmom_a=one.get_initial_magnetic_moments(),
            waves=_waves(one, network, level, charge),
        )
        for one, positions, charge in zip(all_atoms, position_tav, charges, strict=True)
    ]
    return System.join(systems, network.cutoff)


def _waves(atoms: Atoms, network: DensityNetwork, level: Level, charge: float) -> Waves | None:
    """Of these atoms' cell and k-points, if the network asks for them."""
    if not network.sees_kpoints:
        return None
    electrons = level.setups(atoms.numbers).nvalence - charge
    return network.waves(atoms.cell.array, kpoints(level, atoms), electrons)


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
