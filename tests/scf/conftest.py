"""A model of the tests' own level, and small calculations."""

from __future__ import annotations

import numpy as np
import pytest
from gpaw.new.ase_interface import GPAW

from ase_deepdensity.scf.bounds import Bounds
from ase_deepdensity.state import PAWDensity
from tests.tiny import build_model, water_box

DZP = {'mode': 'lcao', 'basis': 'dzp', 'h': 0.2, 'xc': 'PBE'}
"""The level of ``tiny_model``."""
NO_BOUNDS = Bounds(
    factor=(-np.inf, np.inf),
    charge=np.inf,
    distance=np.inf,
    negative=np.inf,
    occupations=(-np.inf, np.inf),
    peak=np.inf,
    moment=-np.inf,
)
"""Any numbers are a density."""


@pytest.fixture(scope='session')
def small_water():
    """One molecule in a small periodic cell: no vacuum, little work."""
    return water_box((1, 1, 1), seed=3)


@pytest.fixture(scope='session')
def converged(small_water):
    """Its calculation from GPAW's own start."""
    atoms = small_water.copy()
    atoms.calc = GPAW(txt=None, **DZP)
    atoms.get_potential_energy()
    return atoms.calc


@pytest.fixture(scope='session')
def oracle(converged) -> PAWDensity:
    """Its converged state."""
    return PAWDensity.from_gpaw(converged)


@pytest.fixture(scope='session')
def magnetic_model(tiny_model):
    """Untrained, with a magnetisation that shows."""
    model = build_model(tiny_model.level, network='universal', magnetic=True)
    for name, buffer in model.network.named_buffers():
        if name.startswith('heads.1') and '.scale' in name:
            buffer.fill_(0.1)
    return model
