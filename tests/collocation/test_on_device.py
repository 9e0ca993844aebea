"""What stands for the compiled loops on a GPU, on a CPU: plain torch, and the kernels in Triton's interpreter.

The interpreter takes milliseconds for each line of a kernel, so that grids and functions are few.
"""

import os
import subprocess
import sys
from importlib.util import find_spec
from itertools import product

import numpy as np
import pytest
import torch

from ase_deepdensity.basis import RadialTable, SplineBasis
from ase_deepdensity.collocation import on_device, tiles
from ase_deepdensity.collocation.density import DensityEvaluator
from ase_deepdensity.collocation.on_device import FreeAtoms
from ase_deepdensity.collocation.on_grids import GridCollocation
from ase_deepdensity.collocation.slab_walk import SlabWalk
from ase_deepdensity.collocation.superposition import superpose
from ase_deepdensity.collocation.tiles import Tiles
from ase_deepdensity.grid import Grid
from ase_deepdensity.network.contract import Coefficients
from ase_deepdensity.predict import Predictor
from tests.collocation.test_on_grids import CELLS
from tests.tolerances import EXACT, FLOAT32

R_G = np.linspace(0, 1, 40)
BUMP_G = (1 - R_G**2) ** 3
TABLES = {1: RadialTable.fit(1.9 * R_G, BUMP_G, 64), 8: RadialTable.fit(1.1 * R_G, 5 * BUMP_G, 32)}
ATOMS = FreeAtoms(np.array([8, 1, 8]), TABLES)
NEEDS_TRITON = pytest.mark.skipif(find_spec('triton') is None, reason='no Triton')
ON_CUDA = pytest.mark.skipif(not torch.cuda.is_available(), reason='no CUDA device')
SYSTEMS = {
    'periodic': ('orthorhombic', (1, 1, 1), (5, 4, 9), 1.2, 1),
    'skewed slab': ('skewed', (1, 1, 0), (3, 5, 9), 1.2, 2),
    'molecule': ('left-handed', (0, 0, 0), (5, 6, 7), 1.4, 4),
    'reach beyond the cell': ('small', (1, 0, 1), (3, 4, 5), 2.3, 1),
}
"""A cell, along which axes it is periodic, size of a grid that no tile divides, cutoff (Å) and lmax of the basis."""


@pytest.fixture(
    params=['torch', pytest.param('triton', marks=NEEDS_TRITON), pytest.param('cuda', marks=[NEEDS_TRITON, ON_CUDA])]
)
def device(request, monkeypatch) -> torch.device:
    """Of the work, where the compiled loops do not run."""
    monkeypatch.setattr(on_device, 'has_loops', lambda device: False)
    if request.param == 'torch':
        monkeypatch.setattr(on_device, 'has_triton', lambda device: False)
    elif request.param == 'triton':
        if os.environ.get('TRITON_INTERPRET') != '1':
            pytest.skip('Triton compiles for the GPU here')
        assert on_device.has_triton(torch.device('cpu'))
    return torch.device('cuda' if request.param == 'cuda' else 'cpu')


def system(name: str) -> tuple[Grid, torch.Tensor, SplineBasis]:
    """A grid, three atoms, one of them outside the cell if it is periodic, and a basis."""
    cell, pbc, size_c, cutoff, lmax = SYSTEMS[name]
    cell_cv = CELLS.get(cell, np.array([[2.0, 0.0, 0.1], [0.3, 2.2, 0.0], [0.0, 0.2, 2.1]]))
    relpos_ac = np.random.default_rng(2).random((3, 3))
    relpos_ac[0] += np.array([2, -1, 0]) * pbc
    return Grid(cell_cv, size_c, pbc), torch.from_numpy(relpos_ac @ cell_cv), SplineBasis(cutoff, 4, lmax)


def coefficients(basis: SplineBasis, number: int = 2, natoms: int = 3) -> list[torch.Tensor]:
    rng = np.random.default_rng(0)
    return [torch.from_numpy(rng.normal(size=(number, natoms, 4, 2 * l + 1))) for l in range(basis.lmax + 1)]


def by_loops(basis, grid, position_av, c_lxanm, dtype=torch.float64) -> np.ndarray:
    """With the superposition in the first density."""
    density_xR = GridCollocation(basis, grid, dtype)(position_av, c_lxanm).detach().numpy().copy()
    np_dtype = np.float64 if dtype == torch.float64 else np.float32
    density_xR[0] += superpose(grid, position_av.numpy(), ATOMS.number_a, TABLES, np_dtype)
    return density_xR


@pytest.mark.parametrize(('dtype', 'tolerance'), [(torch.float64, EXACT), (torch.float32, FLOAT32)])
@pytest.mark.parametrize('name', SYSTEMS)
def test_density(name, dtype, tolerance, device):
    grid, position_av, basis = system(name)
    c_lxanm = [c_xanm.to(dtype) for c_xanm in coefficients(basis)]
    expected_xR = by_loops(basis, grid, position_av, c_lxanm, dtype)
    c_lxanm = [c_xanm.to(device) for c_xanm in c_lxanm]
    density_xR = on_device.collocate(basis, grid, position_av.to(device), c_lxanm, dtype, ATOMS)
    assert density_xR.dtype == dtype and density_xR.device.type == device.type
    np.testing.assert_allclose(density_xR.cpu(), expected_xR, rtol=0, atol=tolerance * np.abs(expected_xR).max())


@pytest.mark.parametrize('name', ['skewed slab', 'reach beyond the cell'])
def test_gradient_of_coefficients(name, device):
    grid, position_av, basis = system(name)
    number = 2 if name == 'skewed slab' else 1
    c_lxanm = [c_xanm.requires_grad_() for c_xanm in coefficients(basis, number)]
    weight_xR = torch.from_numpy(np.random.default_rng(3).normal(size=(number, *grid.shape)))
    value = (GridCollocation(basis, grid, torch.float64)(position_av, c_lxanm) * weight_xR).sum()
    expected_l = torch.autograd.grad(value, c_lxanm)
    density_xR = on_device.collocate(basis, grid, position_av.to(device), c_lxanm_on(c_lxanm, device), torch.float64)
    gradient_l = torch.autograd.grad((density_xR * weight_xR.to(device)).sum(), c_lxanm)
    for gradient, expected in zip(gradient_l, expected_l, strict=True):
        np.testing.assert_allclose(gradient, expected, rtol=0, atol=EXACT * float(expected.abs().max()))


def c_lxanm_on(c_lxanm: list[torch.Tensor], device: torch.device) -> list[torch.Tensor]:
    return [c_xanm.to(device) for c_xanm in c_lxanm]


def test_gradient_of_positions(device):
    """By plain torch, with Triton too."""
    grid, position_av, basis = system('skewed slab')
    position_av.requires_grad_()
    c_lxanm = coefficients(basis, 1)
    expected = torch.autograd.grad(GridCollocation(basis, grid, torch.float64)(position_av, c_lxanm).sum(), position_av)
    found_xR = on_device.collocate(basis, grid, position_av.to(device), c_lxanm_on(c_lxanm, device), torch.float64)
    found = torch.autograd.grad(found_xR.sum(), position_av)
    np.testing.assert_allclose(found[0], expected[0], rtol=0, atol=EXACT * float(expected[0].abs().max()))


@pytest.mark.parametrize('name', ['periodic', 'molecule'])
def test_blocks_are_parts_of_the_whole(name, device):
    grid, position_av, basis = system(name)
    block = grid.new(start_c=(2, 1, 3), stop_c=(4, 4, 6))
    part = tuple(slice(a - z, b - z) for a, b, z in zip(block.start_c, block.stop_c, grid.start_c, strict=True))
    c_lxanm = coefficients(basis, 1)
    whole_xR = by_loops(basis, grid, position_av, c_lxanm)
    arguments = position_av.to(device), c_lxanm_on(c_lxanm, device), torch.float64, ATOMS
    density_xR = on_device.collocate(basis, block, *arguments)
    np.testing.assert_allclose(density_xR.cpu(), whole_xR[:, *part], rtol=0, atol=EXACT * np.abs(whole_xR).max())


def test_no_atoms(device):
    grid, _, basis = system('molecule')
    c_lxanm = c_lxanm_on(coefficients(basis, 2, 0), device)
    nowhere_av = torch.zeros((0, 3), dtype=torch.float64, device=device)
    density_xR = on_device.collocate(basis, grid, nowhere_av, c_lxanm, torch.float32)
    assert density_xR.shape == (2, *grid.shape) and not density_xR.any()


def test_evaluator_and_slabs(device, monkeypatch):
    """Total and magnetisation, on the whole grid and slab by slab, as the loops have them."""
    grid, position_av, basis = system('periodic')
    output = Coefficients({}, torch.empty(0), [c_xanm[None] for c_xanm in coefficients(basis)])
    expected_sR = by_loops(basis, grid, position_av, coefficients(basis))
    output.c_lesanm = c_lxanm_on(output.c_lesanm, device)
    evaluator, position_av = DensityEvaluator(basis, torch.float64), position_av.to(device)
    total_sR = evaluator.total(output, grid, position_av, ATOMS)
    walk = SlabWalk(evaluator, output, grid, position_av, ATOMS.number_a, TABLES)
    slabs_sR = torch.cat([walk(slab) for slab in grid.slabs(3 * 4 * 9)], 1)
    for found_sR in total_sR, slabs_sR:
        np.testing.assert_allclose(found_sR.cpu(), expected_sR, rtol=0, atol=EXACT * np.abs(expected_sR).max())


def test_predictor_without_the_loops(tiny_model, water, monkeypatch):
    """By plain torch; a whole prediction takes Triton's interpreter minutes."""
    expected_sR = Predictor(tiny_model).predict(water).nt_sR
    monkeypatch.setattr(on_device, 'has_loops', lambda device: False)
    monkeypatch.setattr(on_device, 'has_triton', lambda device: False)
    predictor = Predictor(tiny_model)
    found_sR = predictor.predict(water).nt_sR
    np.testing.assert_allclose(found_sR, expected_sR, rtol=0, atol=FLOAT32 * expected_sR.max())
    slabs_sR = np.concatenate([block.nt_sR for block in predictor.stream(water, max_points=20000)], 1)
    np.testing.assert_allclose(slabs_sR, expected_sR, rtol=0, atol=FLOAT32 * expected_sR.max())


@pytest.mark.parametrize('pbc', [(1, 1, 1), (1, 0, 1), (0, 0, 0)])
def test_nothing_is_waited_for(pbc, monkeypatch):
    """On tensors without content: whoever asked what is in them, as the CPU would have to wait for, would fail."""
    grid, position_av, basis = system('molecule')
    grid = Grid(grid.cell_cv, grid.size_c, pbc)
    position_av = position_av.to('meta')
    c_lxanm = c_lxanm_on(coefficients(basis), torch.device('meta'))
    monkeypatch.setattr(on_device, 'has_triton', lambda device: False)
    density_xR = on_device.collocate(basis, grid, position_av, c_lxanm, torch.float32, ATOMS)
    assert density_xR.shape == (2, *grid.shape)
    launch = on_device._Launch.of(basis, grid, position_av, torch.float32, ATOMS)
    assert launch.tiles.start_k.shape == (launch.tiles.number + 1,)


@pytest.mark.parametrize('seed', range(12))
def test_tiles_have_all_that_reaches_them(seed, monkeypatch):
    """Each image of an atom that is near a point of a tile is there once: cells, blocks, boundaries, reaches."""
    rng = np.random.default_rng(seed)
    monkeypatch.setattr(tiles, 'SHAPE', tuple(rng.integers(1, 5, 3).tolist()))
    cell_cv = np.diag(rng.uniform(2, 4, 3)) + rng.uniform(-0.8, 0.8, (3, 3))
    size_c, pbc_c = rng.integers(3, 10, 3), rng.random(3) < 0.6
    whole = Grid(cell_cv, size_c, pbc_c)
    start_c = [int(rng.integers(first, size)) for first, size in zip(whole.start_c, size_c, strict=True)]
    stop_c = [int(rng.integers(start + 1, size + 1)) for start, size in zip(start_c, size_c, strict=True)]
    grid, cutoff = whole.new(start_c=start_c, stop_c=stop_c), rng.uniform(0.5, 3)
    position_av = rng.uniform(-0.4 * pbc_c, 1 + 0.4 * pbc_c, (4, 3)) @ cell_cv
    found = Tiles.of(grid, torch.from_numpy(position_av), cutoff, torch.float64)
    assert (found.count_ac <= torch.tensor(found.window_c)).all()
    near = {(k, a, shift) for k, a, shift in pairs_of(found, grid)}
    assert len(near) == int(found.start_k[-1]), 'a pair is there twice'
    missing = set(reaching(grid, position_av, cutoff)) - near
    assert not missing


def pairs_of(found: Tiles, grid: Grid):
    """Tile, atom, and the steps from the grid point nearest to the atom to the first one of the tile."""
    for k in range(found.number):
        k_c = np.unravel_index(k, found.number_c)
        for pair in found.pair_y[found.start_k[k] : found.start_k[k + 1]].tolist():
            a, w = divmod(pair, int(np.prod(found.window_c)))
            u_c = found.first_ac[a].numpy() + np.unravel_index(w, found.window_c)
            assert (u_c % found.number_c == k_c).all()
            steps_c = found.origin_ac[a].numpy() + u_c // found.number_c * grid.size_c + np.multiply(k_c, tiles.SHAPE)
            yield k, a, tuple(steps_c.tolist())


def reaching(grid: Grid, position_av: np.ndarray, cutoff: float):
    """The same for all that is within the cutoff, by going through all points and images."""
    s_ac = position_av @ np.linalg.inv(grid.step_cv)
    s_ac = np.where(grid.zerobc_c, s_ac, s_ac % grid.size_c)
    number_c = [-(-n // width) for n, width in zip(grid.shape, tiles.SHAPE, strict=True)]
    for a, shift_c in product(range(len(s_ac)), product(*([0] if zero else range(-4, 5) for zero in grid.zerobc_c))):
        nearest_c = np.round(s_ac[a]).astype(int)
        index_Rc = np.argwhere(np.ones(grid.shape)).reshape(*grid.shape, 3) + grid.start_c
        distance_R = np.linalg.norm((index_Rc + np.multiply(shift_c, grid.size_c) - s_ac[a]) @ grid.step_cv, axis=-1)
        for k_c in np.unique(np.argwhere(distance_R < cutoff) // tiles.SHAPE, axis=0):
            first_c = grid.start_c + k_c * tiles.SHAPE + np.multiply(shift_c, grid.size_c) - nearest_c
            yield int(np.ravel_multi_index(tuple(k_c), number_c)), a, tuple(first_c.tolist())


def test_without_triton(monkeypatch):
    monkeypatch.setattr(on_device, '_is_installed', lambda: False)
    assert not on_device.has_triton(torch.device('cpu')) and not on_device.has_triton(torch.device('cuda'))


COMPILE = """
import sys
from triton import compile
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource
from ase_deepdensity.collocation import triton_kernels

WHOLE = 'grid_i origin_ac first_ac count_ac pair_y start_k element_a begin_z count_z power_qv'.split()
CONSTANTS = {'ROWS': 9, 'ALL_ROWS': 16, 'LMAX': 2, 'NQ': 10, 'WITH_ATOMS': True}
for kernel in triton_kernels.density, triton_kernels.moments:
    constants = {name: value for name, value in CONSTANTS.items() if name in kernel.arg_names}
    signature = {name: '*i64' if name in WHOLE else '*' + sys.argv[1] for name in kernel.arg_names}
    source = ASTSource(
        fn=kernel,
        signature=signature | dict.fromkeys(constants, 'constexpr'),
        constexprs={(kernel.arg_names.index(name),): value for name, value in constants.items()},
    )
    compiled = compile(source, target=GPUTarget('cuda', 90, 32), options={'enable_fp_fusion': True})
    assert compiled.asm['cubin']
"""


@NEEDS_TRITON
@pytest.mark.parametrize('dtype', ['fp32', 'fp64'])
def test_kernels_compile_for_a_gpu(dtype, tmp_path):
    """Down to machine code, for which no GPU is needed: the interpreter is more patient than the compiler."""
    environment = {name: value for name, value in os.environ.items() if name != 'TRITON_INTERPRET'}
    environment['TRITON_CACHE_DIR'] = str(tmp_path)
    command = [sys.executable, '-c', COMPILE, dtype]
    finished = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert finished.returncode == 0, finished.stderr
