"""Slabs of a density against the whole grid, and that a slab costs what reaches it."""

import numpy as np
import pytest
import torch
from ase import Atoms

from ase_deepdensity.basis import RadialTable, SplineBasis
from ase_deepdensity.collocation import slab_walk
from ase_deepdensity.collocation.density import DensityEvaluator
from ase_deepdensity.collocation.on_grids import GridCollocation
from ase_deepdensity.collocation.slab_walk import SlabWalk, reaching_a
from ase_deepdensity.collocation.superposition import superpose
from ase_deepdensity.grid import Grid
from ase_deepdensity.network.contract import Coefficients, PointwiseDensity

BASIS = SplineBasis(1.5, 5, 2)
R_G = np.linspace(0, 1.8, 40)
TABLES = {Z: RadialTable.fit(R_G, Z * (1 - (R_G / 1.8) ** 2) ** 3, 64) for Z in (1, 8)}


def some_atoms(pbc: bool) -> Atoms:
    rng = np.random.default_rng(0)
    cell_cv = np.array([[12.0, 0.5, 0.3], [0.4, 4.0, 0.2], [-0.3, 0.6, 4.4]])
    relpos_ac = rng.uniform(-0.5, 1.5, (60, 3)) if pbc else rng.uniform(0.05, 0.95, (60, 3))
    return Atoms(numbers=rng.choice([1, 8], 60), scaled_positions=relpos_ac, cell=cell_cv, pbc=pbc)


def expansion(natoms: int, components: int) -> Coefficients:
    generator = torch.Generator().manual_seed(0)
    shapes = [(1, components, natoms, BASIS.number, 2 * l + 1) for l in range(3)]
    c_lesanm = [torch.randn(*shape, generator=generator, dtype=torch.float64) for shape in shapes]
    return Coefficients({}, torch.empty(0), c_lesanm)


def pointwise(natoms: int) -> PointwiseDensity:
    size_a = torch.rand(natoms, generator=torch.Generator().manual_seed(0), dtype=torch.float64)

    def contribution(a_p: torch.Tensor, e_pv: torch.Tensor) -> torch.Tensor:
        return (size_a[a_p] * (1.5 - e_pv.norm(dim=1)) ** 2)[None, None]

    return PointwiseDensity({}, torch.empty(0), contribution, 1.5)


@pytest.mark.parametrize('output', [expansion(60, 1), expansion(60, 2), pointwise(60)], ids=['c', 'spin', 'pointwise'])
@pytest.mark.parametrize('max_points', [1, 2000, 10**6])
@pytest.mark.parametrize('pbc', [True, False], ids=['periodic', 'finite'])
def test_slabs_are_the_whole(pbc, max_points, output, monkeypatch):
    monkeypatch.setattr(slab_walk, 'GROUP', 7)
    atoms = some_atoms(pbc)
    grid, position_av = Grid.from_atoms(atoms, (48, 16, 18)), torch.from_numpy(atoms.positions)
    evaluator = DensityEvaluator(BASIS, torch.float64)
    walk = SlabWalk(evaluator, output, grid, position_av, atoms.numbers, TABLES)
    slabs = list(grid.slabs(max_points))
    order = np.random.default_rng(0).permutation(len(slabs))  # any order will do
    found = {i: walk(slabs[i]).numpy() for i in order}
    whole_sR = evaluator(output, grid, position_av)[0].numpy()
    whole_sR[0] += superpose(grid, atoms.positions, atoms.numbers, TABLES)
    np.testing.assert_allclose(np.concatenate([found[i] for i in range(len(slabs))], 1), whole_sR, atol=1e-11)


def test_polynomials_are_made_once(monkeypatch):
    atoms = some_atoms(pbc=False)
    grid = Grid.from_atoms(atoms, (48, 16, 18))
    made, make = [], GridCollocation.polynomials

    def counting(self: GridCollocation, c_lxanm: list[torch.Tensor]) -> np.ndarray:
        made.append(c_lxanm[0].shape[1])
        return make(self, c_lxanm)

    monkeypatch.setattr(GridCollocation, 'polynomials', counting)
    evaluator = DensityEvaluator(BASIS, torch.float64)
    position_av = torch.from_numpy(atoms.positions)
    walk = SlabWalk(evaluator, expansion(60, 1), grid, position_av, atoms.numbers, TABLES)
    held = []
    for slab in grid.slabs(1):
        walk(slab)
        held.append(sum(len(group.atoms_a) for group in walk._groups if group.C_xaijpk is not None))
    assert sum(made) == 60
    assert max(held) < 45, 'all atoms are held at once'


def test_which_atoms_reach_a_slab():
    grid = Grid(np.diag([10.0, 4.0, 4.0]), (50, 20, 20))
    slab = grid.new(start_c=(0, 0, 0), stop_c=(5, 20, 20))  # 0 to 0.8 Å
    s_a = np.array([49.0, 45.1, 44.9, 8.9, 9.1, 2.0])
    assert reaching_a(slab, s_a, 1.0).tolist() == [True, True, False, True, False, True]
    finite = Grid(grid.cell_cv, grid.size_c, (False,) * 3).new(stop_c=(5, 20, 20))
    assert reaching_a(finite, s_a, 1.0).tolist() == [False, False, False, True, False, True]
