from dataclasses import replace

import h5py
import numpy as np
import pytest

from ase_deepdensity.codes.gpaw.reference import snapshot_from_calculator
from ase_deepdensity.dataset import SnapshotError, read_snapshot, write_snapshot
from ase_deepdensity.dataset.files import geometry_hash, read_outline
from tests.dataset.spoil import change, put


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


def test_an_outline_is_what_there_is_without_the_density(snapshot, tmp_path):
    path = tmp_path / 'a.h5'
    write_snapshot(path, snapshot)
    outline = read_outline(path)
    assert outline.atoms == snapshot.atoms and outline.grid == snapshot.density.grid
    assert outline.level.to_dict() == snapshot.level.to_dict() and outline.nspins == snapshot.density.nspins
    for D_sii, outline_sii in zip(snapshot.density.D_asii, outline.D_asii, strict=True):
        assert np.array_equal(outline_sii, D_sii)
    change(path, put('ni_a', 0, 4))
    with pytest.raises(SnapshotError, match='a.h5: a damaged snapshot: .* do not make square matrices'):
        read_outline(path)


def test_truncated_file(path):
    whole = path.read_bytes()
    for size in 0, 100, len(whole) // 2, len(whole) - 1:
        path.write_bytes(whole[:size])
        with pytest.raises(SnapshotError, match='water.h5: .*truncated'):
            read_snapshot(path)


def test_foreign_files(tmp_path):
    with pytest.raises(SnapshotError, match='nothing.h5: no such file'):
        read_snapshot(tmp_path / 'nothing.h5')
    with h5py.File(tmp_path / 'foreign.h5', 'w') as file:
        file['x'] = 1
    with pytest.raises(SnapshotError, match='foreign.h5: an HDF5 file, but not'):
        read_snapshot(tmp_path / 'foreign.h5')


def test_failed_write_leaves_the_old_file(path, tmp_path, monkeypatch):
    snapshot = read_snapshot(path)

    def no_memory(*args):
        raise MemoryError

    monkeypatch.setattr('ase_deepdensity.dataset.hdf5._digest_of_file', no_memory)
    with pytest.raises(MemoryError):
        write_snapshot(path, snapshot)
    monkeypatch.undo()
    assert read_snapshot(path).energy == snapshot.energy
    assert [file.name for file in tmp_path.iterdir()] == ['water.h5']


def test_what_cannot_be_is_not_written(path, tmp_path):
    snapshot = read_snapshot(path)
    more = snapshot.density.new(nt_sR=1.01 * snapshot.density.nt_sR)
    with pytest.raises(SnapshotError, match='b.h5: no such snapshot can be written: its electrons do not add up: of 8'):
        write_snapshot(tmp_path / 'b.h5', replace(snapshot, density=more))
    smaller = snapshot.density.new(D_asii=[D_sii[:, :-1, :-1] for D_sii in snapshot.density.D_asii])
    with pytest.raises(SnapshotError, match=r'matrix of atom 0 \(O\) has the shape \(12, 12\); .* 13 projectors'):
        write_snapshot(tmp_path / 'b.h5', replace(snapshot, density=smaller))
    with pytest.raises(ValueError, match='the energy must be finite, not nan'):
        replace(snapshot, energy=float('nan'))
    with pytest.raises(ValueError, match='forces must be finite'):
        replace(snapshot, forces=np.full((3, 3), np.inf))
    assert [file.name for file in tmp_path.iterdir()] == ['water.h5']


def test_electrons_are_not_counted_with_other_datasets(path, tmp_path):
    """Nor where the level tells of none, or of none that GPAW has."""
    snapshot = read_snapshot(path)
    level, unknown = snapshot.level, snapshot.density.new(atom_types=None)
    others = [
        replace(level, versions={}),
        replace(level, versions={'datasets': level.versions['datasets'] | {'H': 'of another day'}}),
        replace(level, parameters=level.parameters | {'setups': 'unheard-of'}),
    ]
    for other in others:
        write_snapshot(path, replace(snapshot, density=unknown.new(nt_sR=2 * unknown.nt_sR, level=other)))
        assert read_snapshot(path).energy == snapshot.energy
        with pytest.raises(SnapshotError, match='its pseudo density holds -'):
            write_snapshot(path, replace(snapshot, density=unknown.new(nt_sR=-unknown.nt_sR, level=other)))


def test_geometry_hash(molecule_state):
    atoms = molecule_state.atoms
    moved, boxed, periodic = atoms.copy(), atoms.copy(), atoms.copy()
    moved.positions[1, 2] += 1e-6
    boxed.cell[0, 0] += 1e-6
    periodic.pbc = True
    hashes = {geometry_hash(a) for a in (atoms, moved, boxed, periodic)}
    assert len(hashes) == 4
    assert geometry_hash(atoms.copy()) == geometry_hash(atoms)
