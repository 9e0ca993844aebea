"""Grids found without GPAW against GPAW's own builder."""

import subprocess
import sys
import warnings
from itertools import product

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, fcc111, graphene, molecule

from ase_deepdensity.codes.gpaw.grid import grid
from ase_deepdensity.codes.gpaw.parameters import gpaw_parameters
from ase_deepdensity.codes.gpaw.require import MissingGPAWError
from ase_deepdensity.codes.gpaw.symmetry import lattice_rotations, symmetries_of
from ase_deepdensity.level import NAMED, Level, LevelError
from tests.conftest import FAST, skewed_hydrogen_fluoride, water_molecule
from tests.tolerances import EXACT


def slab() -> Atoms:
    atoms = graphene(vacuum=2.0)
    atoms.pbc = (True, True, False)
    return atoms


def hexagonal() -> Atoms:
    relpos_ac = [[0, 0, 0], [1 / 3, 2 / 3, 0.5], [2 / 3, 1 / 3, 0.5]]
    return Atoms('H3', scaled_positions=relpos_ac, cell=[3, 3, 4.1, 90, 90, 120], pbc=True)


def screw() -> Atoms:
    """With fractional translations along a cell that is not made of copies: a threefold screw axis."""
    relpos_ac = [[0.3, 0, 0], [0, 0.3, 1 / 3], [0.7, 0.7, 2 / 3]]
    return Atoms('H3', scaled_positions=relpos_ac, cell=[3.2, 3.2, 4.7, 90, 90, 120], pbc=True)


def copies() -> Atoms:
    """Three times the same in one cell: GPAW then looks for no other translations."""
    return Atoms('H3', scaled_positions=[[0, 0, 0], [0, 0, 1 / 3], [0, 0, 2 / 3]], cell=[2.5, 2.7, 5.9], pbc=True)


def centred() -> Atoms:
    """A mirror maps vector 1 onto vector 0 − vector 1, of another length: GPAW must enlarge the plain grid."""
    return Atoms('H', cell=[[5.2, 0, 0], [2.6, 3.1, 0], [0, 0, 3.7]], pbc=True)


def salt() -> Atoms:
    atoms = bulk('LiH', 'rocksalt', a=4.08, cubic=True)
    atoms.positions[0] += 0.05
    return atoms


STRUCTURES = {
    'centred': centred(),
    'two kinds in a centred cell': centred() + Atoms('He', [[2.6, 1.4, 0.3]]),
    'molecule': water_molecule(),
    'symmetric molecule': molecule('CH4', vacuum=2.0),
    'molecule in a periodic box': Atoms(water_molecule(), pbc=True),
    'wire': Atoms(water_molecule(), pbc=(False, True, False)),
    'skewed': skewed_hydrogen_fluoride(),
    'fcc': bulk('Al'),
    'bcc': bulk('Li', 'bcc', a=3.49),
    'hcp': bulk('Be', 'hcp', a=2.29, c=3.58),
    'cubic': bulk('Al', cubic=True),
    'diamond': bulk('C'),
    'rhombohedral': Atoms('H', cell=[3.1, 3.1, 3.1, 77, 77, 77], pbc=True),
    'tetragonal': Atoms('H', cell=[3.1, 3.1, 4.4], pbc=True),
    'slab': slab(),
    'metal slab': fcc111('Al', (1, 1, 2), vacuum=2.0),
    'broken symmetry': salt(),
    'hexagonal': hexagonal(),
    'screw axis': screw(),
    'copies': copies(),
    'magnetic': Atoms('H2', [[0, 0, 0], [1.5, 1.5, 1.5]], magmoms=[1, -1], cell=[3, 3, 3], pbc=True),
    'nearly cubic': Atoms('H', cell=[3, 3, 3 + 1e-8], pbc=True),
}
LEVELS = {
    'pw400': NAMED['pw400'],
    'pw310': {'mode': {'name': 'pw', 'ecut': 310}},
    'pw by default': {'mode': 'pw'},
    'pw, h': {'mode': 'pw', 'h': 0.19},
    'pw, nonsymmorphic': {'mode': {'name': 'pw', 'ecut': 310}, 'symmetry': {'symmorphic': False}},
    'pw, tolerance': {'mode': {'name': 'pw', 'ecut': 350}, 'symmetry': {'tolerance': 1e-4}},
    'pw, no point group': {'mode': 'pw', 'symmetry': {'point_group': False}},
    'lcao': FAST,
    'lcao, hund': FAST | {'hund': True},
    'lcao, off': FAST | {'symmetry': 'off'},
    'fd': {'mode': 'fd', 'h': 0.23},
    'fd by default': {'mode': 'fd'},
    'fd, fft': {'mode': 'fd', 'interpolation': 'fft'},
    'gpts': {'mode': 'lcao', 'gpts': [8, 12, 16]},
    'gpts, pw': {'mode': 'pw', 'gpts': [9, 10, 14]},
}


def gpaws_own(level: Level, atoms: Atoms):
    """The descriptor that GPAW's builder makes."""
    from gpaw.mpi import serial_comm

    with warnings.catch_warnings():
        warnings.filterwarnings('ignore', 'Initial realspace grid|Using symmetrized grid')
        return gpaw_parameters(level).dft_component_builder(atoms, comm=serial_comm).grid


MANY_LEVELS = 'pw310', 'pw, nonsymmorphic', 'lcao'
MANY_STRUCTURES = 'two kinds in a centred cell', 'slab', 'wire'


@pytest.mark.parametrize(
    ('structure', 'name'),
    [
        *product(STRUCTURES, MANY_LEVELS),
        *product(MANY_STRUCTURES, [name for name in LEVELS if name not in MANY_LEVELS]),
    ],
)
def test_grid_is_the_one_gpaw_builds(structure, name):
    atoms, level = STRUCTURES[structure], Level(LEVELS[name])
    found, desc = grid(level, atoms), gpaws_own(level, atoms)
    assert found.size_c.tolist() == desc.size_c.tolist()
    assert found.pbc_c.tolist() == desc.pbc_c.tolist()
    assert found.zerobc_c.tolist() == desc.zerobc_c.tolist()
    assert found.shape == tuple(desc.global_shape())
    assert found.cell_cv == pytest.approx(atoms.cell.array, rel=EXACT)


@pytest.mark.parametrize('seed', range(30))
def test_random_crystals(seed):
    """Any Bravais lattice, some atoms in symmetric places, some cutoff."""
    rng = np.random.default_rng(seed)
    a, b, c = rng.uniform(2.3, 4.2, size=3)
    cells = [
        [a, b, c, 90, 90, 90], [a, a, c, 90, 90, 90], [a, a, c, 90, 90, 120], [a, a, a, 60, 60, 60],
        [a, a, a, 109.4712206, 109.4712206, 109.4712206], [a, b, c, 90, 101, 90], [a, a, c, 90, 90, 75],
        [a, b, c, 83, 95, 104],
    ]  # fmt: skip
    natoms = int(rng.integers(1, 4))
    relpos_ac = np.unique(rng.choice([0, 0.25, 0.5, 1 / 3], size=(natoms, 3)), axis=0)
    pbc_c = rng.choice([True, True, False], size=3)
    atoms = Atoms('H' * len(relpos_ac), cell=cells[seed % len(cells)], scaled_positions=relpos_ac, pbc=pbc_c)
    for mode in {'name': 'pw', 'ecut': float(rng.uniform(200, 500))}, 'lcao':
        level = Level({'mode': mode, 'symmetry': {'symmorphic': bool(seed % 2)}})
        assert grid(level, atoms).size_c.tolist() == gpaws_own(level, atoms).size_c.tolist()


@pytest.mark.parametrize(
    ('structure', 'symmetry'),
    [('centred', None), ('slab', {'symmorphic': False}), ('screw axis', {'symmorphic': False})],
)
def test_symmetry_enlarges_the_grid(structure, symmetry):
    """So that the comparisons with GPAW above are worth something."""
    parameters = {'mode': {'name': 'pw', 'ecut': 310}}
    size_c = grid(Level(parameters | {'symmetry': symmetry}), STRUCTURES[structure]).size_c
    assert (size_c > grid(Level(parameters | {'symmetry': 'off'}), STRUCTURES[structure]).size_c).any()


@pytest.mark.parametrize('structure', ['diamond', 'screw axis', 'slab', 'metal slab', 'magnetic', 'rhombohedral'])
@pytest.mark.parametrize('symmorphic', [True, False])
def test_symmetries_are_those_of_gpaw(structure, symmorphic):
    from gpaw.new.symmetry import create_symmetries_object

    atoms = STRUCTURES[structure]
    rotation_scc = lattice_rotations(atoms.cell.array, atoms.pbc)
    relpos_ac, kind_a = atoms.get_scaled_positions(), atoms.numbers.tolist()
    found = symmetries_of(relpos_ac, kind_a, rotation_scc, symmorphic=symmorphic)
    theirs = create_symmetries_object(atoms, symmorphic=symmorphic, _backwards_compatible=True)

    def unordered(rotation_scc, translation_sc):
        return sorted(
            (U_cc.tolist(), (t_c % 1).round(6).tolist()) for U_cc, t_c in zip(rotation_scc, translation_sc, strict=True)
        )

    assert unordered(found.rotation_scc, found.translation_sc) == unordered(theirs.rotation_scc, theirs.translation_sc)


def test_what_tells_atoms_apart():
    """Basis, dataset, moment and extra ids of the two atoms that a symmetry of the lattice swaps."""
    atoms = centred()
    atoms.set_scaled_positions([[0.1, 0.1, 0]])
    atoms += Atoms('H', cell=atoms.cell, scaled_positions=[[0.2, -0.1, 0]])
    atoms.pbc = True
    plain = {'mode': {'name': 'pw', 'ecut': 310}}
    same = grid(Level(plain), atoms).size_c.tolist()
    for change in (
        {'symmetry': {'extra_ids': [0, 1]}},
        {'basis': {'1': 'dzp'}},
        {'magmoms': [0.5, 0.4]},
        {'setups': {'0': 'paw', '1': 'ae'}},
    ):
        assert grid(Level(plain | change), atoms).size_c.tolist() != same, change
    assert grid(Level(plain | {'magmoms': [0.5, 0.5002]}), atoms).size_c.tolist() == same
    assert same == gpaws_own(Level(plain), atoms).size_c.tolist()


def test_grid_on_request():
    atoms, level = water_molecule(), Level.load('dzp')
    assert grid(level, atoms, gpts=(16, 20, 24)).size_c.tolist() == [16, 20, 24]
    assert (grid(level, atoms, h=0.1).size_c > grid(level, atoms).size_c).all()
    with_gpts = Level({'mode': 'pw', 'gpts': [8, 8, 8]})
    assert (grid(with_gpts, atoms, h=0.1).size_c > 8).all()


@pytest.mark.filterwarnings('ignore:Parameters')
@pytest.mark.parametrize(
    'own',
    [{'experimental': {'backwards_compatible': False}}, {'symmetry': {'rotations': [np.eye(3, dtype=int).tolist()]}}],
)
def test_gpaw_is_asked_where_rules_are_its_own(own):
    level, atoms = Level({'mode': {'name': 'pw', 'ecut': 310}} | own), bulk('Al')
    assert grid(level, atoms).size_c.tolist() == gpaws_own(level, atoms).size_c.tolist()


def test_gpaw_is_asked_for_only_where_it_is_needed(monkeypatch):
    monkeypatch.setattr('ase_deepdensity.codes.gpaw.require.find_spec', lambda name: None)
    grid(Level({'mode': 'pw'}), bulk('Al'))
    with pytest.raises(MissingGPAWError, match='the grid of a level of theory with experimental'):
        grid(Level({'mode': 'pw', 'experimental': {'backwards_compatible': False}}), bulk('Al'))


@pytest.mark.parametrize(
    ('parameters', 'message'),
    [
        ({'mode': 'pwx'}, "refuses the mode 'pwx': it has pw, lcao, fd"),
        ({'mode': 'pw', 'h': 0.2, 'gpts': [8, 8, 8]}, 'both "gpts" and "h"'),
        ({'mode': 'pw', 'symmetry': 'of'}, "refuses the symmetry 'of'"),
    ],
)
def test_levels_that_gpaw_refuses(parameters, message):
    with pytest.raises(LevelError, match=message):
        grid(Level(parameters), bulk('Al'))


def test_flat_cell():
    with pytest.raises(ValueError, match='three lattice vectors'):
        grid(Level.load('dzp'), molecule('H2'))


WITHOUT_GPAW = """
import sys
sys.modules['gpaw'] = None
from ase.build import bulk
from ase_deepdensity.codes.gpaw.grid import grid
from ase_deepdensity.codes.gpaw.parameters import gpaw_parameters
from ase_deepdensity.codes.gpaw.kpoints import kpoints
from ase_deepdensity.level import Level
level = Level.load('general-pw400')
print(grid(level, bulk('Cu')).size_c, len(kpoints(level, bulk('Cu'))))
"""


def test_gpaw_is_not_imported():
    result = subprocess.run([sys.executable, '-c', WITHOUT_GPAW], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    assert result.stdout.startswith('[12 12 12] ')
