"""Atoms as a network sees them: the way from ASE and a level of theory into the tensors of ``network/``."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from ase import Atoms

from ase_deepdensity.codes import code_of
from ase_deepdensity.geometry import total_charge
from ase_deepdensity.level import Level
from ase_deepdensity.network.blocks import Whole
from ase_deepdensity.network.contract import DensityNetwork
from ase_deepdensity.network.electron_gas import Waves
from ase_deepdensity.network.system import System, build_system


def system_of(
    atoms: Atoms | Sequence[Atoms],
    network: DensityNetwork,
    level: Level,
    *,
    charges: Sequence[float] | None = None,
    electrons: Sequence[float] | None = None,
    position_av: torch.Tensor | None = None,
) -> System:
    """What a network sees of atoms, or of several at once, float64.

    Parameters
    ----------
    level
        Whose k-points a network is told that asks for them.
    charges
        Total charge of each, |e|.  Default: see :func:`.total_charge`.
    electrons
        Valence electrons of each, for such a network.  Default: those of the level's datasets, less the charge.
    position_av
        Instead of those of the atoms: a tensor (natoms of all, 3), Å, that requires a gradient.

    Raises
    ------
    LevelError
        See :meth:`.Code.kpoints`; for a network that is told about them.
    """
    all_atoms = [atoms] if isinstance(atoms, Atoms) else list(atoms)
    charges = [total_charge(one) for one in all_atoms] if charges is None else charges
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
            waves=_waves(one, network, level, charge, None if electrons is None else electrons[t]),
        )
        for t, (one, positions, charge) in enumerate(zip(all_atoms, position_tav, charges, strict=True))
    ]
    return System.join(systems, network.cutoff)


def whole_of(atoms: Atoms, network: DensityNetwork, level: Level, *, charge: float, electrons: float) -> Whole:
    """Atoms as blocks are made of them, for a network that takes blocks; the arguments are those of :func:`system_of`.

    Raises
    ------
    LevelError
        As :func:`system_of`.
    """
    waves = _waves(atoms, network, level, charge, electrons)
    return Whole(
        atoms.numbers,
        atoms.positions,
        atoms.cell.array,
        atoms.pbc,
        charge,
        atoms.get_initial_magnetic_moments(),
        None if waves is None else waves.features(torch.from_numpy(atoms.positions)),
    )


def _waves(atoms: Atoms, network: DensityNetwork, level: Level, charge: float, electrons: float | None) -> Waves | None:
    """Of these atoms' cell and k-points, if the network asks for them."""
    if not network.sees_kpoints:
        return None
    code = code_of(level)
    if electrons is None:
        electrons = sum(atom_type.nvalence for atom_type in code.atom_types(level, atoms.numbers)) - charge
    return network.waves(atoms.cell.array, code.kpoints(level, atoms), electrons)
