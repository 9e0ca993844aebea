"""The engine on the untrained model: what it refuses, and what must hold whatever the weights are."""

import warnings
from dataclasses import replace
from functools import reduce
from pathlib import Path

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import fcc111, molecule
from ase.io import read

from ase_deepdensity.analysis.compare import compare
from ase_deepdensity.batches import batch_ends
from ase_deepdensity.checks import PredictionError, Tally, UnfamiliarWarning, check_density
from ase_deepdensity.grid import Grid
from ase_deepdensity.model import DensityModel, shipped_models
from ase_deepdensity.predict import Predictor
from tests.tiny import build_model, water_box
from tests.tolerances import EXACT, FLOAT32

pytestmark = pytest.mark.filterwarnings('ignore::ase_deepdensity.checks.UnfamiliarWarning')

WATER32 = Path(__file__).parents[1] / 'tutorials' / 'water32.xyz'
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


def set_info(atoms, **info):
    atoms.info |= info
    return atoms


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
        (spoil(cell=(1e-9, 6.2, 6.2)), 'lattice vectors is needed|must be at least 0.1 Å high'),
        (lambda atoms: set_info(atoms, charge=1), 'predicts at a total charge of 0 .* but the atoms have 1;'),
        (lambda atoms: set_info(atoms, charge='plus'), "info.'charge'. must be a number, not 'plus'"),
        (spoil(initial_charges=[0.5] * 24), 'but the atoms have 12;'),
    ],
)
def test_atoms_that_cannot_be_predicted(tiny, water, change, message):
    atoms = change(water)
    with pytest.raises(PredictionError, match=message):
        tiny.predict(atoms)
    with pytest.raises(PredictionError, match=message):
        tiny.coefficients(atoms)
    with pytest.raises(PredictionError, match=f'frame 1 .*{message}'):
        tiny.coefficients([water_box(), atoms])
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


@pytest.mark.parametrize(
    'change',
    [
        spoil(initial_charges=np.tile([-0.8, 0.4, 0.4], 8)),
        lambda atoms: set_info(atoms, charge=0),
        lambda atoms: set_info(atoms, charge=0.0, spin=1),
    ],
)
def test_charges_of_neutral_atoms(tiny, water, change):
    np.testing.assert_array_equal(tiny.predict(change(water.copy())).nt_sR, tiny.predict(water).nt_sR)


@pytest.mark.parametrize('turn', [0, 33])
def test_atoms_on_the_face_of_a_cell(turn):
    """ASE's slabs start at z = 0; turning them leaves atoms 1e-18 Å outside."""
    slab = fcc111('Al', (1, 1, 3), vacuum=None)
    slab.cell[2] = (0, 0, 12)
    slab.pbc = (True, True, False)
    slab.rotate(turn, 'z', rotate_cell=True)
    slab.positions[0] -= 1e-18 * slab.cell[2]
    predictor = Predictor(DensityModel.load('aluminium-pbe-pw400'), extrapolate=True)
    assert predictor.predict(slab).number_of_electrons() == pytest.approx(9, rel=EXACT)
    slab.positions[:, 2] -= 1e-3
    with pytest.raises(PredictionError, match='outside the cell'):
        predictor.predict(slab)


# What means nothing


def hydrogen(*positions) -> Atoms:
    return Atoms(f'H{len(positions)}', positions, cell=[6] * 3, pbc=True)


def bent_water(length: float) -> Atoms:
    """With one O–H of that length, Å."""
    return Atoms('OHH', [(3, 3, 3), (3 + length, 3, 3), (2.76, 3.93, 3)], cell=[6] * 3, pbc=True)


H2 = hydrogen((3, 3, 3), (3, 3, 3.5))
H4 = hydrogen((3, 3, 3), (3, 3, 3.9), (3, 4.2, 3), (3, 4.2, 3.9))


@pytest.mark.parametrize(
    ('name', 'atoms', 'message'),
    [
        ('water-pbe-pw400', H2, r'atoms 0 \(H\), 1 \(H\) have environments that are up to'),
        ('water-pbe-pw400', H4, r'(H).*have environments that are up to .* times as far from the training data'),
        ('water-pbe-pw400', bent_water(0.68), r'atoms .*0 \(O\).*have environments'),
        ('water-pbe-dzp', hydrogen((3, 3, 3)), r'of its electrons are below zero .* near atom 0 \(H\)'),
        ('water-pbe-dzp', H2, 'of its electrons are below zero'),
        ('water-pbe-dzp', H4, 'of its electrons are below zero'),
    ],
)
def test_a_prediction_that_means_nothing(name, atoms, message):
    predictor = Predictor(DensityModel.load(name))
    for predict in predictor.predict, lambda atoms: list(predictor.stream(atoms, max_points=5000)):
        with pytest.raises(PredictionError, match=f'what {name} predicts of these atoms means nothing: .*{message}'):
            predict(atoms)
    with pytest.warns(UnfamiliarWarning, match=f'what {name} predicts of these atoms means nothing'):
        density = predictor.predict(atoms, extrapolate=True)
    assert density.number_of_electrons() == pytest.approx(8 if 8 in atoms.numbers else len(atoms), rel=EXACT)


@pytest.mark.parametrize('amplitude', [0.1, 0.3, 0.6])
def test_a_network_that_overflows_says_so(amplitude):
    atoms = read(WATER32)
    atoms.rattle(amplitude, seed=3)
    predictor = Predictor(DensityModel.load('water-pbe-pw400'))
    with pytest.raises(PredictionError, match=r'means nothing: atom|overflows: what it says of atom|overlap'):
        predictor.predict(atoms)


def test_output_that_is_not_finite(tiny_model, water):
    predictor = Predictor(tiny_model, extrapolate=True)
    with torch.no_grad():
        predictor.network.coefficients.mean_sk[1] = torch.nan
    with pytest.raises(
        PredictionError, match=r'tiny overflows: what it says of atoms 0 \(O\), 3 \(O\), .* is not finite'
    ):
        predictor.predict(water)


def test_a_density_without_electrons_cannot_be_normalised(tiny_model, water):
    predictor = Predictor(tiny_model, extrapolate=True)
    known = predictor.coefficients(water)
    with pytest.raises(PredictionError, match='a pseudo density of -3 electrons cannot be normalised'):
        predictor.check(known, Tally(-3.0, 5.0, -1.0, np.zeros(3)))


def test_tallies_of_blocks_add_up(tiny, water):
    water.pbc = (True, True, False)
    grid = Grid.from_atoms(water, (32, 32, 30))
    nt_R = np.random.default_rng(1).normal(size=grid.shape)
    parts = [Tally.of(nt_R[slab.start_c[0] : slab.stop_c[0]], slab) for slab in grid.slabs(5000)]
    assert len(parts) > 3
    whole, together = Tally.of(nt_R, grid), reduce(Tally.__add__, parts)
    assert together.integral == pytest.approx(nt_R.sum() * grid.dv) == whole.integral
    assert together.negative == pytest.approx(-nt_R[nt_R < 0].sum() * grid.dv) == whole.negative
    assert together.lowest == nt_R.min()
    np.testing.assert_allclose(together.place_v, grid.points()[np.unravel_index(nt_R.argmin(), nt_R.shape)])


@pytest.mark.parametrize(
    ('tally', 'message'),
    [
        (Tally(64 / 1.2, 0, 0, np.zeros(3)), r'holds 53.33 electrons where the matrices want 64, a factor of 1.2'),
        (Tally(64 / 0.8, 0, 0, np.zeros(3)), r'a factor of 0.8 .*; the strangest are atoms 3 \(O\), '),
        (Tally(64, 0.3, -0.2, np.array([0.0, 0, 0])), r'0.0047 of its electrons are below zero .* down to -0.2'),
    ],
)
def test_what_means_nothing(tiny_model, water, tally, message):
    unfamiliar_a = np.zeros(24)
    unfamiliar_a[3] = 1
    with pytest.raises(PredictionError, match=message):
        check_density(water, tally, 64.0, unfamiliar_a, tiny_model)
    check_density(water, Tally(64.5, 0.01, -1e-4, np.zeros(3)), 64.0, unfamiliar_a, tiny_model)


def test_sizes_that_no_machine_holds(tiny, water):
    lone = molecule('H2O')
    lone.center(vacuum=5e4)
    for attempt in (
        lambda: tiny.predict(lone),
        lambda: tiny.predict(water, tiny.grid(water, gpts=(100000,) * 3)),
        lambda: next(tiny.stream(water, tiny.grid(water, gpts=(100000,) * 3))),
        lambda: tiny.density(tiny.coefficients(water), tiny.grid(water, gpts=(100000,) * 3)),
    ):
        with pytest.raises(PredictionError, match=r'would take .* GiB of memory, and this machine has \d.* GiB'):
            attempt()
    metal = Atoms('Al', cell=[1e5] * 3, pbc=True)
    with pytest.raises(PredictionError, match=r'the plane waves of the cell .* would take .* GiB'):
        Predictor(DensityModel.load('aluminium-pbe-pw400')).coefficients(metal)


def test_a_default_device_without_data(tiny_file, tiny, water):
    torch.set_default_device('meta')
    try:
        predictor = Predictor(DensityModel.load(tiny_file))
        density = predictor.predict(water)
        gradient_av = predictor.vjp(water, density.grid, density.nt_sR[0], density.D_asii)
    finally:
        torch.set_default_device(None)
    np.testing.assert_array_equal(density.nt_sR, tiny.predict(water).nt_sR)
    np.testing.assert_array_equal(gradient_av, tiny.vjp(water, density.grid, density.nt_sR[0], density.D_asii))


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
    later = Predictor(tiny_metal)
    later.level = level  # as a seed of GPAW learns of its k-points
    np.testing.assert_array_equal(later.predict(water).nt_sR, at_three.nt_sR)
    assert at_three.level == level and at_gamma.level == tiny_metal.level
    assert compare(at_three, at_gamma).nmae > 0.01
    same = [Predictor(tiny_model, level=chosen).predict(water).nt_sR for chosen in (level, None)]
    np.testing.assert_array_equal(*same)
    assert tiny_metal.differences(level) == []
    assert tiny_model.differences(level) == ['kpts: {"size": [3, 1, 1]} against {"size": [1, 1, 1]}']


# Several at once, spin, charge, ensembles


def frames() -> list[Atoms]:
    """Of several sizes, elements and shapes."""
    return [water_box(seed=1), lone_molecule(), skewed(), hydrogen((3, 3, 3), (3, 3, 3.9)), slab()]


@pytest.mark.parametrize('most', [1, 30, 512])
def test_several_at_once(tiny, most, monkeypatch):
    monkeypatch.setattr('ase_deepdensity.predict.MOST_ATOMS', most)
    predictor = Predictor(tiny.model, extrapolate=True)
    for density, atoms in zip(predictor.predict(frames()), frames(), strict=True):
        alone = predictor.predict(atoms)
        assert density.atoms == atoms
        assert_same(density.nt_sR, alone.nt_sR)
        assert_same_matrices(density, alone)
    distances = [coefficients.unfamiliar_a for coefficients in predictor.coefficients(frames())]
    for unfamiliar_a, atoms in zip(distances, frames(), strict=True):
        np.testing.assert_allclose(unfamiliar_a, predictor.coefficients(atoms).unfamiliar_a, rtol=1e-3)
    assert predictor.predict([]) == []


@pytest.mark.parametrize(
    ('sizes', 'most', 'ends'),
    [([3, 3, 3, 3], 6, [2, 4]), ([9, 1, 1], 6, [1, 3]), ([1, 9, 1], 6, [1, 2, 3]), ([], 6, []), ([6], 6, [1])],
)
def test_batches_are_bounded(sizes, most, ends):
    assert list(batch_ends(sizes, most)) == ends


def test_errors_name_the_frame(tiny, water):
    coarse = Grid.from_atoms(water, (8, 8, 8))
    with pytest.raises(PredictionError, match=r'frame 1 \(H16O8\): the grid \[8, 8, 8\] is too coarse'):
        tiny.predict([water, water], [tiny.grid(water), coarse])
    with pytest.raises(PredictionError, match='2 sets of atoms need as many grids, not 1'):
        tiny.predict([water, water], [coarse])
    dzp = Predictor(DensityModel.load('water-pbe-dzp'))
    with pytest.raises(PredictionError, match=r'frame 1 \(H2\): what water-pbe-dzp predicts .* means nothing'):
        dzp.predict([water, H2])


@pytest.fixture(scope='module')
def universal(tiny_model):
    """An untrained model that is told moments and charges, with three members."""
    return Predictor(build_model(tiny_model.level, network='universal', magnetic=True, charged=True, members=3))


def test_magnetisation(universal, water):
    """Flipped moments swap the spin densities; the total is what both have together."""
    universal = Predictor(universal.model, extrapolate=True)
    water.set_initial_magnetic_moments(np.random.default_rng(0).normal(size=len(water)))
    up = universal.predict(water)
    water.set_initial_magnetic_moments(-water.get_initial_magnetic_moments())
    down = universal.predict(water)
    assert up.nspins == 2 and up.number_of_electrons() == pytest.approx(64, rel=EXACT)
    assert up.magnetic_moments() == pytest.approx(-down.magnetic_moments(), abs=1e-9)
    assert up.magnetic_moment() == pytest.approx(-down.magnetic_moment(), abs=1e-9) and abs(up.magnetic_moment()) > 1e-5
    np.testing.assert_array_equal(up.nt_sR, down.nt_sR[::-1])
    for D_up, D_down in zip(up.D_asii, down.D_asii, strict=True):
        np.testing.assert_array_equal(D_up, D_down[::-1])
    assert abs(up.nt_sR[0] - up.nt_sR[1]).max() > 1e-6
    coefficients = universal.coefficients(water)
    component_sR = universal.evaluate_components(coefficients, down.grid)
    np.testing.assert_array_equal(component_sR[0], universal.evaluate(coefficients, down.grid))
    blocks = list(universal.stream(water, down.grid, max_points=5000))
    assert_same(np.concatenate([block.nt_sR for block in blocks], axis=1), down.nt_sR)
    paired = water.copy()
    paired.set_initial_magnetic_moments(None)
    together = universal.predict([paired, water])
    assert [density.nspins for density in together] == [1, 2]
    assert_same(together[0].nt_sR, universal.predict(paired).nt_sR)


def test_charge(universal, water):
    universal = Predictor(universal.model, extrapolate=True)
    water.info['charge'] = 1
    density = universal.predict(water)
    assert density.charge == 1 and density.number_of_electrons() == pytest.approx(63, rel=EXACT)


def test_file_of_a_model_of_all_kinds(universal, water, tmp_path):
    """Moments, charges and members come back from a file; tensors of another size are refused."""
    path = tmp_path / 'm.safetensors'
    universal.model.save(path)
    again = Predictor(DensityModel.load(path), extrapolate=True)
    water.set_initial_magnetic_moments([0.3] * len(water))
    expected = Predictor(universal.model, extrapolate=True).predict(water)
    np.testing.assert_array_equal(again.predict(water).nt_sR, expected.nt_sR)
    state = dict(universal.network.state_dict())
    kind = next(name for name in state if name.endswith('T_xii'))
    state[kind] = state[kind][:-1]
    with pytest.raises(ValueError, match=kind):
        universal.model.architecture.check(state)


def test_spread_of_an_ensemble(universal, tiny, water):
    coefficients = universal.coefficients(water)
    grid = universal.grid(water)
    assert coefficients.members == 3
    spread_R = universal.spread(coefficients, grid)
    assert spread_R.shape == grid.shape and (spread_R >= 0).all() and spread_R.max() > 1e-6
    with pytest.raises(PredictionError, match='tiny is no ensemble'):
        tiny.spread(tiny.coefficients(water), grid)
