import re
from types import SimpleNamespace

import numpy as np
import pytest
from ase.calculators.vasp import VaspChargeDensity
from ase.io import read, write

from ase_deepdensity import memory
from ase_deepdensity.analysis.pseudo import pseudo_density
from ase_deepdensity.cli import needs
from ase_deepdensity.cli.main import main
from ase_deepdensity.cli.predict import file_kind, numbered
from ase_deepdensity.dataset.density_file import read_density
from ase_deepdensity.dataset.volumetric import read_cube
from ase_deepdensity.dataset.zarr_folder import read_zarr
from ase_deepdensity.predict import Predictor
from tests.test_predict import lone_molecule
from tests.tiny import build_model, water_box
from tests.tolerances import EXACT, FLOAT32

pytestmark = pytest.mark.filterwarnings('ignore::ase_deepdensity.checks.UnfamiliarWarning')


@pytest.fixture
def folder(tmp_path, monkeypatch, water, tiny_file):
    """A working directory with a geometry and a model."""
    monkeypatch.chdir(tmp_path)
    write('water.xyz', water)
    (tmp_path / 'tiny.safetensors').write_bytes(tiny_file.read_bytes())
    return tmp_path


def predict(*arguments: str) -> int:
    return main(['predict', *arguments])


def test_report_and_files(folder, water, tiny_model, capsys):
    outs = ['water.cube', 'CHGCAR', 'water.h5']
    arguments = [argument for out in outs for argument in ('--out', out)]
    assert predict('water.xyz', 'tiny.safetensors', *arguments, '--plot', 'water.png') == 0
    report = dict(line.split(maxsplit=1) for line in capsys.readouterr().out.splitlines())
    assert report['model'] == 'tiny, level dzp'
    assert report['grid'] == '32×32×32, 0.194 0.194 0.194 Å'
    assert report['electrons'] == '64.000000'
    assert report['dipole'].endswith('e·Å') and report['strangest'].startswith('atom ')
    assert all(part in report['time'] for part in ('set-up', 'network', 'grid'))
    assert sorted(path.name for path in folder.iterdir()) == sorted(
        [*outs, 'tiny.safetensors', 'water.png', 'water.xyz']
    )

    density = Predictor(tiny_model).predict(read('water.xyz'))
    stored = read_density('water.h5')
    assert stored.nt_sR == pytest.approx(density.nt_sR, rel=1e-6)
    assert stored.level == density.level
    n_R = pseudo_density(density)
    atoms, cube_R = read_cube('water.cube')
    assert cube_R == pytest.approx(n_R, rel=1e-6)
    assert np.abs(atoms.positions - water.positions).max() < 1e-5 and (atoms.numbers == water.numbers).all()
    chgcar = VaspChargeDensity('CHGCAR')
    assert chgcar.chg[0] == pytest.approx(n_R, rel=1e-6)
    assert sorted(chgcar.atoms[0].symbols) == sorted(water.symbols)
    assert (folder / 'water.png').read_bytes().startswith(b'\x89PNG')


def test_spin(folder, tiny_model, capsys):
    """What is written is up minus down; models and geometries without are refused before any prediction."""
    model = build_model(tiny_model.level, network='universal', magnetic=True)
    model.save('spin.safetensors')
    atoms = water_box((1, 1, 1))
    write('none.xyz', atoms)
    atoms.set_initial_magnetic_moments([2.0, 0.5, 0.5])
    write('spin.xyz', atoms)
    outs = [
        '--extrapolate',
        '--out',
        'spin.cube',
        '--plot',
        'spin.png',
        '--range',
        '-0.01',
        '0.01',
        '--view',
        'spin.html',
    ]
    assert predict('spin.xyz', 'spin.safetensors', '--quantity', 'spin', *outs) == 0
    report = dict(line.split(maxsplit=1) for line in capsys.readouterr().out.splitlines())
    density = Predictor(model, extrapolate=True).predict(read('spin.xyz'))
    m_R = density.nt_sR[0] - density.nt_sR[1]
    assert np.abs(m_R).max() > 1e-6
    assert read_cube('spin.cube')[1] == pytest.approx(m_R, rel=1e-4, abs=1e-5 * np.abs(m_R).max())
    assert report['moment'] == f'{density.magnetic_moment():.4f} μB' and float(report['electrons']) == pytest.approx(8)
    assert (folder / 'spin.png').exists() and (folder / 'spin.html').exists()

    for geometry, name, message in [
        ('none.xyz', 'spin.safetensors', '--quantity spin: frame 0 of none.xyz has no initial magnetic moments'),
        ('spin.xyz', 'tiny.safetensors', '--quantity spin: tiny predicts no magnetisation'),
    ]:
        assert predict(geometry, name, '--quantity', 'spin', '--out', 'no.cube') == 2
        assert message in capsys.readouterr().err and not (folder / 'no.cube').exists()


@pytest.mark.parametrize(('quantity', 'electrons'), [('pseudo', 8), ('all-electron', 10), ('smooth', None)])
def test_quantities_on_zero_boundaries(folder, tiny_model, quantity, electrons, capsys):
    """Cube files hold all points of the cell, those of the zero boundary too."""
    write('one.xyz', lone_molecule())
    assert predict('one.xyz', 'tiny.safetensors', '--quantity', quantity, '--out', 'one.cube', '--plot', 'one.pdf') == 0
    density = Predictor(tiny_model).predict(read('one.xyz'))
    atoms, n_R = read_cube('one.cube')
    assert n_R.shape == tuple(density.grid.size_c)
    electrons = density.integral() if electrons is None else electrons
    assert n_R.sum() * atoms.get_volume() / n_R.size == pytest.approx(electrons, rel=1e-4)
    report = dict(line.split(maxsplit=1) for line in capsys.readouterr().out.splitlines())
    assert float(report['electrons'].split()[0]) == pytest.approx(electrons, abs=1e-5)
    if quantity != 'pseudo':
        assert report['electrons'].endswith(f' in the {quantity} density; there are 8.000000 valence electrons')


def test_dipole_of_a_liquid_has_a_caveat(folder, capsys):
    write('one.xyz', lone_molecule())
    assert predict('one.xyz', 'tiny.safetensors') == 0 and 'begins' not in capsys.readouterr().out
    assert predict('water.xyz', 'tiny.safetensors') == 0
    lines = capsys.readouterr().out.splitlines()
    (i,) = (i for i, line in enumerate(lines) if line.startswith('dipole'))
    assert lines[i + 1].split(': ') == [
        '           depends on where the cell begins',
        'matter reaches across its boundary along lattice vectors 1, 2, 3',
    ]


def test_electrons_without_any_file(folder, capsys):
    assert predict('water.xyz', 'tiny.safetensors', '--quantity', 'all-electron') == 0
    assert 'electrons  80.0000' in capsys.readouterr().out


@pytest.mark.parametrize('source', ['water.xyz', 'one.xyz'])
def test_streamed_cube_is_the_same(folder, source):
    write('one.xyz', lone_molecule())
    common = [source, 'tiny.safetensors', '--quantity', 'smooth']
    assert predict(*common, '--out', 'whole.cube') == 0
    assert predict(*common, '--out', 'slabs.cube', '--stream') == 0
    assert read_cube('slabs.cube')[1] == pytest.approx(read_cube('whole.cube')[1], rel=1e-5)


def test_streamed_hdf5_is_the_same(folder):
    assert predict('water.xyz', 'tiny.safetensors', '--out', 'whole.h5') == 0
    assert predict('water.xyz', 'tiny.safetensors', '--out', 'slabs.h5', '--stream') == 0
    whole, slabs = read_density('whole.h5'), read_density('slabs.h5')
    assert slabs.nt_sR == pytest.approx(whole.nt_sR, abs=FLOAT32 * whole.nt_sR.max())
    assert all(np.array_equal(*pair) for pair in zip(whole.D_asii, slabs.D_asii, strict=True))
    assert slabs.number_of_electrons() == pytest.approx(64, rel=1e-5)


def test_zarr(folder, tiny_model, water, capsys):
    assert predict('water.xyz', 'tiny.safetensors', '--out', 'water.zarr') == 0
    assert 'wrote      water.zarr' in capsys.readouterr().out
    _, grid, data = read_zarr('water.zarr')
    density = Predictor(tiny_model).predict(read('water.xyz'))
    assert grid == density.grid
    np.testing.assert_allclose(data[:], density.nt_sR, atol=FLOAT32 * density.nt_sR.max())
    assert data.dtype == np.float32
    assert predict('water.xyz', 'tiny.safetensors', '--out', 'water.zarr', '--float64') == 0, 'it is not replaced'
    assert read_zarr('water.zarr')[2].dtype == np.float64


def test_zarr_of_frames(folder):
    write('trajectory.xyz', [water_box(seed=seed) for seed in range(2)])
    assert predict('trajectory.xyz', 'tiny.safetensors', '--out', 'w.zarr') == 0
    assert {path.name for path in folder.glob('w*')} == {'w-00000.zarr', 'w-00001.zarr', 'water.xyz'}


@pytest.mark.parametrize(
    'more', [['--plot', 'a.png'], ['--out', 'a.cube'], ['--quantity', 'all-electron'], ['--out', 'b.zarr']]
)
def test_zarr_goes_with_nothing_else(folder, more, capsys):
    assert predict('water.xyz', 'tiny.safetensors', '--out', 'a.zarr', *more) == 2
    assert '--out FILE.zarr is written slab by slab' in capsys.readouterr().err


def test_zarr_in_place_of_something_else(folder, capsys):
    (folder / 'a.zarr').mkdir()
    assert predict('water.xyz', 'tiny.safetensors', '--out', 'a.zarr') == 2
    assert 'a.zarr: this is there already and no density' in capsys.readouterr().err


def test_grid_and_precision(folder, capsys):
    assert predict('water.xyz', 'tiny.safetensors', '--gpts', '36', '36', '40', '--float64') == 0
    assert 'grid       36×36×40' in capsys.readouterr().out
    assert predict('water.xyz', 'tiny.safetensors', '--h', '0.15') == 0
    assert 'grid       40×40×40' in capsys.readouterr().out


def test_frames_are_numbered(folder, capsys):
    write('trajectory.xyz', [water_box(seed=seed) for seed in range(3)])
    assert predict('trajectory.xyz@1:', 'tiny.safetensors', '--float64', '--out', 'w.h5', '--out', 'CHGCAR') == 0
    assert {path.name for path in folder.glob('w-*')} == {'w-00000.h5', 'w-00001.h5'}
    assert (folder / 'CHGCAR-00001').exists()
    assert '(frame 1 of trajectory.xyz@1:)' in capsys.readouterr().out
    assert predict('trajectory.xyz@-1', 'tiny.safetensors', '--float64', '--out', 'last.h5') == 0
    assert read_density('last.h5').nt_sR == pytest.approx(read_density('w-00001.h5').nt_sR, rel=EXACT)


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        (['none.xyz', 'tiny.safetensors'], 'none.xyz: no such file'),
        (['water.xyz', 'none'], "no model 'none'"),
        (['water.xyz', 'water.xyz'], 'water.xyz: not a model file'),
        (['water.xyz', 'tiny.safetensors', '--out', 'water.xsf'], 'what kind of file?'),
        (['water.xyz', 'tiny.safetensors', '--out', 'nowhere/water.cube'], 'nowhere: no such folder'),
        (['w.cube', 'tiny.safetensors', '--out', './w.cube'], 'is the geometry itself'),
        (['water.xyz', 'tiny.safetensors', '--plot', 'water.txt'], '.png, .pdf or .svg'),
        (['water.xyz', 'tiny.safetensors', '--out', 'a.h5', '--out', 'a.h5'], 'a file of its own'),
        (['water.xyz', 'tiny.safetensors', '--out', 'a.cube', '--stream'], '--quantity smooth'),
        (['water.xyz', 'tiny.safetensors', '--out', 'a.h5', '--out', 'b.h5', '--stream'], 'one file slab by slab'),
        (['water.xyz', 'tiny.safetensors', '--h', '0.7'], 'too coarse'),
        (['water.xyz', 'tiny.safetensors', '--h', '-1'], 'h must be a number above 0 (Å), not -1'),
        (['water.xyz', 'tiny.safetensors', '--h', 'nan'], 'not nan'),
        (['water.xyz', 'tiny.safetensors', '--h', '1e-300'], 'too fine'),
        (['water.xyz', 'tiny.safetensors', '--gpts', '0', '32', '32'], 'gpts must be three whole numbers from 1'),
        (['water.xyz', 'tiny.safetensors', '--gpts', '32', '32', '9' * 30], 'from 1 to 1000000, not [32, 32, 99'),
        (['water.xyz', 'tiny.safetensors', '--kpts', '0', '1', '1'], 'kpts must be three whole numbers from 1'),
        (['water.xyz', 'tiny.safetensors', '--kpts', '999', '999', '999'], 'the number of --kpts must be'),
        (['water.xyz', 'tiny.safetensors', '--device', 'meta'], "no device 'meta' for these models; use cpu or cuda"),
        (['water.xyz', 'tiny.safetensors', '--device', 'gpu'], "no device 'gpu'; use cpu or cuda"),
        (['water.xyz', 'tiny.safetensors', '--out', 'folder.h5'], '--out folder.h5: this is a folder'),
        (['water.xyz', 'tiny.safetensors', '--out', 'a.h5', '--out', './a.h5'], 'a file of its own'),
        (['water.xyz', 'tiny.safetensors', '--plot', ''], "--plot must be the name of a file, not ''"),
        (['water.xyz', 'tiny.safetensors', '--out', 'w\0.cube'], 'must be the name of a file'),
        (['water.xyz@1', 'tiny.safetensors'], 'water.xyz@1: no such frame; the file holds 1'),
        (['water.xyz', 'tiny'], "no model 'tiny': neither a file nor a shipped model"),
        (['water.xyz', 'tiny'], 'did you mean tiny.safetensors?'),
        (['water.xyz', '.'], 'this is a folder'),
        (['water.xyz', 'tiny.safetensors', '--kpts', '2', '2', '2'], 'tiny is not told about k-points'),
    ],
)
def test_errors_come_before_any_file(folder, capsys, arguments, message):
    write('w.cube', read('water.xyz'))
    (folder / 'folder.h5').mkdir()
    before = {path: path.read_bytes() for path in folder.iterdir() if path.is_file()}
    assert predict(*arguments) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith('deepdensity: error: ') and message in line
    assert {path: path.read_bytes() for path in folder.iterdir() if path.is_file()} == before


def test_file_names(tmp_path):
    kinds = {'a.cube': 'cube', 'CHGCAR': 'chgcar', 'CHGCAR_a': 'chgcar', 'a.chgcar': 'chgcar', 'a.hdf5': 'h5'}
    assert {name: file_kind(name) for name in kinds} == kinds
    assert numbered(tmp_path / 'a.cube', 12) == tmp_path / 'a-00012.cube'
    assert numbered(tmp_path / 'a.cube', None) == tmp_path / 'a.cube'


def test_what_it_takes_is_said_and_refused_before_any_work(folder, monkeypatch, capsys):
    """Here of 32³ points at 32 bytes, 24 atoms, and 13 bytes for each number of a cube file."""
    monkeypatch.setattr(needs, 'WORTH_SAYING', 10**6)
    assert predict('water.xyz', 'tiny.safetensors', '--out', 'w.cube', '--out', 'w.h5') == 0
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith('needs')]
    memory_needed, most = (float(word) for word in re.findall(r'(\S+) GiB of', lines[0]))
    assert memory_needed * 2**30 > 32**4
    files = sum((folder / name).stat().st_size for name in ('w.cube', 'w.h5'))
    assert 0.7 * most * 2**30 < files < 1.05 * most * 2**30

    monkeypatch.setattr(memory, 'physical_memory', lambda: 2**20)
    before = sorted(folder.iterdir())
    assert predict('water.xyz', 'tiny.safetensors', '--out', 'no.cube') == 2
    assert re.search(r'--stream, holds .* would take \S+ GiB of memory, and this machine has', capsys.readouterr().err)
    monkeypatch.undo()
    monkeypatch.chdir(folder)
    monkeypatch.setattr(needs.shutil, 'disk_usage', lambda folder: SimpleNamespace(free=10**5))
    assert predict('water.xyz', 'tiny.safetensors', '--out', 'no.cube') == 2
    assert re.search(r'the files would take 0\.\d+ GiB and \. has 9.31e-05 GiB left', capsys.readouterr().err)
    assert sorted(folder.iterdir()) == before
    assert predict('water.xyz', 'tiny.safetensors', '--out', 'yes.h5') == 0, 'how small it becomes is not known'


def test_strange_atoms_are_warned_about(folder, capsys):
    write('squeezed.xyz', water_box(spacing=2.2))
    assert predict('squeezed.xyz', 'tiny.safetensors') == 0
    assert capsys.readouterr().err.startswith('warning: ')


def test_pictures(folder, capsys):
    drawn = ['--plot', 'w.svg', '--plane', 'bc', '--through', '2', '--range', '0.01', '3', '--view', 'w.png', '--gpts']
    assert predict('water.xyz', 'tiny.safetensors', *drawn, '16', '16', '16') == 0
    assert (folder / 'w.svg').stat().st_size > 10_000 and (folder / 'w.png').stat().st_size > 10_000
    assert capsys.readouterr().out.count('(pseudo density)') == 2
    bonds = [
        '--difference',
        '--plot',
        'd.png',
        '--through',
        '0',
        '1',
        '2',
        '--range',
        '-0.1',
        '0.1',
        '--view',
        'd.html',
    ]
    assert predict('water.xyz', 'tiny.safetensors', *bonds, '--gpts', '16', '16', '16') == 0
    assert capsys.readouterr().out.count('(smooth density minus that of free atoms)') == 2
    assert (folder / 'd.html').stat().st_size > 1e6


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        (['--plane', 'ab'], '--plane is for --plot FILE, which is not given'),
        (['--plot', 'x.html'], '--plot x.html: a page shows a surface that turns: --view x.html'),
        (['--plot', 'x.png', '--through', '24'], '--through 24: (OH2)8 has the atoms 0 to 23'),
        (['--plot', 'x.png', '--through', '0', '1'], '--through takes one atom or three, not 2'),
        (['--plot', 'x.png', '--through', '0', '1', '2', '--plane', 'ab'], 'leave out --plane'),
        (['--plot', 'x.png', '--range', '-1', '1'], '--range must be two numbers, above 0'),
        (['--plot', 'x.png', '--range', 'nan', '1'], '--range must be two numbers, above 0'),
        (['--plot', 'x.png', '--range', '1', '0.1', '--difference'], 'the lower one first, not 1 0.1'),
        (['--view', 'x.txt'], '--view x.txt: use a name that ends in .html'),
        (['--view', 'x.html', '--isovalue', '-1'], '--isovalue must be a number above 0'),
        (['--isovalue', '1'], '--isovalue is for --view FILE'),
        (['--difference'], '--difference is for --plot FILE and --view FILE'),
    ],
)
def test_pictures_that_cannot_be_are_refused_before_any_work(folder, capsys, arguments, message):
    before = sorted(folder.iterdir())
    assert predict('water.xyz', 'tiny.safetensors', *arguments) == 2
    captured = capsys.readouterr()
    assert message in captured.err.replace(str(read('water.xyz').symbols), '(OH2)8')
    assert captured.out == '' and sorted(folder.iterdir()) == before
