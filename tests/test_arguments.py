import numpy as np
import pytest
from ase import Atoms

from ase_deepdensity.arguments import did_you_mean, formula, one_of, real, reason, shown, three_whole, whole


@pytest.mark.parametrize('value', [-1, 0, 0.0, np.nan, np.inf, -np.inf, True, '1', None, [1.0], 1j, np.float64(-1)])
def test_no_positive_number(value):
    with pytest.raises(ValueError, match=r'h must be a number above 0 \(Å\), not ') as error:
        real('h', value, above=0, unit='Å')
    assert 'np.' not in str(error.value)


def test_plain_numbers_come_out():
    assert type(real('h', np.float32(0.5), above=0)) is float and type(whole('n', np.int64(3), least=1)) is int
    assert real('h', 1, least=1, most=1) == 1.0
    assert three_whole('gpts', np.array([1, 2, 3]), least=1, most=3) == (1, 2, 3)


@pytest.mark.parametrize('value', [-1, 0, 11, 1.0, 1.5, np.nan, True, '3', None, 10**30])
def test_no_whole_number(value):
    with pytest.raises(ValueError, match='n must be a whole number from 1 to 10, not '):
        whole('n', value, least=1, most=10)


@pytest.mark.parametrize('value', [3, (1, 2), (1, 2, 3, 4), (0, 1, 1), (1, 1, 1.0), 'abc', np.ones((3, 1), int), None])
def test_no_three_whole_numbers(value):
    with pytest.raises(ValueError, match='gpts must be three whole numbers from 1 to 9, not '):
        three_whole('gpts', value, least=1, most=9)


def test_numbers_of_numpy_look_like_those_of_python():
    assert shown((np.int64(3), [np.float64(0.5)])) == '(3, [0.5])'
    assert shown(np.array([1, 2])) == '[1, 2]' and shown(np.bool_(True)) == 'True'
    assert reason(ValueError('Illegal size: [np.int64(0),\n np.float64(-1.5)]')) == 'Illegal size: [0, -1.5]'
    assert reason(KeyError('Qq')) == "KeyError('Qq')" and reason(RuntimeError()) == 'RuntimeError()'


@pytest.mark.parametrize(
    ('name', 'meant'),
    [('al', 'Al'), ('water-pbe-dpz', 'water-pbe-dzp'), ('WATER', 'water-pbe-dzp'), ('--outt', '--out'), ('xyz', None)],
)
def test_suggestions(name, meant):
    text = did_you_mean(name, ['Al', 'water-pbe-dzp', 'H2O', '--out', '--plot'])
    assert text == ('' if meant is None else f'; did you mean {meant}?')


def test_one_of():
    with pytest.raises(ValueError, match=r"symbol must be one of Al, Cu \(metals\), not 'al'; did you mean Al\?"):
        one_of('symbol', 'al', ['Al', 'Cu'], ' (metals)')


def test_formulas_fit_a_line():
    assert formula(Atoms('OH2')) == 'OH2', 'in the order of the atoms'
    assert formula(Atoms('OH2' * 32)) == 'H64O32'
