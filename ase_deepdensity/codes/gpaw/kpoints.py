"""The k-points that GPAW would take, found without GPAW."""

from __future__ import annotations

from typing import Any

import numpy as np
from ase import Atoms
from ase.calculators.calculator import kpts2sizeandoffsets
from ase.dft.kpoints import monkhorst_pack

from ase_deepdensity.arguments import reason
from ase_deepdensity.codes.gpaw.grid import mode_of
from ase_deepdensity.level import Level, LevelError


def kpoints(level: Level, atoms: Atoms) -> np.ndarray:
    """(K, 3) all k-points of the Brillouin zone that a level has for these atoms, scaled.

    Raises
    ------
    LevelError
        A level that has none, or k-points that GPAW refuses.
    """
    mode_of(level.parameters)
    kpts = level.parameters.get('kpts')
    try:
        return _kpoints((1, 1, 1) if kpts is None else kpts, atoms)
    except Exception as error:
        raise LevelError(
            f'GPAW refuses the k-points {kpts!r} ({reason(error)}): give three numbers, a list of points, '
            '{"size": …} or {"density": …}'
        ) from error


def _kpoints(kpts: Any, atoms: Atoms) -> np.ndarray:
    if isinstance(kpts, dict) and 'kpts' in kpts:
        return _listed(kpts['kpts'])
    if isinstance(kpts, dict) and 'path' in kpts:
        return _path(atoms, **{key: value for key, value in kpts.items() if key != 'name'})
    if isinstance(kpts, dict):
        return _mesh(atoms, **{key: value for key, value in kpts.items() if key != 'name'})
    return _mesh(atoms, size=np.array(kpts)) if np.ndim(kpts) == 1 else _listed(kpts)


def _listed(points: Any) -> np.ndarray:
    kpt_Kc = np.array(points, float)
    if kpt_Kc.ndim != 2 or kpt_Kc.shape[1] != 3 or not len(kpt_Kc):
        raise ValueError(f'a list of k-points has three numbers for each, not the shape {kpt_Kc.shape}')
    return kpt_Kc


def _mesh(atoms: Atoms, **mesh: Any) -> np.ndarray:
    """A Monkhorst–Pack mesh, doi:10.1103/PhysRevB.13.5188; only along periodic axes."""
    size_c, offset_c = kpts2sizeandoffsets(**mesh, atoms=atoms)
    if (np.asarray(size_c)[~atoms.pbc] != 1).any():
        raise ValueError(f'{np.asarray(size_c).tolist()} points, but periodic are {atoms.pbc.tolist()}')
    return monkhorst_pack(size_c) + offset_c


def _path(atoms: Atoms, path: str, npoints: int) -> np.ndarray:
    return atoms.cell.bandpath(path, npoints=npoints, pbc=atoms.pbc).kpts
