"""Densities at points, against those on grids, and their derivatives."""

import numpy as np
import pytest
import torch
from ase import Atoms

from ase_deepdensity.collocation.density import DensityEvaluator
from ase_deepdensity.collocation.points import Points
from ase_deepdensity.grid import Grid
from ase_deepdensity.level import Level
from ase_deepdensity.model import DensityModel
from ase_deepdensity.network.system import System
from ase_deepdensity.system import system_of
from tests.tiny import BASIS, build_model, water_box

SKEW = Atoms('OH', [[0.1, -0.2, 0.1], [0.8, 0.5, 3.3]], cell=[[2.0, 0, 0], [0.7, 1.9, 0], [-0.4, 0.9, 2.2]], pbc=True)
"""Smaller than a cutoff in all directions, with an atom outside the cell."""
SLAB = Atoms('OH2', [[1.0, 1.5, 4.0], [1.6, 2.2, 4.1], [0.3, 2.1, 3.8]], cell=[3.0, 3.2, 8.0], pbc=[True, True, False])


@pytest.fixture(scope='module', params=['equivariant', 'invariant'])
def model(request) -> DensityModel:
    return build_model(Level.load('dzp'), network=request.param)


@torch.no_grad()
def test_points_of_several_systems_are_those_of_their_grids(model):
    all_atoms = [SKEW, SLAB, water_box((1, 1, 2))]
    grids = [
        Grid.from_atoms(atoms, size_c)
        for atoms, size_c in zip(all_atoms, [(6, 7, 5), (8, 7, 9), (6, 6, 9)], strict=True)
    ]
    network, evaluate = model.network.double(), DensityEvaluator(BASIS, torch.float64)
    systems = [system_of(atoms, network, model.level) for atoms in all_atoms]
    expected = [
        evaluate(network(system), grid, system.position_av).flatten(2)
        for system, grid in zip(systems, grids, strict=True)
    ]
    points, _ = Points.draw(grids, 10**6, np.random.default_rng(0))
    joint = System.join(systems, network.cutoff)
    density_esp = evaluate.at_points(network(joint), joint.position_av, joint.slices, points)
    torch.testing.assert_close(density_esp, torch.cat(expected, 2), rtol=1e-9, atol=1e-10)


def test_derivatives_with_respect_to_positions(model):
    network = model.network.double()
    generator = torch.Generator().manual_seed(0)
    point_pv = torch.rand(20, 3, generator=generator, dtype=torch.float64)
    point_pv = point_pv @ torch.from_numpy(SKEW.cell.array)
    points = Points(point_pv, torch.zeros(20, dtype=torch.int64), (Grid.from_atoms(SKEW, (6, 7, 5)),))
    evaluate = DensityEvaluator(BASIS, torch.float64)
    weight_p = torch.rand(20, generator=generator, dtype=torch.float64)

    def weighted(position_av: torch.Tensor) -> torch.Tensor:
        system = system_of(SKEW, network, model.level, position_av=position_av)
        return (evaluate.at_points(network(system), system.position_av, system.slices, points)[0, 0] * weight_p).sum()

    position_av = torch.tensor(SKEW.positions, requires_grad=True)
    (gradient_av,) = torch.autograd.grad(weighted(position_av), position_av)
    step_av = torch.randn(2, 3, generator=generator, dtype=torch.float64)
    with torch.no_grad():
        difference = (weighted(position_av + 1e-4 * step_av) - weighted(position_av - 1e-4 * step_av)) / 2e-4
    torch.testing.assert_close((gradient_av * step_av).sum(), difference, rtol=1e-5, atol=1e-9)
