import sys

import numpy as np
import pytest
from ase.build import bulk
from ase.io import read

from ase_deepdensity.cli.main import main
from ase_deepdensity.sampling.geometries import compact_supercells

SHORT = ['--equilibration', '0.02', '--interval', '0.02']


def sample(*arguments: str) -> int:
    return main(['sample', *arguments, *SHORT])


def test_metal_is_repeatable_from_its_seed(tmp_path):
    for name, seed in ('a', '1'), ('b', '1'), ('c', '2'):
        assert sample('metal', f'{tmp_path}/{name}.xyz', '-n', '2', '--seed', seed, '--repeat', '1', '1', '2') == 0
    a, b, c = (read(tmp_path / f'{name}.xyz', ':') for name in 'abc')
    assert len(a) == 2 and a == b
    assert len(a[0]) == 8 and a[0].pbc.all()
    assert not np.allclose(a[0].positions, a[1].positions) and not np.allclose(a[0].positions, c[0].positions)


def test_vacancies(tmp_path):
    assert sample('metal', f'{tmp_path}/a.traj', '-n', '1', '--vacancies', '2', '--symbol', 'Cu') == 0
    assert str(read(tmp_path / 'a.traj').symbols) == 'Cu30'


def test_cells_of_any_compact_shape(tmp_path):
    assert sample('metal', f'{tmp_path}/a.xyz', '-n', '4', '--sites', '12', '--seed', '3', '--vacancies', '1') == 0
    frames = read(tmp_path / 'a.xyz', ':')
    volume = 12 * bulk('Al').get_volume()
    assert all(len(atoms) == 11 and atoms.get_volume() == pytest.approx(volume) for atoms in frames)
    assert len({tuple(atoms.cell.cellpar().round(3)) for atoms in frames}) > 1
    for atoms in frames:
        images = atoms.cell.array.T @ (np.array(list(np.ndindex(3, 3, 3))) - 1).T
        assert np.sort(np.linalg.norm(images, axis=0))[1] > 0.85 * volume ** (1 / 3)
        assert atoms.get_all_distances(mic=True)[~np.eye(11, dtype=bool)].min() > 2


def test_supercells_are_counted_once():
    """Of an fcc lattice there are seven sublattices of index two, all of which are compact enough."""
    supercells_scc = compact_supercells(bulk('Al').cell.array, 2, compactness=0.1)
    assert len(supercells_scc) == 7 and (abs(np.linalg.det(supercells_scc).round()) == 2).all()


def test_water_and_its_clusters(tmp_path, capsys):
    pytest.importorskip('openmm')
    assert sample('water', f'{tmp_path}/w.xyz', '-n', '1', '--molecules', '8') == 0
    assert 'w.xyz: 1 geometries of 24 atoms' in capsys.readouterr().out
    liquid = read(tmp_path / 'w.xyz')
    density = 8 * 18.015 * 1.66054 / liquid.get_volume()
    assert density == pytest.approx(0.997, rel=1e-3)
    arguments = ['-n', '2', '--molecules', '8', '--cluster', '3', '--vacuum', '2.5', '--no-pbc']
    assert sample('water', f'{tmp_path}/c.xyz', *arguments) == 0
    for cluster in read(tmp_path / 'c.xyz', ':'):
        assert len(cluster) == 9 and not cluster.pbc.any()
        assert cluster.positions.min(axis=0) == pytest.approx(np.full(3, 2.5), abs=1e-6)


def test_molecule(tmp_path):
    pytest.importorskip('tblite')
    assert sample('molecule', f'{tmp_path}/m.xyz', '-n', '1', '--name', 'CH4') == 0
    assert str(read(tmp_path / 'm.xyz').symbols) == 'CH4'


def test_missing_package_says_how_to_install_it(tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, 'openmm', None)
    assert sample('water', f'{tmp_path}/w.xyz') == 2
    assert "needs openmm, which is not installed: pip install 'ase_deepdensity[sampling]'" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        (['metal', 'a.xyz', '-n', '0'], '--number must be at least 1, not 0'),
        (['metal', 'a.xyz', '-n', '99999999999999'], 'at most 1000000'),
        (['metal', 'a.xyz', '--symbol', 'Si'], "symbol must be one of Al, Cu, Ag, Au, Ni, Pd, Pt (fcc metals in ASE's"),
        (['metal', 'a.xyz', '--symbol', 'Fe'], "not 'Fe'"),
        (['metal', 'a.xyz', '--symbol', 'C'], "not 'C'"),
        (['metal', 'a.xyz', '--symbol', 'al'], "not 'al'; did you mean Al?"),
        (['metal', 'a.xyz', '--symbol', ''], "not ''"),
        (['metal', 'a.xyz', '--temperature', '-5'], 'temperature must be a number from 0 to 100000 (K), not -5'),
        (['metal', 'a.xyz', '--temperature', 'nan'], 'not nan'),
        (['metal', 'a.xyz', '--seed', '-1'], 'seed must be a whole number from 0, not -1'),
        (['metal', 'a.xyz', '--repeat', '0', '1', '1'], 'repeat must be three whole numbers from 1 to 250000'),
        (['metal', 'a.xyz', '--repeat', '999', '999', '999'], 'the number of atoms must be'),
        (['metal', 'a.xyz', '--sites', '0'], 'sites must be a whole number from 1 to 1000, not 0'),
        (['metal', 'a.xyz', '--vacancies', '-1'], 'vacancies must be a whole number from 0, not -1'),
        (['molecule', 'a.xyz', '--name', 'CH3CH2OHH'], "no molecule 'CH3CH2OHH'"),
        (['molecule', 'a.xyz', '--name', 'h2o'], 'did you mean H2O'),
        (['molecule', 'a.xyz', '--vacuum', '0'], 'vacuum must be a number above 0 (Å), not 0'),
        (['water', 'a.xyz', '--molecules', '0'], 'molecules must be a whole number from 1 to 333333, not 0'),
        (['water', 'a.xyz', '--density', '0'], 'density must be a number from 0.001 to 2 (g/cm³), not 0'),
        (['water', 'a.xyz', '--density', '1e-9'], 'not 1e-09'),
        (['water', 'a.xyz', '--cluster', '2', '--vacuum', 'nan'], '--vacuum must be a number above 0 (Å), not nan'),
        (['water', 'a.xyz', '--vacuum', '3'], 'are for clusters'),
        (['metal', 'a.foo'], 'ASE knows no format of this name'),
        (['metal', 'a.png'], 'ASE cannot write and read the format png'),
        (['metal', 'a.cube'], 'the format cube holds one geometry, not 10'),
        (['metal', '.'], "OUT must be the name of a file, not '.'"),
        (['metal', ''], "OUT must be the name of a file, not ''"),
        (['metal', 'folder.xyz'], 'OUT folder.xyz: this is a folder'),
        (['metal', 'a.xyz', '--vacancies', '32'], '32 vacancies in a cell of 32 atoms'),
        (['metal', 'a.xyz', '--sites', '3'], 'there is no compact cell of 3 sites'),
        (['metal', 'nowhere/a.xyz'], 'nowhere: no such folder'),
        (['water', 'a.xyz', '--cluster', '40'], '--cluster must be 1 to 32'),
    ],
)
def test_errors(arguments, message, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / 'folder.xyz').mkdir()
    assert sample(*arguments) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith('deepdensity: error: ') and message in line
    assert [path.name for path in tmp_path.iterdir()] == ['folder.xyz']


@pytest.mark.parametrize(
    ('options', 'message'),
    [
        (['--kind', 'metal', '--atoms', '0'], 'atoms must be a whole number from 1 to 1000000, not 0'),
        (['--kind', 'mixed', '--atoms', '3'], 'a chain of He and Be in equal parts cannot have 3 atoms'),
        (['--kind', 'metal', '--jitter', 'inf'], 'jitter must be a number from 0 (Å), not inf'),
    ],
)
def test_no_such_chain(options, message, tmp_path, capsys):
    assert main(['sample', 'chain', f'{tmp_path}/c.xyz', *options]) == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize('option', ['--equilibration', '--interval'])
@pytest.mark.parametrize('value', ['-1', 'nan', 'inf'])
def test_no_such_time(option, value, tmp_path, capsys):
    assert main(['sample', 'metal', f'{tmp_path}/a.xyz', option, value]) == 2
    assert f'{option[2:]} must be a number from 0' in capsys.readouterr().err
