"""Whatever the bytes are, a file is read as it was written or refused."""

import json
import shutil

import h5py
import numpy as np
import pytest

from ase_deepdensity.codes import code_of
from ase_deepdensity.dataset import SnapshotError, read_snapshot, write_snapshot
from ase_deepdensity.dataset.density_file import read_density
from ase_deepdensity.dataset.files import read_level, read_numbers
from ase_deepdensity.dataset.hdf5 import BLOCK, stored_checksum
from ase_deepdensity.paw import THINNED
from tests.dataset.spoil import IMPOSSIBLE, SHARED, WRONG_TYPES, attribute, change, replaced


@pytest.fixture
def old(tmp_path):
    """A snapshot of version 1."""
    return shutil.copy(SHARED / 'snapshot-1.h5', tmp_path / 'old.h5')


@pytest.fixture
def new(old, tmp_path):
    """The same of this version."""
    write_snapshot(tmp_path / 'new.h5', read_snapshot(old))
    return tmp_path / 'new.h5'


def test_old_files_are_read(old, new):
    """Made when there was no checksum: hydrogen fluoride in a small cell, LCAO."""
    first, second = read_snapshot(old), read_snapshot(new)
    assert first.energy == second.energy == pytest.approx(1.3057443683356278, abs=1e-12)
    assert str(first.atoms.symbols) == 'HF' and first.info == {'note': 'of version 1'}
    assert np.array_equal(first.density.nt_sR, second.density.nt_sR)
    assert np.array_equal(first.forces, second.forces)
    assert first.density.number_of_electrons() == pytest.approx(8, abs=1e-6)


def test_files_of_version_2_are_read():
    """They have a checksum, but no atom types: those are asked of the code."""
    first, second = (read_snapshot(SHARED / f'snapshot-{version}.h5') for version in (1, 2))
    assert second.energy == first.energy and second.info == {'note': 'of version 2'}
    assert np.array_equal(first.density.nt_sR, second.density.nt_sR)
    assert first.density.atom_types is None and second.density.atom_types is None
    assert np.array_equal(read_density(SHARED / 'density-2.h5').nt_sR, second.density.nt_sR)
    assert second.density.number_of_electrons() == pytest.approx(8, abs=1e-6)


def test_files_of_version_3_are_read(monkeypatch):
    """They have atom types that do not know how much of a density matrix lies inside the spheres."""
    snapshot, density = read_snapshot(SHARED / 'snapshot-3.h5'), read_density(SHARED / 'density-3.h5')
    assert snapshot.info == {'note': 'of version 3'} and np.array_equal(snapshot.density.nt_sR, density.nt_sR)
    assert {atom_type.N0_ii for atom_type in density.types()} == {None}
    assert density.magnetic_moments().tolist() == [0, 0]
    up = np.array([0.5, 0.0])
    polarised = density.with_spins(2).new(D_asii=[up[:, None, None] * D_sii for D_sii in density.D_asii])
    moment_a = polarised.magnetic_moments()
    assert moment_a == pytest.approx(polarised.new(atom_types=None).magnetic_moments()) and moment_a[1] > 0.1
    monkeypatch.setattr('ase_deepdensity.paw.AtomType.is_like', lambda *others: False)
    with pytest.raises(ValueError, match='the moment of atom 0 needs overlaps of partial waves that its AtomType'):
        polarised.magnetic_moments()


def test_a_charge_of_old_files_is_one_of_the_system(old):
    level = json.dumps({'name': 'ion', 'parameters': {'mode': 'lcao', 'charge': 1.0}})
    change(old, attribute('level', level))
    density = read_density(old)
    assert density.charge == 1.0 and density.level.parameters == {'mode': 'lcao'}


def test_atom_types_come_back(new):
    """Table of ñ(r) in single precision, all else to the last bit; written again as the same bytes."""
    snapshot, level = read_snapshot(new), read_snapshot(new).level
    types = dict(zip('HF', code_of(level).atom_types(level, [1, 9]), strict=True))
    for found in snapshot.density.atom_types:
        made = types[found.symbol]
        assert found.is_like(made) and found.fingerprint == made.fingerprint
        for name, array in found.to_arrays().items():
            if name != THINNED:
                assert np.array_equal(array, made.to_arrays()[name]), name
        r_g = np.linspace(0, made.nt.cutoff, 5000)
        assert found.nt(r_g) == pytest.approx(made.nt(r_g), abs=3e-6 * made.nt(0.0))
    whole = new.read_bytes()
    write_snapshot(new, snapshot)
    assert new.read_bytes() == whole


def test_every_byte_counts(new):
    whole = new.read_bytes()
    rng = np.random.default_rng(1)
    places = [*range(0, 130, 7), BLOCK - 1, *rng.integers(BLOCK, len(whole), 60).tolist(), len(whole) - 1]
    for place in places:
        spoilt = bytearray(whole)
        spoilt[place] ^= 1 << int(rng.integers(8))
        new.write_bytes(spoilt)
        with pytest.raises(SnapshotError, match='new.h5: '):
            read_snapshot(new)
    for spoilt in whole + b'\0', whole[:-1], whole[: len(whole) // 2], whole[: BLOCK + 1], whole[:BLOCK], whole[:100]:
        new.write_bytes(spoilt)
        with pytest.raises(SnapshotError, match='new.h5: '):
            read_snapshot(new)
    new.write_bytes(whole[BLOCK:])
    with pytest.raises(SnapshotError, match='new.h5: an HDF5 file, but not an ase-deepdensity snapshot'):
        read_snapshot(new)
    new.write_bytes(whole)
    assert read_snapshot(new).niter == 9


def test_what_was_changed_by_hand_is_refused(new):
    whole = new.read_bytes()
    for edit, _ in IMPOSSIBLE:
        new.write_bytes(whole)
        change(new, edit)
        with pytest.raises(
            SnapshotError, match='new.h5: a damaged snapshot: truncated, or changed since it was written'
        ):
            read_snapshot(new)


@pytest.mark.parametrize(('edit', 'message'), IMPOSSIBLE)
def test_what_cannot_be_is_refused_without_a_checksum_too(old, new, edit, message):
    for path, seal in (old, False), (new, True):
        change(path, edit, seal=seal)
        with pytest.raises(SnapshotError, match=f'{path.name}: .*{message}'):
            read_snapshot(path)


@pytest.mark.parametrize(('edit', 'message'), WRONG_TYPES)
def test_wrong_atom_types_are_refused(new, edit, message):
    change(new, edit, seal=True)
    with pytest.raises(SnapshotError, match=f'new.h5: .*{message}'):
        read_snapshot(new)


def test_nothing_leads_elsewhere(new, tmp_path):
    """Links and storage that would read another file, or let HDF5 load a library."""
    whole = new.read_bytes()
    with h5py.File(tmp_path / 'secret.h5', 'w') as file:
        file['forces'] = np.ones((2, 3))
    (tmp_path / 'raw').write_bytes(np.ones((2, 3)).tobytes())

    def link(to):
        def edit(file):
            del file['forces']
            file['forces'] = to

        return edit

    def external(file):
        del file['forces']
        file.create_dataset('forces', (2, 3), float, external=[(str(tmp_path / 'raw'), 0, 48)])

    def virtual(file):
        del file['forces']
        layout = h5py.VirtualLayout((2, 3), float)
        layout[:] = h5py.VirtualSource(str(tmp_path / 'secret.h5'), 'forces', (2, 3))
        file.create_virtual_dataset('forces', layout)

    def group(file):
        del file['forces']
        file.create_group('forces')

    for edit, message in [
        (link(h5py.ExternalLink(str(tmp_path / 'secret.h5'), '/forces')), 'forces leads elsewhere'),
        (link(h5py.SoftLink('/positions')), 'forces leads elsewhere'),
        (external, 'forces lies in another file'),
        (virtual, 'forces lies in another file'),
        (group, 'forces is no array'),
        (lambda file: file.pop('forces'), 'forces is missing'),
        (replaced('forces', h5py.Empty(float)), 'forces is no array'),
        (replaced('forces', np.ones((2, 3), complex)), 'forces has 2 axes and the type complex128, not 2 and f'),
        (replaced('forces', np.ones((2, 3), np.longdouble)), 'forces has 2 axes and the type'),
        (replaced('forces', ['a', 'b']), 'forces has 1 axes and the type object'),
        (replaced('forces', np.ones((2, 3, 1))), 'forces has 3 axes'),
        (replaced('forces', np.ones((2, 3)), compression='lzf'), 'forces is compressed in another way than with gzip'),
        (lambda file: file.create_group('more'), "it should hold no 'more'"),
    ]:
        new.write_bytes(whole)
        change(new, edit, seal=True)
        with pytest.raises(SnapshotError, match=f'new.h5: a damaged snapshot: {message}'):
            read_snapshot(new)


@pytest.mark.parametrize('shape', [(1, 2**12, 2**12, 2**12), (1, 2**40, 8, 2**20)])
def test_nothing_larger_than_the_file_is_allocated(new, shape):
    """512 GB and 2^66 bytes, of which nothing is stored."""

    def edit(file):
        del file['nt_sR']
        file.create_dataset('nt_sR', shape, float, chunks=(1, 8, 8, 8), compression='gzip')

    change(new, edit, seal=True)
    with pytest.raises(SnapshotError, match='nt_sR should have the shape .*, for which the file is too small'):
        read_snapshot(new)


def test_the_seal_tells_the_version_first(new):
    whole = new.read_bytes()
    new.write_bytes(whole.replace(b'snapshot 4 sha', b'snapshot 5 sha', 1))
    with pytest.raises(SnapshotError, match='new.h5: format version 5; this program reads up to 4: update it'):
        read_snapshot(new)
    new.write_bytes(whole.replace(b'snapshot 4 sha', b'snapshot 1 sha', 1))
    with pytest.raises(SnapshotError, match='new.h5: '):
        read_snapshot(new)


def test_a_part_is_read_without_the_rest(old, new):
    whole = new.read_bytes()
    new.write_bytes(whole[:-8] + bytes(8))
    for path in old, new:
        assert read_level(path).parameters['mode'] == {'name': 'lcao'} or read_level(path).parameters['mode'] == 'lcao'
        assert read_numbers(path).tolist() == [1, 9]
        assert len(stored_checksum(path)) == 64


def test_the_same_content_is_the_same_file(old, new, tmp_path):
    write_snapshot(tmp_path / 'again.h5', read_snapshot(old))
    assert (tmp_path / 'again.h5').read_bytes() == new.read_bytes()
    assert stored_checksum(new) != stored_checksum(old)


def test_a_full_disk_leaves_the_old_file(new, tmp_path, small_files):
    """HDF5 itself would crash."""
    whole, snapshot = new.read_bytes(), read_snapshot(new)
    for size in 0, 100, BLOCK, 5000, len(whole) - 1:
        with small_files(size), pytest.raises(OSError, match=r'too large.*new\.h5'):
            write_snapshot(new, snapshot)
        assert new.read_bytes() == whole
    assert sorted(file.name for file in tmp_path.iterdir()) == ['new.h5', 'old.h5']
