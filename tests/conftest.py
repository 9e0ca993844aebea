"""Small GPAW calculations that many tests share: a molecule, a skewed cell, a metal, a magnetic atom."""

from __future__ import annotations

import os
import resource
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import torch
from ase import Atoms
from ase.build import bulk, molecule

from ase_deepdensity.level import Level
from ase_deepdensity.state import PAWDensity

if not torch.cuda.is_available():
    os.environ.setdefault('TRITON_INTERPRET', '1')  # before Triton is imported

FAST = {'mode': 'lcao', 'basis': 'szp(dzp)', 'h': 0.3, 'xc': 'PBE'}
"""GPAW parameters for tests that need a calculation, no matter which."""


@pytest.fixture(scope='session')
def fast_level() -> Level:
    return Level(FAST, 'fast')


def water_molecule(vacuum: float = 2.0) -> Atoms:
    atoms = molecule('H2O')
    atoms.rotate(33, (1, 2, 3))
    atoms.center(vacuum=vacuum)
    return atoms


def skewed_hydrogen_fluoride() -> Atoms:
    cell = [[3.2, 0.0, 0.0], [0.9, 3.0, 0.0], [0.4, -0.5, 3.4]]
    return Atoms('HF', [[0.1, 0.2, 3.3], [0.7, 0.5, 2.7]], cell=cell, pbc=True)


def _run(atoms: Atoms, **parameters: object):
    from gpaw.new.ase_interface import GPAW

    atoms.calc = GPAW(**{'xc': 'PBE', 'txt': None} | parameters)
    atoms.get_potential_energy()
    return atoms.calc


@pytest.fixture(scope='session')
def molecule_calc():
    """H2O, zero boundaries on all sides, LCAO."""
    return _run(water_molecule(), mode='lcao', basis='dzp', h=0.25)


@pytest.fixture(scope='session')
def slab_calc():
    """H2O, periodic along two axes only, LCAO."""
    atoms = water_molecule(1.7)
    atoms.pbc = (True, True, False)
    return _run(atoms, mode='lcao', basis='szp(dzp)', h=0.3)


@pytest.fixture(scope='session')
def skewed_calc():
    """HF in a small triclinic periodic cell, plane waves."""
    return _run(skewed_hydrogen_fluoride(), mode={'name': 'pw', 'ecut': 250})


@pytest.fixture(scope='session')
def metal_calc():
    """Primitive aluminium with k-points and symmetry, plane waves."""
    return _run(bulk('Al'), mode={'name': 'pw', 'ecut': 200}, kpts=(2, 2, 2))


@pytest.fixture(scope='session')
def magnetic_calc():
    """A nitrogen atom with three unpaired electrons, LCAO."""
    atoms = Atoms('N', magmoms=[3.0], cell=[4.0, 4.2, 4.4])
    atoms.center()
    return _run(atoms, mode='lcao', basis='szp(dzp)', h=0.3)


CALCULATIONS = ['molecule_calc', 'slab_calc', 'skewed_calc', 'metal_calc', 'magnetic_calc']


@pytest.fixture(params=CALCULATIONS)
def calc(request: pytest.FixtureRequest):
    """Each of the calculations in turn."""
    return request.getfixturevalue(request.param)


@pytest.fixture
def state(calc) -> PAWDensity:
    """The state of each of the calculations in turn."""
    return PAWDensity.from_gpaw(calc)


@pytest.fixture
def molecule_state(molecule_calc) -> PAWDensity:
    return PAWDensity.from_gpaw(molecule_calc)


@pytest.fixture(scope='session')
def tiny_model():
    """A small untrained model of water at the level dzp."""
    from tests.tiny import build_model

    return build_model(Level.load('dzp'))


@pytest.fixture(scope='session')
def tiny_metal():
    """The same that is told about k-points, as if water were a metal."""
    from tests.tiny import build_model

    return build_model(Level.load('dzp'), response_widths=[0.3])


@pytest.fixture(scope='session')
def tiny_file(tiny_model, tmp_path_factory):
    """Its file."""
    path = tmp_path_factory.mktemp('model') / 'tiny.safetensors'
    tiny_model.save(path)
    return path


@pytest.fixture
def water():
    """Eight molecules in a periodic cube."""
    from tests.tiny import water_box

    return water_box(seed=11)


@pytest.fixture
def small_files():
    """``with small_files(bytes)``: a file cannot grow beyond that, as if the disk were full."""

    @contextmanager
    def limited(size: int) -> Iterator[None]:
        soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
        try:
            yield
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))

    return limited
