import h5py
import numpy as np
import pytest

from ase_deepdensity.dataset import SnapshotError, read_snapshot, write_snapshot
from ase_deepdensity.dataset.files import VERSION, geometry_hash, remove_stale_temporaries, temporary_path
from ase_deepdensity.reference.gpaw import snapshot_from_calculator


@pytest.fixture
def snapshot(calc):
    return snapshot_from_calculator(calc, niter=7, seconds=1.5, info={'seed': 3})


@pytest.fixture
def path(tmp_path, molecule_calc):
    path = tmp_path / 'water.h5'
    write_snapshot(path, snapshot_from_calculator(molecule_calc, niter=7, seconds=1.5))
    return path


def test_round_trip_changes_no_bit(snapshot, tmp_path):
    write_snapshot(tmp_path / 'a.h5', snapshot)
    copy = read_snapshot(tmp_path / 'a.h5')
    assert np.array_equal(copy.density.nt_sR, snapshot.density.nt_sR)
    for D_sii, copy_sii in zip(snapshot.density.D_asii, copy.density.D_asii, strict=True):
        assert np.array_equal(copy_sii, D_sii)
    assert copy.atoms == snapshot.atoms
    assert copy.density.grid == snapshot.density.grid
    assert copy.level.to_dict() == snapshot.level.to_dict()
    assert (copy.energy, copy.niter, copy.seconds) == (snapshot.energy, 7, 1.5)
    assert np.array_equal(copy.forces, snapshot.forces) and np.array_equal(copy.dipole, snapshot.dipole)
    assert copy.info['seed'] == 3
    assert [file.name for file in tmp_path.iterdir()] == ['a.h5'], 'no temporary file is left'


def test_truncated_file(path):
    whole = path.read_bytes()
    for size in 0, 100, len(whole) // 2, len(whole) - 1:
        path.write_bytes(whole[:size])
        with pytest.raises(SnapshotError, match='water.h5'):
            read_snapshot(path)


def test_foreign_files(tmp_path, path):
    with pytest.raises(SnapshotError, match='nothing.h5: no such file'):
        read_snapshot(tmp_path / 'nothing.h5')
    with h5py.File(tmp_path / 'foreign.h5', 'w') as file:
        file['x'] = 1
    with pytest.raises(SnapshotError, match='foreign.h5: an HDF5 file, but not'):
        read_snapshot(tmp_path / 'foreign.h5')
    with h5py.File(path, 'a') as file:
        file.attrs['version'] = VERSION + 1
    with pytest.raises(SnapshotError, match='format version 2.*reads up to 1'):
        read_snapshot(path)


@pytest.mark.parametrize('name', ['nt_sR', 'D_sI', 'forces', 'numbers', 'magmoms'])
def test_damaged_file(path, name):
    with h5py.File(path, 'a') as file:
        del file[name]
    with pytest.raises(SnapshotError, match='water.h5: a damaged snapshot'):
        read_snapshot(path)


def test_failed_write_leaves_the_old_file(path, tmp_path, monkeypatch):
    snapshot = read_snapshot(path)

    def no_space(*args):
        raise OSError('No space left on device')

    monkeypatch.setattr('ase_deepdensity.dataset.files._write_state', no_space)
    with pytest.raises(OSError, match='No space'):
        write_snapshot(path, snapshot)
    monkeypatch.undo()
    assert read_snapshot(path).energy == snapshot.energy
    assert [file.name for file in tmp_path.iterdir()] == ['water.h5']


def test_stale_temporaries_of_dead_processes_only(tmp_path):
    mine = temporary_path(tmp_path / 'a.h5')
    dead = mine.with_name(mine.name.replace(f'.{mine.name.split(".")[-2]}.', '.4194399.'))  # above Linux's largest pid
    elsewhere = mine.with_name('.a.h5.otherhost.4194399.tmp')
    for file in mine, dead, elsewhere:
        file.touch()
    remove_stale_temporaries(tmp_path)
    assert mine.exists() and elsewhere.exists() and not dead.exists()


def test_geometry_hash(molecule_state):
    atoms = molecule_state.atoms
    moved, boxed, periodic = atoms.copy(), atoms.copy(), atoms.copy()
    moved.positions[1, 2] += 1e-6
    boxed.cell[0, 0] += 1e-6
    periodic.pbc = True
    hashes = {geometry_hash(a) for a in (atoms, moved, boxed, periodic)}
    assert len(hashes) == 4
    assert geometry_hash(atoms.copy()) == geometry_hash(atoms)
