import h5py
import numpy as np
import pytest

from ase_deepdensity.codes.gpaw.reference import snapshot_from_calculator
from ase_deepdensity.dataset import write_snapshot
from ase_deepdensity.dataset.density_file import DensityFileError, read_density, write_density, write_density_slabs
from ase_deepdensity.grid import Grid
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


def write_slabs(path, state, grid=None, slabs=None):
    """As :func:`write_density` does, but slab by slab."""
    number_a = state.atoms.numbers
    D_zsaii = {
        Z: np.stack([state.D_asii[a] for a in np.flatnonzero(number_a == Z)], axis=1) for Z in np.unique(number_a)
    }
    write_density_slabs(
        path, state.atoms, grid or state.grid, slabs or slabs_of(state), D_zsaii, planes=2, level=state.level,
        charge=state.charge, atom_types={atom_type.number: atom_type for atom_type in state.types()},
    )  # fmt: skip


def slabs_of(state):
    for slab in state.grid.slabs(2 * state.grid.shape[1] * state.grid.shape[2]):
        start = slab.start_c[0] - state.grid.start_c[0]
        yield slab, state.nt_sR[:, start : start + slab.shape[0]]


def test_written_slab_by_slab_it_is_the_same(molecule_state, tmp_path):
    write_slabs(tmp_path / 'slabs.h5', molecule_state)
    copy = read_density(tmp_path / 'slabs.h5')
    assert np.array_equal(copy.nt_sR, molecule_state.nt_sR) and copy.grid == molecule_state.grid
    assert all(np.array_equal(*pair) for pair in zip(copy.D_asii, molecule_state.D_asii, strict=True))
    assert copy.atoms == molecule_state.atoms and copy.number_of_electrons() == pytest.approx(8, abs=1e-6)
    with h5py.File(tmp_path / 'slabs.h5') as file:
        assert file['nt_sR'].chunks == (1, 2, *molecule_state.grid.shape[1:])


def test_slabs_are_written_as_they_come(molecule_state, tmp_path):
    """Nothing waits in memory for the checksum but what HDF5 caches, 1 MiB."""
    grid, sizes = Grid.from_atoms(molecule_state.atoms, (24, 257, 257)), []

    def noise():
        for slab in grid.slabs(2 * 256**2):
            sizes.append(sum(file.stat().st_size for file in tmp_path.iterdir()))
            yield slab, np.random.default_rng(len(sizes)).random((1, *slab.shape))

    write_slabs(tmp_path / 'a.h5', molecule_state, grid, noise())
    assert len(sizes) == 12 and (np.diff(sizes)[2:] > 256**2 * 8).all(), 'half of a slab at least, compressed'


def test_slabs_on_a_full_disk_or_with_a_gap_leave_the_old_file(path, molecule_state, tmp_path, small_files):
    whole = path.read_bytes()
    write_slabs(tmp_path / 'size.h5', molecule_state)
    size = (tmp_path / 'size.h5').stat().st_size
    (tmp_path / 'size.h5').unlink()
    for room in 0, 3000, size // 2, size - 1:
        with small_files(room), pytest.raises(OSError, match=r'too large.*water\.h5'):
            write_slabs(path, molecule_state)
    slabs = list(slabs_of(molecule_state))
    with pytest.raises(ValueError, match='the slabs end at plane'):
        write_slabs(path, molecule_state, slabs=iter(slabs[:-1]))
    assert path.read_bytes() == whole and [file.name for file in tmp_path.iterdir()] == ['water.h5']
