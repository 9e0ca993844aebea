"""k-points found without GPAW against GPAW's own."""

import pytest
from ase import Atoms
from ase.build import bulk, fcc111

from ase_deepdensity.codes.gpaw.kpoints import kpoints
from ase_deepdensity.codes.gpaw.parameters import gpaw_parameters
from ase_deepdensity.level import Level, LevelError
from tests.tolerances import EXACT

STRUCTURES = [
    bulk('Al'),
    bulk('Be', 'hcp', a=2.29, c=3.58),
    fcc111('Al', (1, 1, 2), vacuum=3.0),
    Atoms('H', cell=[3, 4, 5], pbc=(False, True, False)),
    Atoms('H', cell=[3, 4, 5]),
    Atoms('H', cell=[[3, 0, 0], [1, 4, 0], [-1, 0.5, 5]], pbc=True),
]


@pytest.mark.parametrize('atoms', STRUCTURES, ids=lambda atoms: atoms.get_chemical_formula())
@pytest.mark.parametrize(
    'kpts',
    [
        None,
        (1, 1, 1),
        {'size': [1, 1, 1], 'gamma': True},
        {'density': 2.5},
        {'density': 1.7, 'gamma': True},
        {'density': 2.1, 'gamma': False},
        {'density': 2.1, 'even': False, 'gamma': True, 'name': 'monkhorstpack'},
        [[0.0, 0.0, 0.0], [0.1, 0.2, 0.3]],
        {'kpts': [[0.25, 0.0, 0.0]]},
    ],
)
def test_kpoints_are_those_of_gpaw(atoms, kpts):
    level = Level({'mode': 'pw', 'kpts': kpts})
    theirs_Kc = gpaw_parameters(level).kpts.build(atoms).kpt_Kc
    assert kpoints(level, atoms) == pytest.approx(theirs_Kc, abs=EXACT)


@pytest.mark.parametrize(
    'kpts',
    [(2, 3, 4), {'size': (2, 3, 1), 'gamma': True}, {'density': 2.1, 'even': True}, {'path': 'GX', 'npoints': 5}],
)
def test_kpoints_of_a_crystal(kpts):
    level, atoms = Level({'mode': 'pw', 'kpts': kpts}), bulk('Al')
    theirs_Kc = gpaw_parameters(level).kpts.build(atoms).kpt_Kc
    assert len(theirs_Kc) > 1
    assert kpoints(level, atoms) == pytest.approx(theirs_Kc, abs=EXACT)


@pytest.mark.parametrize(
    'kpts',
    [
        (2, 2, 2),
        {'size': (1, 1, 2)},
        [[0.0, 0.0]],
        {'sizes': (1, 1, 1)},
        (1, 1),
        {'density': 2.0, 'even': True},
        'gamma',
    ],
)
def test_kpoints_that_gpaw_refuses(kpts):
    slab = fcc111('Al', (1, 1, 2), vacuum=3.0)
    with pytest.raises(LevelError, match='refuses the k-points'):
        kpoints(Level({'mode': 'pw', 'kpts': kpts}), slab)


def test_a_level_of_another_code():
    with pytest.raises(LevelError, match="refuses the mode 'ks1d'"):
        kpoints(Level.load('ks1d'), bulk('Al'))
