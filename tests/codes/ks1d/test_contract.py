import numpy as np
import pytest
from ase import Atoms

from ase_deepdensity.level import Level
from ase_deepdensity.sampling.geometries import chain
from ase_deepdensity.testing.codes import CodeContract


class TestChains(CodeContract):
    @pytest.fixture
    def level(self) -> Level:
        return Level.load('ks1d')

    @pytest.fixture
    def atoms(self) -> Atoms:
        return next(chain('mixed', 4, seed=3))

    @pytest.fixture
    def unknown(self) -> int:
        return 3

    def shell(self, r_g: np.ndarray) -> np.ndarray:
        """Both sides of an atom on a line of 1 Å²."""
        return np.full_like(r_g, 2.0)
