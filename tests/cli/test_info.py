import json

from ase_deepdensity.cli.main import main
from ase_deepdensity.model import shipped_models


def test_card(tiny_file, capsys):
    assert main(['info', str(tiny_file)]) == 0
    text = capsys.readouterr().out
    for part in (
        'tiny\n',
        'elements          H O',
        'number 4, spacing, Å 0.5, cutoff, Å 2.5, lmax 2',
        'dzp: mode lcao, basis dzp',
        'gpaw 2',
        'dataset O: ',
        'NMAE of ñ, % 10.9',
    ):
        assert part in text, part


def test_json(tiny_file, tiny_model, capsys):
    assert main(['info', str(tiny_file), '--json']) == 0
    description = json.loads(capsys.readouterr().out)
    assert description['parameters'] == tiny_model.number_of_parameters()
    assert description['bytes'] == tiny_file.stat().st_size
    assert description['elements'] == ['H', 'O']
    assert description['card']['validation'] == {'NMAE of ñ, %': 10.9}


def test_list_of_the_shipped_models(capsys):
    assert main(['info']) == 0
    text = capsys.readouterr().out
    assert all(name in text for name in shipped_models())
    assert main(['info', '--json']) == 0
    assert sorted(json.loads(capsys.readouterr().out)) == shipped_models()


def test_unknown_model(capsys):
    assert main(['info', 'wine']) == 2
    assert "no model 'wine'" in capsys.readouterr().err
