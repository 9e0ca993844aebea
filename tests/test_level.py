import json

import numpy as np
import pytest

from ase_deepdensity.codes.gpaw.datasets import setups
from ase_deepdensity.codes.gpaw.parameters import gpaw_parameters, with_versions
from ase_deepdensity.level import NAMED, Level, LevelError
from ase_deepdensity.spelling import NUMERICAL, PHYSICAL
from tests.conftest import FAST


def test_keywords_are_those_of_gpaw():
    from gpaw.dft import PARAMETER_NAMES

    of_old_gpaw = {'background_charge', 'external'}
    of_the_system = {'charge'}
    assert {*PHYSICAL, *NUMERICAL} == set(PARAMETER_NAMES) - of_old_gpaw - of_the_system


@pytest.mark.parametrize('name', NAMED)
def test_round_trip_of_a_named_level(name):
    level = Level.load(name)
    copy = Level.from_dict(json.loads(json.dumps(level.to_dict())))
    assert copy == level and copy.name == name and hash(copy) == hash(level)


def test_general_level_leaves_out_what_belongs_to_certain_atoms():
    level = Level(FAST | {'nbands': 20, 'parallel': {'domain': 1}, 'convergence': {'density': 1e-6}}, 'mine')
    assert level.general() == level and level.general().name == 'mine'
    assert level.general().parameters == FAST | {'convergence': {'density': 1e-6}}


def test_load_from_file(tmp_path):
    path = tmp_path / 'coarse.json'
    path.write_text(json.dumps(FAST))
    assert Level.load(path).name == 'coarse'
    assert Level.load(path).parameters == FAST


@pytest.mark.parametrize(
    ('text', 'message'),
    [
        ('{"mode": "lcao", "cutoff": 3}', r"no keyword 'cutoff'; allowed are basis, .*xc"),
        ('{"xc": "PBE"}', '"mode" is missing'),
        ('{"mode": "lcao", "charge": 1}', r"a charge \(1 .e.\) belongs to the atoms, .*: set atoms.info\['charge'\]"),
        ('{"mode": ', 'not a JSON file'),
        ('[1, 2]', 'must hold a dictionary'),
    ],
)
def test_bad_files(tmp_path, text, message):
    path = tmp_path / 'bad.json'
    path.write_text(text)
    with pytest.raises(LevelError, match=message):
        Level.load(path)


def test_unknown_name_shows_the_names():
    with pytest.raises(LevelError, match="no level of theory 'pw4000': use pw400, dzp, general-pw400, ks1d"):
        Level.load('pw4000')


@pytest.mark.parametrize('bad', [{'mode': 'pwx'}, {'mode': 'lcao', 'h': 0.2, 'gpts': [8, 8, 8]}])
def test_values_that_gpaw_refuses(bad):
    with pytest.raises(LevelError, match='GPAW refuses'):
        gpaw_parameters(Level(bad))


def test_missing_dataset():
    with pytest.raises(LevelError, match='Po is missing'):
        setups(Level.load('dzp'), [84])


def test_differences_name_physical_items_only():
    level = Level.load('dzp')
    assert level.differences(Level(level.parameters | {'convergence': {'energy': 1e-3}, 'maxiter': 3})) == []
    assert level.differences(Level(level.parameters | {'h': 0.18})) == ['h: 0.2 against 0.18']
    (line,) = level.differences(Level(level.parameters | {'kpts': [2, 2, 2]}))
    assert line.startswith('kpts:')
    assert {line.split(':')[0] for line in level.differences(Level.load('pw400'))} == {'mode', 'basis', 'h'}


def test_one_level_in_many_spellings():
    assert Level({'mode': 'pw'}) == Level({'mode': {'name': 'pw', 'ecut': 340}, 'xc': 'LDA', 'kpts': (1, 1, 1)})
    assert Level({'mode': 'lcao', 'basis': 'dzp'}) == Level(
        {'mode': {'name': 'lcao'}, 'basis': {'default': 'dzp'}, 'h': 0.2, 'setups': 'paw', 'charge': 0}
    )
    assert Level({'mode': 'pw', 'basis': 'dzp'}) == Level({'mode': 'pw'})
    assert Level({'mode': 'lcao', 'basis': 'dzp'}) != Level({'mode': 'lcao'})


def test_versions_count_where_both_are_known():
    level = Level.load('dzp')
    versioned = with_versions(level, [8, 1])
    assert versioned == level and versioned.versions['datasets'].keys() == {'H', 'O'}
    assert versioned == with_versions(level, [1]), 'only common elements are compared'
    other = Level(level.parameters, '', versioned.versions | {'datasets': {'H': 'x'}, 'gpaw': '1.0'})
    assert [line.split(':')[0] for line in versioned.differences(other)] == [
        'version of gpaw',
        'version of the H dataset',
    ]


def test_from_gpaw_recognises_named_levels(molecule_calc):
    assert Level.from_gpaw(molecule_calc).name == 'gpaw'
    assert Level.from_gpaw(molecule_calc).differences(Level.load('dzp')) == ['h: 0.25 against 0.2']


def test_setups_are_read_once():
    level = Level.load('dzp')
    assert setups(level, np.array([8, 1, 1])) is setups(level, [8, 1, 1])
    assert [setup.symbol for setup in setups(level, [8, 1, 1])] == ['O', 'H', 'H']


def test_level_of_a_calculation_fits_other_atoms(molecule_calc):
    """A number of bands or of processes belongs to a system, not to a level."""
    assert not Level.from_gpaw(molecule_calc).parameters.keys() & {'nbands', 'parallel', 'txt'}
