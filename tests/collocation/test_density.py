import copy
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch

from ase_deepdensity.collocation.density import DensityEvaluator
from ase_deepdensity.collocation.points import Points
from ase_deepdensity.grid import Grid
from ase_deepdensity.network.contract import Coefficients, Output, PointwiseDensity
from tests.collocation.test_on_grids import BASIS, CELLS
from tests.tolerances import EXACT

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


@pytest.fixture
def grids() -> list[Grid]:
    """Of two systems with one and two atoms."""
    return [Grid(CELLS['skewed'], (7, 8, 9), (1, 1, 0)), Grid(CELLS['hexagonal'], (6, 6, 8))]


SLICES = slice(0, 1), slice(1, 3)


def expansion(natoms: int) -> Coefficients:
    """Two members and two components."""
    rng = np.random.default_rng(0)
    c_lesanm = [torch.from_numpy(rng.normal(size=(2, 2, natoms, BASIS.number, 2 * l + 1))) for l in range(5)]
    return Coefficients({}, torch.zeros(natoms, 0), c_lesanm)


def pointwise(natoms: int) -> PointwiseDensity:
    """The same axes; each atom has another strength."""

    def contribution(a_p: torch.Tensor, e_pv: torch.Tensor) -> torch.Tensor:
        value_p = (a_p + 1.0) * (BASIS.cutoff - e_pv.norm(dim=1)) ** 2 * e_pv[:, 0]
        return torch.tensor([[1.0, 2.0], [3.0, 4.0]], dtype=torch.float64)[:, :, None] * value_p

    return PointwiseDensity({}, torch.zeros(natoms, 0), contribution, BASIS.cutoff)


@pytest.mark.parametrize('make', [expansion, pointwise])
def test_members_and_components_at_points_as_on_grids(make, grids):
    evaluator = DensityEvaluator(BASIS, torch.float64)
    relpos_ac = np.random.default_rng(1).random((3, 3))
    position_av = torch.from_numpy(
        np.concatenate([relpos_ac[a] @ grid.cell_cv for a, grid in zip(SLICES, grids, strict=True)])
    )
    points, index_tp = Points.draw(grids, 90, np.random.default_rng(2))
    output = make(3)
    density_esp = evaluator.at_points(output, position_av, SLICES, points)
    assert density_esp.shape == (2, 2, 180)
    for t, (grid, atoms, index_p) in enumerate(zip(grids, SLICES, index_tp, strict=True)):
        expected_esR = evaluator(part_of(output, atoms), grid, position_av[atoms])
        assert expected_esR.shape == (2, 2, *grid.shape) and expected_esR.any()
        np.testing.assert_allclose(
            density_esp[:, :, points.system_p == t],
            expected_esR.flatten(2)[:, :, index_p],
            rtol=0,
            atol=EXACT * float(expected_esR.abs().max()),
        )


def part_of(output: Output, atoms: slice) -> Output:
    """What is said of some atoms."""
    if isinstance(output, Coefficients):
        return Coefficients({}, output.invariants_ac[atoms], [c[:, :, atoms] for c in output.c_lesanm])
    return PointwiseDensity(
        {}, output.invariants_ac[atoms], lambda a_p, e_pv: output.contribution(a_p + atoms.start, e_pv), BASIS.cutoff
    )
