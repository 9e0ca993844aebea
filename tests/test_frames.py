import numpy as np
import pytest
from ase import Atoms
from ase.io import write

from ase_deepdensity.frames import read_frames

BOX = Atoms('H', cell=[3, 3, 3], pbc=True)


def test_several_files_and_a_part(tmp_path):
    write(tmp_path / 'a.xyz', [BOX] * 4)
    write(tmp_path / 'b.traj', [BOX * (1, 1, 2)])
    assert [len(atoms) for atoms in read_frames([tmp_path / 'a.xyz', tmp_path / 'b.traj'])] == [1, 1, 1, 1, 2]
    assert len(read_frames([f'{tmp_path}/a.xyz@1:3'])) == 2
    assert len(read_frames([f'{tmp_path}/a.xyz@-1'])) == 1


def test_errors_name_the_file_and_the_frame(tmp_path):
    with pytest.raises(ValueError, match='nothing.xyz: no such file'):
        read_frames(['nothing.xyz'])
    (tmp_path / 'empty.xyz').touch()
    with pytest.raises(ValueError, match='empty.xyz: the file is empty'):
        read_frames([tmp_path / 'empty.xyz'])
    with pytest.raises(ValueError, match='this is a folder'):
        read_frames([tmp_path])
    (tmp_path / 'bytes.xyz').write_bytes(bytes(range(256)))
    with pytest.raises(ValueError, match='bytes.xyz: ASE cannot read this file: no text in UTF-8'):
        read_frames([tmp_path / 'bytes.xyz'])
    (tmp_path / 'text.xyz').write_text('hello\nworld\n')
    with pytest.raises(ValueError, match='text.xyz: ASE cannot read'):
        read_frames([tmp_path / 'text.xyz'])
    write(tmp_path / 'a.xyz', [BOX, Atoms('H')])
    with pytest.raises(ValueError, match='frame 1 of .*a.xyz: a cell of three independent lattice vectors is needed'):
        read_frames([tmp_path / 'a.xyz'])
    write(tmp_path / 'b.traj', [Atoms('H', [[np.nan, 0, 0]], cell=[3, 3, 3])])
    with pytest.raises(ValueError, match='frame 0 of .*b.traj: .*not finite'):
        read_frames([tmp_path / 'b.traj'])
    write(tmp_path / 'd.traj', [BOX, Atoms('H', cell=[1e-9] * 3, pbc=True)])
    with pytest.raises(ValueError, match=r'frame 1 of .*d.traj: a cell must be at least 0.1 Å high'):
        read_frames([tmp_path / 'd.traj'])
    write(tmp_path / 'c.traj', [Atoms(cell=[3, 3, 3])])
    with pytest.raises(ValueError, match='frame 0 of .*c.traj: there are no atoms'):
        read_frames([tmp_path / 'c.traj'])


@pytest.mark.parametrize('index', ['3', '7', '-4', '5:', '2:1', '99999999999999999999'])
def test_frames_that_are_not_there(tmp_path, index):
    write(tmp_path / 'a.xyz', [BOX] * 3)
    with pytest.raises(ValueError, match=rf'a.xyz@{index}: no such frame; the file holds 3, counted from 0'):
        read_frames([f'{tmp_path}/a.xyz@{index}'])


@pytest.mark.parametrize('index', ['x', '1.5', '::0', '1:2:3:4', 'H', '0 1'])
def test_no_index(tmp_path, index):
    write(tmp_path / 'a.xyz', [BOX] * 3)
    with pytest.raises(ValueError, match=f'must be the number of a frame or a range such as 0:10 or ::5, not .{index}'):
        read_frames([f'{tmp_path}/a.xyz@{index}'])


def test_rows_of_a_database_and_a_name_with_an_at_sign(tmp_path):
    write(tmp_path / 'a.db', BOX)
    write(tmp_path / 'a.db', BOX * (2, 1, 1), append=True)
    assert [len(atoms) for atoms in read_frames([f'{tmp_path}/a.db@H=2'])] == [2]
    write(tmp_path / 'a@2.xyz', [BOX] * 3)
    assert len(read_frames([tmp_path / 'a@2.xyz'])) == 3 and len(read_frames([f'{tmp_path}/a@2.xyz@1'])) == 1


def test_isotopes(tmp_path):
    (tmp_path / 'heavy.xyz').write_text('1\nLattice="5 0 0 0 5 0 0 0 5" Properties=species:S:1:pos:R:3\nD 0 0 0\n')
    with pytest.raises(ValueError, match=r'heavy.xyz: .* does not know .D.; write H for an isotope'):
        read_frames([tmp_path / 'heavy.xyz'])
