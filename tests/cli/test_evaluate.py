import json
from dataclasses import replace

import numpy as np
import pytest

from ase_deepdensity.cli.main import main
from ase_deepdensity.dataset import Snapshot, write_snapshot
from ase_deepdensity.level import Level
from ase_deepdensity.model import DensityModel
from ase_deepdensity.predict import Predictor
from tests.tiny import build_model, water_box

pytestmark = pytest.mark.filterwarnings('ignore::ase_deepdensity.checks.UnfamiliarWarning')

SCALES = {'same': 1.0, 'wrong': 1.02}


def snapshot(tiny_model, seed, scale=1.0, spacing=3.1, **changes):
    """What the model predicts, ñ times ``scale``, without atom types and versions: the electrons do not add up."""
    density = Predictor(tiny_model).predict(water_box(seed=seed, spacing=spacing))
    level = replace(tiny_model.level, versions={})
    density = density.new(nt_sR=density.nt_sR * scale, **{'level': level, 'atom_types': None} | changes)
    return Snapshot(density, 0.0, np.zeros((24, 3)), np.zeros(3), niter=9, seconds=1.0)


@pytest.fixture
def folder(tmp_path, tiny_model, tiny_file, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / 'tiny.safetensors').write_bytes(tiny_file.read_bytes())
    (tmp_path / 'data').mkdir()
    for seed, (name, scale) in enumerate(SCALES.items()):
        write_snapshot(tmp_path / 'data' / f'{name}.h5', snapshot(tiny_model, seed, scale))
    return tmp_path


def test_each_strange_snapshot_is_warned_about_once(folder, tiny_model, capsys):
    (folder / 'strange').mkdir()
    for seed in range(2):
        write_snapshot(folder / 'strange' / f'{seed}.h5', snapshot(tiny_model, seed, spacing=2.2))
    assert main(['evaluate', 'tiny.safetensors', 'strange', '--plot', 'x.png']) == 0
    assert capsys.readouterr().err.count('unlike the training data') == 2


def test_kpoints_of_the_data_set_are_told_to_models_that_ask(tmp_path, tiny_metal, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    tiny_metal.save('metal.safetensors')
    level = replace(tiny_metal.level, parameters=tiny_metal.level.parameters | {'kpts': [3, 1, 1]})
    density = Predictor(tiny_metal, level=level).predict(water_box(seed=1))
    (tmp_path / 'data').mkdir()
    write_snapshot(tmp_path / 'data' / 'a.h5', Snapshot(density, 0.0, np.zeros((24, 3)), np.zeros(3), 9, 1.0))
    assert main(['evaluate', 'metal.safetensors', 'data', '--json', 'e.json']) == 0
    assert 'warning: the data set' not in capsys.readouterr().err
    report = json.loads((tmp_path / 'e.json').read_text())
    assert report['mean']['nmae'] < 1e-4 and report['level differences'] == []


def test_table(folder, capsys):
    assert main(['evaluate', 'tiny.safetensors', 'data']) == 0
    title, head, units, *rows = capsys.readouterr().out.splitlines()
    assert title == 'tiny on data, level dzp'
    assert head.split() == [
        'snapshot',
        'atoms',
        'NMAE',
        'ε_D',
        'H',
        'ε_D',
        'O',
        'ε_D',
        'total',
        'dipole',
        'electrons',
        'time',
    ]
    assert units.split() == ['%', 'e·Å', 's']
    same, wrong, mean = (row.split() for row in rows)
    assert same[:2] == ['same', '24'] and float(same[2]) == pytest.approx(0, abs=1e-4)
    assert float(wrong[2]) == pytest.approx(100 * 0.02 / 1.02, rel=1e-3)
    assert float(wrong[7]) == pytest.approx(64, abs=1e-3)
    assert mean[:3] == ['mean', 'of', '2'] and float(mean[3]) == pytest.approx(float(wrong[2]) / 2, rel=1e-3)


def test_json(folder):
    assert main(['evaluate', 'tiny.safetensors', 'data/wrong.h5', 'data/same.h5', '--json', 'a.json', '--float64']) == 0
    content = json.loads((folder / 'a.json').read_text())
    assert content['model'] == 'tiny' and content['level']['name'] == 'dzp' and content['level differences'] == []
    wrong, same = content['snapshots']
    assert wrong['name'] == 'wrong' and wrong['electron_error'] == pytest.approx(-1.28, rel=0.1)
    assert same['epsilon_D'].keys() == {'H', 'O', 'total'} and same['epsilon_D']['total'] < 1e-4
    assert content['mean']['nmae'] == pytest.approx((wrong['nmae'] + same['nmae']) / 2)
    assert content['mean']['snapshots'] == 2


def test_error_of_the_magnetisation(folder, tiny_model, capsys):
    """A spin-paired model misses all of it; where there is none the figure is missing."""
    polarised = snapshot(tiny_model, 2).density.with_spins(2)
    share_s = np.array([1.2, 0.8])
    polarised = polarised.new(
        nt_sR=polarised.nt_sR * share_s[:, None, None, None],
        D_asii=[D_sii * share_s[:, None, None] for D_sii in polarised.D_asii],
    )
    spin = Snapshot(polarised, 0.0, np.zeros((24, 3)), np.zeros(3), niter=9, seconds=1.0)
    write_snapshot(folder / 'data' / 'spin.h5', spin)
    assert (
        main(['evaluate', 'tiny.safetensors', 'data', '--json', 'a.json', '--record', 'spin', '--plot', 'a.png']) == 0
    )
    _, head, units, *rows, _, _, _ = capsys.readouterr().out.splitlines()
    assert 'NMAE of m' in head and units.split() == ['%', '%', 'e·Å', 's']
    values = {row.split()[0]: row.split() for row in rows}
    assert values['same'][3] == '–' and float(values['spin'][3]) == pytest.approx(100)
    content = json.loads((folder / 'a.json').read_text())
    errors = {row['name']: row['magnetisation_nmae'] for row in content['snapshots']}
    assert errors['same'] is None and errors['spin'] == content['mean']['magnetisation_nmae'] == pytest.approx(100)
    same, spin = (content['snapshots'][i]['epsilon_D']['total'] for i in (0, 1))
    assert same < 1e-4 and spin > 0.05
    assert DensityModel.load('tiny.safetensors').card['measured']['spin']['NMAE of m, %'] == pytest.approx(100)


def test_picture(folder, capsys):
    assert main(['evaluate', 'tiny.safetensors', 'data', '--plot', 'a.png']) == 0
    assert 'wrote a.png' in capsys.readouterr().out
    assert (folder / 'a.png').read_bytes().startswith(b'\x89PNG')


def test_record_writes_into_the_card(folder, capsys):
    assert main(['evaluate', 'tiny.safetensors', 'data', '--record', '8 molecules']) == 0
    measured = DensityModel.load('tiny.safetensors').card['measured']['8 molecules']
    assert measured['snapshots'] == 2
    assert measured['NMAE of ñ, %'] == pytest.approx(100 * 0.01 / 1.02, rel=1e-2)
    assert main(['info', 'tiny.safetensors']) == 0
    assert '8 molecules' in capsys.readouterr().out


def test_another_level(folder, tiny_model, capsys):
    other = Level(tiny_model.level.parameters | {'xc': 'LDA'}, 'lda')
    (folder / 'lda').mkdir()
    write_snapshot(folder / 'lda' / 'a.h5', snapshot(tiny_model, 0, level=other))
    assert main(['evaluate', 'tiny.safetensors', 'lda']) == 2
    message = capsys.readouterr().err
    assert 'another level of theory than tiny: xc: "LDA" against "PBE"' in message and '--on-mismatch warn' in message
    assert main(['evaluate', 'tiny.safetensors', 'lda', '--on-mismatch', 'warn', '--json', 'a.json']) == 0
    assert capsys.readouterr().err.startswith('warning: the data set is at another level')
    assert json.loads((folder / 'a.json').read_text())['level differences'] == ['xc: "LDA" against "PBE"']


def test_elements_that_the_model_does_not_know(folder, capsys):
    build_model(Level.load('dzp'), species=(1,)).save('hydrogen.safetensors')
    assert main(['evaluate', 'hydrogen.safetensors', 'data']) == 2
    assert 'the data set has O; tiny knows H only' in capsys.readouterr().err


def test_errors(folder, capsys):
    assert main(['evaluate', 'tiny.safetensors', 'nowhere']) == 2
    assert 'nowhere: no such file or folder' in capsys.readouterr().err
    assert main(['evaluate', 'nothing', 'data']) == 2
    assert "no model 'nothing'" in capsys.readouterr().err
    for option, name, message in [
        ('--json', 'nowhere/a.json', 'nowhere: no such folder'),
        ('--json', 'data', '--json data: this is a folder'),
        ('--plot', 'a.txt', 'use a name that ends in .png, .pdf or .svg'),
        ('--plot', '', "--plot must be the name of a file, not ''"),
        ('--device', 'meta', "no device 'meta'"),
    ]:
        assert main(['evaluate', 'tiny.safetensors', 'data', option, name]) == 2
        output = capsys.readouterr()
        assert message in output.err and not output.out, 'refused before any work'
