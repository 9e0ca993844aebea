import h5py
import numpy as np
import pytest

from ase_deepdensity.codes.gpaw.reference import snapshot_from_calculator
from ase_deepdensity.dataset import write_snapshot
from ase_deepdensity.dataset.density_file import DensityFileError, read_density, write_density
from tests.dataset.spoil import SHARED, change, put


@pytest.fixture
def path(tmp_path, molecule_state):
    path = tmp_path / 'water.h5'
    write_density(path, molecule_state)
    return path


def test_round_trip_changes_no_bit(state, tmp_path):
    write_density(tmp_path / 'a.h5', state)
    copy = read_density(tmp_path / 'a.h5')
    assert np.array_equal(copy.nt_sR, state.nt_sR)
    assert all(np.array_equal(*pair) for pair in zip(copy.D_asii, state.D_asii, strict=True))
    assert copy.atoms == state.atoms and copy.grid == state.grid
    assert copy.level.to_dict() == state.level.to_dict()
    assert [file.name for file in tmp_path.iterdir()] == ['a.h5']


def test_density_of_a_snapshot(molecule_calc, molecule_state, tmp_path):
    write_snapshot(tmp_path / 'a.h5', snapshot_from_calculator(molecule_calc, niter=1, seconds=1.0))
    assert np.array_equal(read_density(tmp_path / 'a.h5').nt_sR, molecule_state.nt_sR)


def test_density_of_an_old_file():
    new = read_density(SHARED / 'density-1.h5')
    assert np.array_equal(new.nt_sR, read_density(SHARED / 'snapshot-1.h5').nt_sR)
    assert new.number_of_electrons() == pytest.approx(8, abs=1e-6)


def test_broken_files(path, tmp_path):
    whole = path.read_bytes()
    for size in 0, 100, len(whole) // 2:
        path.write_bytes(whole[:size])
        with pytest.raises(DensityFileError, match='water.h5: .*truncated'):
            read_density(path)
    with pytest.raises(DensityFileError, match='nothing.h5: no such file'):
        read_density(tmp_path / 'nothing.h5')
    with h5py.File(tmp_path / 'foreign.h5', 'w') as file:
        file['x'] = 1
    with pytest.raises(DensityFileError, match='foreign.h5: an HDF5 file, but neither'):
        read_density(tmp_path / 'foreign.h5')


@pytest.mark.parametrize(
    ('edit', 'message'),
    [
        (lambda file: file.__delitem__('D_sI'), 'D_sI is missing'),
        (lambda file: file.attrs.__delitem__('level'), 'level is missing'),
        (put('positions', (0, 0), 0.1), 'its atoms are not those that it was made for'),
        (put('nt_sR', (0, 1, 1, 1), np.nan), 'not finite'),
    ],
)
def test_spoilt_files(path, edit, message):
    whole = path.read_bytes()
    change(path, edit)
    with pytest.raises(DensityFileError, match='water.h5: a damaged density: truncated, or changed'):
        read_density(path)
    path.write_bytes(whole)
    change(path, edit, seal=True)
    with pytest.raises(DensityFileError, match=f'water.h5: a damaged density: .*{message}'):
        read_density(path)
