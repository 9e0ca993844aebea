"""The engine on the untrained model: what it refuses, and what must hold whatever the weights are."""

import warnings
from dataclasses import replace

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import molecule

from ase_deepdensity.analysis.compare import compare
from ase_deepdensity.checks import PredictionError, UnfamiliarWarning
from ase_deepdensity.grid import Grid
from ase_deepdensity.model import DensityModel, shipped_models
from ase_deepdensity.predict import Predictor
from tests.tiny import build_model, water_box
from tests.tolerances import EXACT, FLOAT32

pytestmark = pytest.mark.filterwarnings('ignore::ase_deepdensity.checks.UnfamiliarWarning')

MODELS = ['tiny', *(name for name in shipped_models() if name.startswith('water'))]


@pytest.fixture(scope='session')
def tiny(tiny_model):
    return Predictor(tiny_model)


@pytest.fixture(scope='session', params=MODELS)
def predictor(request, tiny_model):
    """The untrained model and each of the shipped ones for water."""
    return Predictor(tiny_model if request.param == 'tiny' else DensityModel.load(request.param))


def assert_same(actual_R, desired_R, message=''):
    assert actual_R.shape == desired_R.shape
    assert np.abs(actual_R - desired_R).max() <= FLOAT32 * np.abs(desired_R).max(), message


def assert_same_matrices(actual, desired):
    for D_sii, desired_sii in zip(actual.D_asii, desired.D_asii, strict=True):
        assert_same(D_sii, desired_sii)


# What is refused


def spoil(**changes):
    def apply(atoms):
        for name, value in changes.items():
            getattr(atoms, f'set_{name}')(value)
        return atoms

    return apply


def with_nan(atoms):
    atoms.positions[3, 1] = np.nan
    return atoms


def doubled(atoms):
    atoms.positions[4] = atoms.positions[3] + (0.1, 0.0, 0.0)
    return atoms


def doubled_across_the_boundary(atoms):
    atoms.positions[4] = atoms.positions[3] + atoms.cell[0] + (0.1, 0.0, 0.0)
    return atoms


def outside(atoms):
    atoms.pbc = (True, True, False)
    atoms.positions[2, 2] = -0.5
    return atoms


@pytest.mark.parametrize(
    ('change', 'message'),
    [
        (lambda atoms: atoms[:0], 'there are no atoms'),
        (with_nan, r'the positions of atoms \[3\] are not finite'),
        (spoil(cell=(6.2, 6.2, 0)), 'a cell of three independent lattice vectors is needed.*center'),
        (spoil(cell=None), 'a cell of three independent lattice vectors is needed'),
        (spoil(cell=[[6, 0, 0], [0, 6, 0], [6, 6, 0]]), 'a cell of three independent lattice vectors is needed'),
        (spoil(cell=(6.2, 6.2, np.inf)), 'a cell of three independent lattice vectors is needed'),
        (lambda atoms: atoms + Atoms('NaCl', [(0, 0, 0), (3, 3, 3)]), 'does not know Cl, Na; it was trained on H, O'),
        (doubled, r'atoms 3 \(O\) and 4 \(H\) overlap: they are 0.100 Å apart'),
        (doubled_across_the_boundary, r'atoms 3 \(O\) and 4 \(H\) overlap'),
        (outside, r'atoms \[2\] are outside the cell along an axis that is not periodic'),
    ],
)
def test_atoms_that_cannot_be_predicted(tiny, water, change, message):
    atoms = change(water)
    with pytest.raises(PredictionError, match=message):
        tiny.predict(atoms)
    with pytest.raises(PredictionError, match=message):
        tiny.coefficients(atoms)
    with pytest.raises(PredictionError, match=message):
        tiny.grid(atoms)


def test_coarse_grids(tiny, water):
    with pytest.raises(PredictionError, match=r'the grid \[32, 8, 32\] is too coarse: its spacing is 0.78 Å'):
        tiny.predict(water, Grid.from_atoms(water, (32, 8, 32)))
    with pytest.raises(PredictionError, match='too coarse'):
        tiny.grid(water, gpts=(32, 8, 32))
    with pytest.raises(PredictionError, match='too coarse'):
        tiny.grid(water, h=0.8)
    with pytest.raises(PredictionError, match='too coarse'):
        next(tiny.stream(water, Grid.from_atoms(water, (8, 8, 8))))


@pytest.mark.filterwarnings('default')
def test_strange_environments_are_warned_about(tiny):
    squeezed = water_box(spacing=2.2)
    with pytest.warns(
        UnfamiliarWarning, match=r'atoms have environments unlike the training data of tiny \(worst: atom'
    ):
        known = tiny.coefficients(squeezed)
    assert known.unfamiliar_a.max() > tiny.coefficients(water_box(seed=0)).unfamiliar_a.max()


@pytest.mark.filterwarnings('default')
def test_trajectories_are_warned_about_once(tiny_model):
    tiny = Predictor(tiny_model)
    squeezed = water_box(spacing=2.2)
    with pytest.warns(UnfamiliarWarning):
        tiny.coefficients(squeezed)
    squeezed.rattle(0.01, seed=1)
    with warnings.catch_warnings(action='error'):
        tiny.coefficients(squeezed)
    squeezed.positions += 2.0
    with pytest.warns(UnfamiliarWarning):
        tiny.coefficients(squeezed)


# What must hold


def grid_of(predictor, atoms):
    return predictor.grid(atoms)


def test_quarter_turn_with_the_grid(predictor):
    """(x, y, z) → (−y, x, z) in a tetragonal cell: point (i, j, k) goes to (−j, i, k)."""
    atoms = water_box((2, 2, 1), seed=3)
    density = predictor.predict(atoms)
    turned = atoms.copy()
    turned.rotate(90, 'z')
    turned.wrap()
    nt_R = predictor.predict(turned, density.grid).nt_sR[0]
    n = density.grid.size_c[0]
    assert_same(nt_R[(-np.arange(n)) % n].swapaxes(0, 1), density.nt_sR[0])


def test_shift_by_grid_vectors(predictor, water):
    density = predictor.predict(water)
    water.positions += (5, -3, 40) @ density.grid.step_cv
    shifted = predictor.predict(water, density.grid)
    assert_same(shifted.nt_sR, np.roll(density.nt_sR, (5, -3, 40), axis=(1, 2, 3)))
    assert_same_matrices(shifted, density)


def test_repeated_cell(predictor, water):
    density = predictor.predict(water)
    twice = predictor.predict(water.repeat((2, 1, 1)), Grid.from_atoms(water.repeat((2, 1, 1)), (64, 32, 32)))
    nt_sR = predictor.predict(water, Grid.from_atoms(water, (32, 32, 32))).nt_sR
    assert_same(twice.nt_sR[:, :32], nt_sR, 'first half')
    assert_same(twice.nt_sR[:, 32:], nt_sR, 'second half')
    for half in twice.D_asii[:24], twice.D_asii[24:]:
        for D_sii, desired_sii in zip(half, density.D_asii, strict=True):
            assert_same(D_sii, desired_sii)


def test_order_of_atoms(predictor, water):
    density = predictor.predict(water)
    order = np.random.default_rng(0).permutation(len(water))
    shuffled = predictor.predict(water[order], density.grid)
    assert_same(shuffled.nt_sR, density.nt_sR)
    for D_sii, a in zip(shuffled.D_asii, order, strict=True):
        assert_same(D_sii, density.D_asii[a])


@pytest.mark.parametrize('max_points', [1, 5000, 10**9])
def test_streamed_slabs_are_the_whole(tiny, water, max_points):
    density = tiny.predict(water)
    blocks = list(tiny.stream(water, density.grid, max_points=max_points))
    assert len(blocks) == {1: 32, 5000: 8, 10**9: 1}[max_points]
    assert_same(np.concatenate([block.nt_sR for block in blocks], axis=1), density.nt_sR)


def test_double_precision(water, tiny_model, tiny):
    double = Predictor(build_model(tiny_model.level), dtype=torch.float64).predict(water)
    single = tiny.predict(water)
    assert_same(single.nt_sR, double.nt_sR)
    assert np.abs(single.nt_sR - double.nt_sR).max() > 1e-10, 'they are not the same calculation'
    assert_same_matrices(single, double)


def hexagonal_ice() -> Atoms:
    """Twelve molecules on the oxygen sites of ice Ih, each with its hydrogen atoms towards two of its neighbours."""
    a, c = 7.82, 7.36
    cell = [[a, 0, 0], [-a / 2, a * 3**0.5 / 2, 0], [0, 0, c]]
    ice = Atoms('O12', scaled_positions=ICE_OXYGEN, cell=cell, pbc=True)
    for a in range(12):
        near = np.argsort(ice.get_distances(a, range(12), mic=True))[1:3]
        for vector_v in ice.get_distances(a, near, mic=True, vector=True):
            ice += Atoms('H', [ice.positions[a] + 0.97 * vector_v / np.linalg.norm(vector_v)])
    return ice


UPPER = (1 / 3, 0), (0, 1 / 3), (2 / 3, 2 / 3)
LOWER = (2 / 3, 0), (0, 2 / 3), (1 / 3, 1 / 3)
ICE_OXYGEN = [
    (x, y, z + shift)
    for places, rise in ((UPPER, 0.0625), (LOWER, -0.0625))
    for x, y in places
    for z, shift in ((0.25, rise), (0.75, -rise))
]


def slab() -> Atoms:
    atoms = water_box((2, 2, 1))
    atoms.center(vacuum=3.0, axis=2)
    atoms.pbc = (True, True, False)
    return atoms


def lone_molecule() -> Atoms:
    atoms = molecule('H2O', vacuum=3.0)
    assert not atoms.pbc.any()
    return atoms


def skewed() -> Atoms:
    """A cell smaller than the cutoff."""
    return Atoms(
        'OHH', [(0, 0, 0), (0.96, 0, 0), (-0.24, 0.93, 0)], cell=[[3, 0, 0], [0.8, 3.1, 0], [-0.4, 0.5, 3.2]], pbc=True
    )


@pytest.mark.parametrize('structure', [hexagonal_ice, slab, lone_molecule, skewed])
def test_other_shapes(predictor, structure):
    atoms = structure()
    density = predictor.predict(atoms)
    assert np.isfinite(density.nt_sR).all()
    nmolecules = len(atoms) // 3
    assert density.number_of_electrons() == pytest.approx(8 * nmolecules, rel=EXACT)
    assert density.integral() > 0
    missing_c = ~atoms.pbc if predictor.model.level.name == 'dzp' else np.zeros(3, bool)
    assert density.nt_sR.shape == (1, *(density.grid.size_c - missing_c)), 'no points on zero boundaries'


def test_molecule_does_not_feel_a_larger_box(tiny):
    """Nor does it matter where in the box it is."""
    small, large = lone_molecule(), lone_molecule()
    large.center(vacuum=3.6)
    grid = Grid.from_atoms(small, np.round(small.cell.lengths() / 0.2).astype(int))
    step_c = np.round((large.positions - small.positions)[0] / np.diag(grid.step_cv)).astype(int)
    size_c = grid.size_c + 2 * step_c
    large.set_cell(size_c * np.diag(grid.step_cv))
    large.positions = small.positions + step_c * np.diag(grid.step_cv)
    inner = tuple(slice(n, -n) for n in step_c)
    nt_R = tiny.evaluate(tiny.coefficients(large), Grid.from_atoms(large, size_c))[inner]
    assert_same(nt_R, tiny.evaluate(tiny.coefficients(small), grid))


def test_magnetic_moments_are_refused(predictor, water):
    water.set_initial_magnetic_moments([1.0] * len(water))
    with pytest.raises(PredictionError, match='spin-paired'):
        predictor.predict(water)


def test_a_grid_of_another_cell_is_refused(predictor, water):
    grid = predictor.grid(water)
    other = water.copy()
    other.pbc = (True, True, False)
    with pytest.raises(PredictionError, match='the grid belongs to the cell'):
        predictor.predict(other, grid)


@pytest.mark.parametrize('device', ['cuda', 'abacus'])
def test_a_device_that_is_not_there(tiny_model, device, monkeypatch):
    monkeypatch.setattr('torch.cuda.is_available', lambda: False)
    with pytest.raises(PredictionError, match=f"no device '{device}'"):
        Predictor(tiny_model, device=device)


def test_predictors_of_one_model_do_not_disturb_each_other(predictor, water):
    before = predictor.predict(water).nt_sR
    exact = Predictor(predictor.model, dtype=torch.float64).predict(water).nt_sR
    np.testing.assert_array_equal(predictor.predict(water).nt_sR, before)
    np.testing.assert_allclose(exact, before, rtol=0, atol=1e-4 * before.max())


def test_kpoints_of_a_calculation_are_told_to_models_that_ask(tiny_model, tiny_metal, water):
    level = replace(tiny_metal.level, parameters=tiny_metal.level.parameters | {'kpts': [3, 1, 1]})
    at_gamma, at_three = Predictor(tiny_metal).predict(water), Predictor(tiny_metal, level=level).predict(water)
    assert at_three.level == level and at_gamma.level == tiny_metal.level
    assert compare(at_three, at_gamma).nmae > 0.01
    same = [Predictor(tiny_model, level=chosen).predict(water).nt_sR for chosen in (level, None)]
    np.testing.assert_array_equal(*same)
    assert tiny_metal.differences(level) == []
    assert tiny_model.differences(level) == ['kpts: {"size": [3, 1, 1]} against {"size": [1, 1, 1]}']
