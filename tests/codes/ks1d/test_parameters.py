import json

import numpy as np
import pytest
from ase import Atoms

from ase_deepdensity.checks import PredictionError, check_grid
from ase_deepdensity.codes.gpaw.parameters import gpaw_parameters
from ase_deepdensity.codes.ks1d.parameters import check, grid
from ase_deepdensity.level import Level, LevelError
from ase_deepdensity.sampling.geometries import CHAIN_SPACING, chain
from tests.tolerances import EXACT


def test_named_level_and_its_file(tmp_path):
    level = Level.load('ks1d')
    assert level.code == 'ks1d'
    assert Level.from_dict(json.loads(json.dumps(check(level, [2]).to_dict()))) == level
    (tmp_path / 'hot.json').write_text('{"mode": "ks1d", "temperature": 300}')
    hot = Level.load(tmp_path / 'hot.json')
    assert hot.differences(level) == ['temperature: 300 against 100.0']
    assert level.differences(Level({'mode': 'ks1d', 'maxiter': 7, 'ecut': 160})) == []


def test_it_is_not_a_level_of_gpaw():
    level = Level.load('ks1d')
    assert 'mode: "ks1d" against {"name": "lcao"}' in level.differences(Level.load('dzp'))
    with pytest.raises(LevelError, match='needs GPAW'):
        gpaw_parameters(level)


@pytest.mark.parametrize(
    ('parameters', 'message'),
    [
        ({'h': 0.2}, "no parameter 'h'; allowed are atoms, convergence, ecut"),
        ({'ecut': -3}, 'ecut must be a positive number, not -3'),
        ({'atoms': {'He': {'charge': 2}}}, 'positive charge and width, not He'),
        ({'atoms': {'Xx': {'charge': 2, 'width': 1}}}, 'positive charge and width, not Xx'),
    ],
)
def test_bad_parameters(parameters, message):
    with pytest.raises(LevelError, match=message):
        Level({'mode': 'ks1d'} | parameters)


def test_grid_is_a_line():
    atoms = next(chain('metal', 8))
    line = grid(Level.load('ks1d'), atoms)
    assert line.shape[:2] == (1, 1) and line.is_whole
    assert line.points()[0, 0, :, :2] == pytest.approx(np.ones((line.shape[2], 2)))
    assert line.dv * line.shape[2] == pytest.approx(8 * CHAIN_SPACING, rel=EXACT)
    assert grid(Level.load('ks1d'), atoms, h=0.1).spacing_c[2] <= 0.1
    check_grid(line, atoms)
    with pytest.raises(PredictionError, match=r'spacing is 0\.66 Å'):
        check_grid(grid(Level.load('ks1d'), atoms, gpts=(2, 2, 64)), atoms)


def test_only_chains():
    level = Level.load('ks1d')
    with pytest.raises(LevelError, match='a chain lies at x = y = 1.0 Å'):
        grid(level, Atoms('He', cell=[2, 2, 9], pbc=(False, False, True)))
    with pytest.raises(LevelError, match='2 intervals'):
        grid(level, next(chain('metal', 4)), gpts=(4, 4, 64))
    with pytest.raises(LevelError, match='no ions for Li; there are He, Be'):
        check(level, [2, 3])


@pytest.mark.parametrize(('kind', 'natoms', 'message'), [('glass', 8, "not 'glass'"), ('mixed', 7, '7 atoms')])
def test_chains_that_do_not_exist(kind, natoms, message):
    with pytest.raises(ValueError, match=message):
        next(chain(kind, natoms))
