"""Densities of any size as Zarr: a folder of compressed chunks, each a slab, that xarray and dask read piece by piece.

    n.zarr/nt_sR           (spin, a, b, c) ñ, electrons/Å³; a, b, c along the lattice vectors
    n.zarr/sigma_sR        the same of σ, its likely error, where that is known
    n.zarr/D_O             (spin, O, i_O, j_O) density matrices of the atoms of an element, in their order
    n.zarr/sigma_D_O, sigma_dipole      σ of these and, (xyz), of the dipole moment, where they are known
    n.zarr/numbers, positions, cell, and as attributes level, model, charge, boundary conditions, versions

The folder appears whole or not at all.
"""

from __future__ import annotations

import importlib.metadata
import json
import os
import shutil
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np
from ase import Atoms
from ase.data import chemical_symbols

from ase_deepdensity.codes.gpaw.mpi import OneProcess, broadcast, shared_exception
from ase_deepdensity.dataset.volumetric import in_order
from ase_deepdensity.files import naming, remove_stale_temporaries, temporary_path
from ase_deepdensity.grid import Grid
from ase_deepdensity.level import Level
from ase_deepdensity.packages import require

if TYPE_CHECKING:
    import zarr
    from gpaw.mpi import MPIComm

FORMAT, VERSION = 'ase-deepdensity zarr density', 1
AXES = 'spin', 'a', 'b', 'c'


def check_zarr_target(path: Path) -> None:
    """Refuse a folder or file of this name that is no density of ours: it is not replaced.

    Raises
    ------
    ValueError
        It names the folder.
    """
    if not os.path.lexists(path):
        return
    try:
        found = json.loads((path / 'zarr.json').read_text(encoding='utf-8'))['attributes']['format']
    except (OSError, ValueError, LookupError, TypeError):
        found = None
    if found != FORMAT:
        raise ValueError(f'{path}: this is there already and no density that this program has written; remove it first')


@contextmanager
def _replacing_folder(path: Path) -> Iterator[Path]:
    """A folder that takes the place of ``path`` when the block ends; after an error nothing is left of it."""
    check_zarr_target(path)
    remove_stale_temporaries(path.parent)
    new = temporary_path(path)
    try:
        with naming(path):
            yield new
        if path.exists():
            old = temporary_path(path)
            os.rename(path, old)
            os.rename(new, path)
            shutil.rmtree(old)
        else:
            os.rename(new, path)
    finally:
        shutil.rmtree(new, ignore_errors=True)


def write_zarr(
    path: str | Path,
    atoms: Atoms,
    grid: Grid,
    slabs: Iterable[tuple[Grid, np.ndarray]],
    D_zsaii: Mapping[int, np.ndarray],
    *,
    nspins: int,
    dtype: np.dtype[Any],
    planes: int,
    level: Level,
    charge: float = 0.0,
    model: str = '',
    sigma_sR: np.ndarray | None = None,
    sigma_D_zsaii: Mapping[int, np.ndarray] | None = None,
    sigma_dipole_v: np.ndarray | None = None,
    comm: MPIComm | None = None,
    finish: Callable[[], None] = lambda: None,
) -> None:
    """Write a density slab by slab, of which one is held at a time.

    All ranks of ``comm`` do it together; they must see one disk, and an error of one rank is one of all.

    Parameters
    ----------
    grid
        The whole grid.
    slabs
        That follow each other along its first axis, with ñ (1 or 2, n0, n1, n2) there, electrons/Å³; of several ranks
        those of this one, whole chunks each.
    D_zsaii
        By atomic number the density matrices (1 or 2, natoms of it, ni, ni) of all atoms; looked at on rank 0.
    nspins, dtype
        Of all slabs.
    planes
        Of a chunk.
    level, charge, model
        Where it comes from.
    sigma_sR
        (1, n0, n1, n2) σ of ñ on the whole grid, electrons/Å³; looked at on rank 0, as are the next two.
    sigma_D_zsaii, sigma_dipole_v
        σ of ``D_zsaii``, and (3,) of the dipole moment, e·Å.
    comm
        Default: this process alone.
    finish
        What all ranks do when all is written; after an error there nothing is left.

    Raises
    ------
    ValueError
        Something else stands at ``path``; one process, and its slabs are not the grid.
    OSError
        A full disk.
    """
    require('zarr', 'large', 'Zarr files')
    import zarr

    comm = cast('MPIComm', OneProcess()) if comm is None else comm
    with shared_exception(comm), ExitStack() as stack:
        folder = None
        with shared_exception(comm):
            if comm.rank == 0:
                folder = stack.enter_context(_replacing_folder(Path(path)))
                group: Any = zarr.create_group(folder, attributes=_provenance(atoms, grid, level, charge, model))
                _write_atoms(group, atoms, D_zsaii)
                _write_sigma(group, sigma_D_zsaii or {}, sigma_dipole_v)
                _create_density(group, 'nt_sR', 'pseudo density', (nspins, *grid.shape), dtype, planes)
                if sigma_sR is not None:
                    _create_density(group, 'sigma_sR', 'standard deviation', sigma_sR.shape, dtype, planes)
                    group['sigma_sR'][:] = sigma_sR
        folder = broadcast(folder, 0, comm)
        with shared_exception(comm), naming(path):
            data: Any = zarr.open_group(folder, mode='r+')['nt_sR']
            for start, nt_sR in in_order(grid, slabs) if comm.size == 1 else _places(grid, slabs):
                data[:, start : start + nt_sR.shape[1]] = nt_sR
        finish()
        if comm.rank == 0:
            _consolidate(group)


def _places(grid: Grid, slabs: Iterable[tuple[Grid, np.ndarray]]) -> Iterator[tuple[int, np.ndarray]]:
    """Where each slab begins along the first axis, and ñ there."""
    for slab, nt_sR in slabs:
        yield int(slab.start_c[0] - grid.start_c[0]), nt_sR


def _create_density(
    group: Any, name: str, long_name: str, shape: tuple[int, ...], dtype: np.dtype[Any], planes: int
) -> None:
    group.create_array(
        name, shape=shape, chunks=(1, min(planes, shape[1]), *shape[2:]), dtype=dtype, dimension_names=AXES,
        attributes={'units': 'electron/angstrom^3', 'long_name': long_name},
    )  # fmt: skip


def _consolidate(group: Any) -> None:
    """What xarray looks for."""
    import zarr

    with warnings.catch_warnings():  # of its being no part of Zarr's specification yet
        warnings.simplefilter('ignore')
        zarr.consolidate_metadata(group.store)


def _provenance(atoms: Atoms, grid: Grid, level: Level, charge: float, model: str) -> dict[str, Any]:
    return {
        'format': FORMAT,
        'version': VERSION,
        'made_by': f'ase_deepdensity {importlib.metadata.version("ase_deepdensity")}',
        'model': model,
        'level': level.to_dict(),
        'charge': charge,
        'formula': atoms.get_chemical_formula(),
        'cell_cv': grid.cell_cv.tolist(),
        'pbc_c': grid.pbc_c.tolist(),
        'size_c': grid.size_c.tolist(),
        'zerobc_c': grid.zerobc_c.tolist(),
        'units': 'electron, angstrom',
    }


def _write_atoms(group: Any, atoms: Atoms, D_zsaii: Mapping[int, np.ndarray]) -> None:
    _put(group, 'numbers', atoms.numbers, ('atom',), long_name='atomic numbers')
    _put(group, 'positions', atoms.positions, ('atom', 'xyz'), units='angstrom')
    _put(group, 'cell', atoms.cell.array, ('vector', 'xyz'), units='angstrom')
    _put(group, 'magmoms', atoms.get_initial_magnetic_moments(), ('atom',), units='bohr_magneton')
    _put_matrices(group, 'D', D_zsaii, 'atomic density matrices')


def _write_sigma(group: Any, sigma_D_zsaii: Mapping[int, np.ndarray], sigma_dipole_v: np.ndarray | None) -> None:
    """Of what is known."""
    _put_matrices(group, 'sigma_D', sigma_D_zsaii, 'standard deviation')
    if sigma_dipole_v is not None:
        _put(group, 'sigma_dipole', sigma_dipole_v, ('xyz',), units='e angstrom', long_name='standard deviation')


def _put_matrices(group: Any, name: str, D_zsaii: Mapping[int, np.ndarray], long_name: str) -> None:
    """One array for each element."""
    for Z, D_saii in D_zsaii.items():
        symbol = chemical_symbols[Z]
        axes = 'spin', symbol, f'i_{symbol}', f'j_{symbol}'
        _put(group, f'{name}_{symbol}', D_saii, axes, long_name=long_name)


def _put(group: Any, name: str, array: np.ndarray, axes: tuple[str, ...], **attributes: Any) -> None:
    group.create_array(name, data=np.ascontiguousarray(array), dimension_names=axes, attributes=attributes)


def read_zarr(path: str | Path) -> tuple[Atoms, Grid, zarr.Array[Any]]:
    """Atoms, grid and ñ (1 or 2, n0, n1, n2), of which what is asked for is read.

    Raises
    ------
    ValueError
        No density of ours.
    """
    group = _opened(path)
    attributes = group.attrs
    grid = Grid(
        *(np.array(attributes[name]) for name in ('cell_cv', 'size_c', 'pbc_c', 'zerobc_c')),
    )
    magmom_a = np.asarray(group['magmoms'][:])
    atoms = Atoms(
        numbers=group['numbers'][:],
        positions=group['positions'][:],
        cell=group['cell'][:],
        pbc=grid.pbc_c,
        magmoms=magmom_a if magmom_a.any() else None,
    )
    return atoms, grid, group['nt_sR']


def read_zarr_sigma(path: str | Path) -> zarr.Array[Any] | None:
    """σ of ñ (1, n0, n1, n2), electrons/Å³, of which what is asked for is read; None: nothing is told of it.

    Raises
    ------
    ValueError
        No density of ours.
    """
    data: zarr.Array[Any] | None = _opened(path).get('sigma_sR')
    return data


def _opened(path: str | Path) -> Any:
    """The group of a density of ours."""
    require('zarr', 'large', 'Zarr files')
    import zarr

    path = Path(path)
    if not path.exists():
        raise ValueError(f'{path}: no such folder')
    check_zarr_target(path)
    return zarr.open_group(path, mode='r')
