import pytest

from ase_deepdensity.cli.main import main
from tests.training.conftest import SETTINGS, dataset  # noqa: F401  (a fixture)


@pytest.fixture
def folder(tmp_path, dataset, monkeypatch):  # noqa: F811
    import json

    monkeypatch.chdir(tmp_path)
    (tmp_path / 'data').symlink_to(dataset.files[0].parent)
    (tmp_path / 'c.json').write_text(json.dumps(SETTINGS))
    return tmp_path


def test_train_then_continue(folder, capsys):
    command = ['train', 'data', '--out', 'm', '--config', 'c.json', '--steps', '20', '--quiet']
    assert main(command) == 0
    out = capsys.readouterr().out
    assert '4 snapshots to train on, 1 to validate on' in out
    assert 'validation: NMAE' in out
    assert {'m.safetensors', 'm.csv', 'm.png', 'm.checkpoint'} <= {path.name for path in folder.iterdir()}
    assert main(command) == 0
    assert 'continuing m.checkpoint at step 20' in capsys.readouterr().out


def test_a_dot_in_the_name_stays(folder):
    assert main(['train', 'data', '--out', 'water-1.5', '--config', 'c.json', '--steps', '2', '--quiet']) == 0
    assert {'water-1.5.safetensors', 'water-1.5.csv'} <= {path.name for path in folder.iterdir()}


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        (['nothing'], 'nothing: no such file or folder'),
        (['data', '--validate-on', 'nothing'], 'nothing: no such file or folder'),
        (['data', '--validate-on', 'data'], 'is to be trained on and to validate on; it cannot be both'),
        (['data', '--config', 'none.json'], 'cannot be read'),
        (['data', '--steps', '0'], 'steps must be a whole number from 1, not 0'),
        (['data', '--init', 'nobody'], "no model 'nobody'"),
        (['data', '--device', 'cuda'], 'no CUDA device'),
        (['data', '--device', 'meta'], "no device 'meta'"),
        (['data', '--device', 'gpu'], "no device 'gpu'"),
        (['data', '--out', 'nowhere/m'], 'nowhere: no such folder'),
        (['data', '--out', ''], "--out must be the name of a model file, not ''"),
        (['data', '--memory', '-1'], '--memory must be a number from 0 (GiB), not -1.0'),
        (['data', '--out', 'folder'], '--out folder.safetensors: this is a folder'),
    ],
)
def test_errors(folder, capsys, monkeypatch, arguments, message):
    monkeypatch.setattr('torch.cuda.is_available', lambda: False)
    (folder / 'folder.safetensors').mkdir()
    assert main(['train', '--out', 'm', '--quiet', *arguments]) == 2
    assert message in capsys.readouterr().err
    assert not (folder / 'm.safetensors').exists()


def test_an_interrupted_training_says_how_to_go_on(folder, capsys, monkeypatch):
    from ase_deepdensity.training.loop import Trainer

    step = Trainer._step

    def interrupted(self, number):
        if number == last:
            raise KeyboardInterrupt
        return step(self, number)

    monkeypatch.setattr(Trainer, '_step', interrupted)
    command = ['train', 'data', '--out', 'm', '--config', 'c.json', '--steps', '20', '--quiet']
    last = 5
    assert main(command) == 130
    assert 'no checkpoint was written yet: the same command starts anew' in capsys.readouterr().err
    last = 15
    assert main(command) == 130
    assert 'the same command continues from m.checkpoint' in capsys.readouterr().err
    last = 99
    assert main(command) == 0
    assert 'continuing m.checkpoint at step 10' in capsys.readouterr().out
    assert not (folder / 'm.lock').exists()
