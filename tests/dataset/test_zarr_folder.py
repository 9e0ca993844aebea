"""Densities as Zarr: written slab by slab, read by xarray, replaced only where they are ours."""

import json
import os
import subprocess
import sys
from importlib.metadata import EntryPoint

import numpy as np
import pytest
import xarray
from ase import Atoms
from ase.io import formats

from ase_deepdensity.dataset.zarr_folder import check_zarr_target, read_zarr, write_zarr
from ase_deepdensity.files import temporary_path
from ase_deepdensity.grid import Grid
from ase_deepdensity.level import Level

ATOMS = Atoms('OHH', [[1, 1, 1], [1, 1, 2], [2, 1, 1]], cell=[[3, 0, 0], [0.4, 2.5, 0], [0, 0.2, 2]], pbc=(1, 1, 0))
ATOMS.set_initial_magnetic_moments([0, 1.0, 0])
GRID = Grid.from_atoms(ATOMS, (15, 12, 10))
NT_SR = np.random.default_rng(0).random((2, *GRID.shape), np.float32)
D_ZSAII = {1: np.ones((2, 2, 5, 5)), 8: np.zeros((2, 1, 8, 8))}


def slabs(max_points=400):
    for slab in GRID.slabs(max_points):
        start = slab.start_c[0] - GRID.start_c[0]
        yield slab, NT_SR[:, start : start + slab.shape[0]]


def write(path, blocks=None):
    blocks = slabs() if blocks is None else blocks
    level = Level.load('dzp')
    about = {'nspins': len(NT_SR), 'dtype': NT_SR.dtype, 'level': level, 'charge': 1.0, 'model': 'tiny'}
    write_zarr(path, ATOMS, GRID, blocks, D_ZSAII, planes=3, **about)


def test_what_is_read_is_what_was_written(tmp_path):
    write(tmp_path / 'n.zarr')
    atoms, grid, data = read_zarr(tmp_path / 'n.zarr')
    assert atoms == ATOMS
    assert grid == GRID
    np.testing.assert_array_equal(data[:], NT_SR)
    assert data.chunks == (1, 3, 12, 9), 'no chunks of planes'
    assert [path.name for path in tmp_path.iterdir()] == ['n.zarr'], 'something is left over'


def test_ase_reads_the_atoms(tmp_path):
    write(tmp_path / 'n.zarr')
    name = 'deepdensity-zarr'
    if name not in formats.ioformats:  # an installation that is older than the entry point
        formats.define_external_io_format(EntryPoint(name, 'ase_deepdensity.ase_plugin:zarr', 'ase.ioformats'))
    assert formats.read(tmp_path / 'n.zarr', format=name) == ATOMS


def test_xarray_opens_it(tmp_path):
    write(tmp_path / 'n.zarr')
    with xarray.open_zarr(tmp_path / 'n.zarr') as density:
        assert density.nt_sR.dims == ('spin', 'a', 'b', 'c')
        assert density.nt_sR.attrs['units'] == 'electron/angstrom^3'
        np.testing.assert_array_equal(density.nt_sR.isel(a=7).values, NT_SR[:, 7])
        np.testing.assert_array_equal(density.D_H.values, D_ZSAII[1])
        np.testing.assert_allclose(density.positions.values, ATOMS.positions)
        assert density.attrs['charge'] == 1.0
        assert density.attrs['model'] == 'tiny'
        np.testing.assert_allclose(density.attrs['cell_cv'], ATOMS.cell.array)
        assert Level.from_dict(density.attrs['level']) == Level.load('dzp')


def test_after_an_error_all_is_as_before(tmp_path):
    path = tmp_path / 'n.zarr'
    write(path)

    def broken():
        yield next(slabs())
        raise OSError(28, 'No space left on device', str(tmp_path / '.tmp.here' / 'c'))

    with pytest.raises(OSError, match=r"No space left on device: '.*/n\.zarr'"):
        write(path, broken())
    assert [path.name for path in tmp_path.iterdir()] == ['n.zarr']
    np.testing.assert_array_equal(read_zarr(path)[2][:], NT_SR)


def test_an_older_one_is_replaced(tmp_path):
    write(tmp_path / 'n.zarr')
    write(tmp_path / 'n.zarr', ((slab, 2 * nt_sR) for slab, nt_sR in slabs()))
    np.testing.assert_array_equal(read_zarr(tmp_path / 'n.zarr')[2][:], 2 * NT_SR)
    assert [path.name for path in tmp_path.iterdir()] == ['n.zarr']


def test_what_a_killed_process_left_is_removed(tmp_path):
    finished = subprocess.Popen([sys.executable, '-c', ''])
    finished.wait()
    left = tmp_path / temporary_path(tmp_path / 'n.zarr').name.replace(f'.{os.getpid()}-', f'.{finished.pid}-')
    (left / 'c').mkdir(parents=True)
    ours = temporary_path(tmp_path / 'm.zarr')
    ours.mkdir()
    write(tmp_path / 'n.zarr')
    assert {path.name for path in tmp_path.iterdir()} == {'n.zarr', ours.name}


@pytest.mark.parametrize('kind', ['folder', 'file', 'other zarr'])
def test_what_is_not_ours_stays(tmp_path, kind):
    path = tmp_path / 'n.zarr'
    if kind == 'file':
        path.write_text('precious')
    else:
        path.mkdir()
        (path / 'zarr.json').write_text(
            json.dumps({'attributes': {'format': 'another'}} if kind == 'other zarr' else [])
        )
    with pytest.raises(ValueError, match=r'n\.zarr: this is there already and no density'):
        check_zarr_target(path)
    with pytest.raises(ValueError, match='this is there already'):
        write(path)
    assert path.exists()


def test_slabs_that_are_not_the_grid(tmp_path):
    all_slabs = list(slabs())
    with pytest.raises(ValueError, match='the slabs end at plane 12 of 15'):
        write(tmp_path / 'n.zarr', all_slabs[:-1])
    with pytest.raises(ValueError, match='a slab begins at plane 6 where 3 was expected'):
        write(tmp_path / 'n.zarr', [all_slabs[0], all_slabs[2]])
    assert not list(tmp_path.iterdir())


def test_no_such_folder(tmp_path):
    with pytest.raises(ValueError, match='no such folder'):
        read_zarr(tmp_path / 'n.zarr')
