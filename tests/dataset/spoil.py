"""Snapshots and densities with something wrong in them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np

from ase_deepdensity.dataset import hdf5

SHARED = Path(__file__).parents[1] / 'data'
"""``snapshot-1.h5``, ``density-1.h5``: hydrogen fluoride, written by the program of the time of version 1."""


def change(path: Path, edit: Callable[[h5py.File], object], *, seal: bool = False) -> None:
    """Edit a file; ``seal``: and give it the right checksum again, as whoever wants to harm can."""
    with h5py.File(path, 'a') as file:
        edit(file)
    if seal:
        data = path.read_bytes()
        kind = hdf5.SEAL.fullmatch(data[: hdf5.BLOCK])[1].decode()
        line = f'{kind} sha256 {hdf5._digest(kind, memoryview(data)[hdf5.BLOCK :])}\n'.encode()
        path.write_bytes(line.ljust(hdf5.BLOCK, b'\0') + data[hdf5.BLOCK :])


def times(name: str, factor: float) -> Callable[[h5py.File], object]:
    return lambda file: file[name].write_direct(np.ascontiguousarray(file[name][()] * factor))


def put(name: str, index: object, value: object) -> Callable[[h5py.File], object]:
    def edit(file: h5py.File) -> None:
        file[name][index] = value

    return edit


def replaced(name: str, array: object, **options: object) -> Callable[[h5py.File], object]:
    def edit(file: h5py.File) -> None:
        del file[name]
        file.create_dataset(name, data=array, **options)

    return edit


def attribute(name: str, value: object) -> Callable[[h5py.File], object]:
    return lambda file: file.attrs.__setitem__(name, value)


IMPOSSIBLE = [
    (times('nt_sR', -1), 'its pseudo density holds -'),
    (times('nt_sR', 1.001), 'its electrons do not add up: of 8 valence electrons -0.0'),
    (times('D_sI', 1.001), 'its electrons do not add up'),
    (put('nt_sR', (0, 1, 2, 3), 1e30), 'its electrons do not add up'),
    (put('nt_sR', (0, 1, 2, 3), np.nan), '1 values that are not finite'),
    (put('D_sI', (0, 3), np.inf), 'the density matrix of atom 0 .* is not finite'),
    (put('positions', (0, 0), 0.7), 'its atoms are not those that it was made for'),
    (put('positions', (0, 0), np.nan), 'its positions are not all finite and below 1e\\+09'),
    (put('positions', (0, 0), -1e300), 'its positions are not all finite and below 1e\\+09'),
    (put('cell', (1, 1), 9.0), 'its atoms are not those that it was made for'),
    (put('cell', slice(None), 0.0), 'three independent lattice vectors'),
    (put('pbc', 1, None), 'its atoms are not those that it was made for'),
    (put('magmoms', 0, 2.0), 'its atoms are not those that it was made for'),
    (put('numbers', 0, 3), 'its atoms are not those that it was made for'),
    (put('numbers', 0, -1), 'its atomic numbers, .* are not all those of elements'),
    (put('numbers', 0, 10**9), 'its atomic numbers, .* are not all those of elements'),
    (put('ni_a', 0, 2), 'do not make square matrices'),
    (put('ni_a', 0, -5), 'do not make square matrices'),
    (put('ni_a', 0, 2**62), 'do not make square matrices'),
    (replaced('D_sI', np.zeros((1, 0))), 'do not make square matrices'),
    (put('size_c', 0, 0), 'at least one point along each axis'),
    (put('size_c', 0, 10**9), 'its pseudo density is given on a part of the grid only'),
    (put('start_c', 0, -(10**9)), 'outside'),
    (replaced('numbers', np.zeros(0, int)), 'damaged'),
    (replaced('forces', np.zeros((1, 3))), 'forces must have the shape'),
    (put('forces', (0, 0), np.nan), 'forces must be finite'),
    (put('dipole', 0, np.inf), 'dipole must be finite'),
    (attribute('energy', np.nan), 'the energy must be finite, not nan'),
    (attribute('energy', 'much'), "energy is 'much', not a number"),
    (attribute('niter', np.inf), 'damaged'),
    (attribute('level', '{'), 'damaged'),
    (attribute('level', '{"parameters": 3}'), 'not a level of theory'),
    (attribute('level', '[' * 100000), 'damaged'),
    (attribute('geometry', 'no hash'), 'its atoms are not those'),
    (attribute('info', '{"a": 1, "a": 2}'), 'a name stands twice'),
    (attribute('info', np.arange(3)), 'info has the shape \\(3,\\) and is not one value'),
]
"""What is changed, and what is said of it: of a molecule of eight valence electrons and at least two atoms."""

WRONG_TYPES = [
    (put('type_a', 0, 9), r'atoms have the types \[9, '),
    (put('type_a', 0, -1), r'atoms have the types \[-1, '),
    (put('type_a', slice(None), 1), 'the atom types are of the elements'),
    (replaced('type_a', np.zeros(7, int)), 'the atom types are of the elements'),
    (put('atom_types', 0, 1e30), 'nvalence must be from 0 to 1000'),
    (put('atom_types', 1, np.nan), 'Delta0 must be finite'),
    (put('atom_types', 4, 99.0), 'more numbers'),
    (put('atom_types', 4, 0.5), 'atom type'),
    (put('atom_types', slice(None), 0.0), 'atom type'),
    (replaced('atom_types', np.zeros(0)), 'need 1 more numbers, and 0 are left'),
    (replaced('atom_types', np.zeros(10**6), compression='gzip'), 'atom type'),
    (attribute('atom_types', '{}'), 'atom types are a list'),
    (attribute('atom_types', '[{}]'), 'damaged'),
    (attribute('atom_types', '[]'), 'too many for its atom types'),
    (attribute('atom_types', '[{"number": 1, "fingerprint": "", "nj": 1000000000, "nL": 9}]'), 'no atom type'),
    (attribute('atom_types', '[{"number": 1, "fingerprint": 3, "nj": 3, "nL": 9}]'), 'no atom type'),
    (attribute('charge', 1.0), 'its electrons do not add up'),
    (attribute('charge', np.nan), 'the charge must be finite'),
]
"""The same of the atom types and the charge, which files have from version 3 on."""
