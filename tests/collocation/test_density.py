import copy
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from ase_deepdensity.collocation.density import DensityEvaluator
from ase_deepdensity.grid import Grid
from tests.tiny import BASIS

GRIDS = [Grid((4 + 0.1 * i) * np.eye(3), (20, 20, 20)) for i in range(12)]


def test_only_the_grids_met_last_are_kept():
    evaluator = DensityEvaluator(BASIS, grids=3)
    first = evaluator.collocation(GRIDS[0])
    for grid in GRIDS[1:3]:
        evaluator.collocation(grid)
    assert evaluator.collocation(GRIDS[0]) is first, 'met again, so it is the last one'
    evaluator.collocation(GRIDS[3])
    assert evaluator.collocation(GRIDS[0]) is first
    assert len(evaluator._collocations) == 3
    twin = copy.deepcopy(evaluator)
    assert twin.collocation(GRIDS[0]) is not first


def test_the_number_holds_with_several_threads():
    evaluator = DensityEvaluator(BASIS, grids=2)
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(evaluator.collocation, GRIDS * 4))
    assert all(
        collocation.grid is grid or collocation.grid == grid for collocation, grid in zip(found, GRIDS * 4, strict=True)
    )
    assert len(evaluator._collocations) == 2
