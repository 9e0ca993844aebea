import numpy as np
import pytest
from ase import Atoms
from ase.io import write

from ase_deepdensity.reference.frames import read_frames

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


def test_isotopes(tmp_path):
    (tmp_path / 'heavy.xyz').write_text('1\nLattice="5 0 0 0 5 0 0 0 5" Properties=species:S:1:pos:R:3\nD 0 0 0\n')
    with pytest.raises(ValueError, match=r'heavy.xyz: ASE reads no isotopes from such files; write H for D'):
        read_frames([tmp_path / 'heavy.xyz'])
