"""What a rank of a calculation is seeded with is its part of the whole."""

import numpy as np
import pytest

from ase_deepdensity import network_runner
from ase_deepdensity.scf.seed import ModelSeed
from tests.tiny import build_model, water_box
from tests.tolerances import FLOAT32


@pytest.fixture
def asked(monkeypatch):
    """How many atoms the network is asked about."""
    numbers, in_blocks = [], network_runner.NetworkRunner._in_blocks

    def counting(self, atoms, some_a, extrapolate):
        numbers.append(len(some_a))
        return in_blocks(self, atoms, some_a, extrapolate)

    monkeypatch.setattr(network_runner.NetworkRunner, '_in_blocks', counting)
    return numbers


@pytest.mark.filterwarnings('ignore::ase_deepdensity.checks.UnfamiliarWarning')
@pytest.mark.parametrize('kind', ['tiny', 'magnetic'])
@pytest.mark.parametrize('axis', [0, 2])
def test_parts_are_those_of_the_whole(tiny_model, asked, kind, axis):
    atoms = water_box(tuple(12 if c == axis else 1 for c in range(3)), seed=3)
    if kind == 'magnetic':
        atoms.set_initial_magnetic_moments([1.0, *[0.0] * (len(atoms) - 1)])  # far away there is none
        seed = ModelSeed(build_model(tiny_model.level, network='universal', magnetic=True))
        seed.predictor.extrapolate = True
    else:
        seed = ModelSeed(tiny_model)
    grid = seed.predictor.grid(atoms, gpts=[144 if c == axis else 12 for c in range(3)])
    whole_sR, D_asii = seed.evaluate(atoms, grid)
    scale = FLOAT32 * float(np.abs(whole_sR).max())
    for first, last, some_a in [(0, 72, [0, 1, 5]), (72, 144, [30, 2])]:
        start_c, stop_c = grid.start_c.copy(), grid.stop_c.copy()
        start_c[axis], stop_c[axis] = max(first, start_c[axis]), last
        block = grid.new(start_c=start_c, stop_c=stop_c)
        nt_sR, some_asii = seed.evaluate_part(atoms, block, np.array(some_a))
        inside = tuple(slice(*ends) for ends in zip(start_c - grid.start_c, stop_c - grid.start_c, strict=True))
        np.testing.assert_allclose(nt_sR, whole_sR[:, *inside], atol=scale)
        assert list(some_asii) == some_a
        for a, D_sii in some_asii.items():
            np.testing.assert_allclose(D_sii, D_asii[a], atol=1e-5)
    assert len(asked) == 2 and max(asked) < len(atoms) and sum(asked) >= len(atoms)
