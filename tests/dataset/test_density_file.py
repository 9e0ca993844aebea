import h5py
import numpy as np
import pytest

from ase_deepdensity.dataset import write_snapshot
from ase_deepdensity.dataset.density_file import DensityFileError, read_density, write_density
from ase_deepdensity.reference.gpaw import snapshot_from_calculator


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


def test_broken_files(path, tmp_path):
    whole = path.read_bytes()
    for size in 0, 100, len(whole) // 2:
        path.write_bytes(whole[:size])
        with pytest.raises(DensityFileError, match='water.h5: not a density, or a truncated one'):
            read_density(path)
    with pytest.raises(DensityFileError, match='nothing.h5: no such file'):
        read_density(tmp_path / 'nothing.h5')


@pytest.mark.parametrize(
    ('spoil', 'message'),
    [
        (lambda file: file.attrs.update(format='else'), 'an HDF5 file, but neither'),
        (lambda file: file.attrs.update(version=99), 'format version 99; this program reads up to 1'),
        (lambda file: file.__delitem__('D_sI'), 'a damaged density'),
        (lambda file: file.attrs.__delitem__('level'), 'a damaged density'),
    ],
)
def test_spoilt_files(path, spoil, message):
    with h5py.File(path, 'a') as file:
        spoil(file)
    with pytest.raises(DensityFileError, match=f'water.h5: {message}'):
        read_density(path)
