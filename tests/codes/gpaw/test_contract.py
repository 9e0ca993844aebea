import pytest
from ase import Atoms

from ase_deepdensity.level import Level
from ase_deepdensity.testing.codes import CodeContract
from tests.conftest import FAST, water_molecule


class TestRealSpace(CodeContract):
    @pytest.fixture
    def level(self) -> Level:
        return Level(FAST, 'fast')

    @pytest.fixture
    def atoms(self) -> Atoms:
        return water_molecule()

    @pytest.fixture
    def unknown(self) -> int:
        return 84


class TestPlaneWaves(TestRealSpace):
    @pytest.fixture
    def level(self) -> Level:
        return Level({'mode': {'name': 'pw', 'ecut': 200}, 'xc': 'PBE', 'kpts': {'size': (1, 2, 1)}}, 'waves')

    @pytest.fixture
    def atoms(self) -> Atoms:
        return Atoms('HF', [[0.1, 0.2, 3.3], [0.7, 0.5, 2.7]], cell=[3.2, 3.0, 3.4], pbc=True)
