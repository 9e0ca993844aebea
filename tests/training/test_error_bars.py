"""Error bars: what is far from the training data and wrong gets larger ones; files, refusals, predictions."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import ase.io
import numpy as np
import pytest
import torch
import zarr
from ase import Atoms
from ase.build import bulk, molecule
from scipy.stats import spearmanr

from ase_deepdensity.analysis.compare import nmae
from ase_deepdensity.calculator import DeepDensity
from ase_deepdensity.checks import PredictionError
from ase_deepdensity.cli.main import main
from ase_deepdensity.dataset import Dataset, Snapshot, write_snapshot
from ase_deepdensity.dataset.density_file import read_density, write_density
from ase_deepdensity.dataset.zarr_folder import read_zarr_sigma
from ase_deepdensity.expected_error import Sigma
from ase_deepdensity.model import DensityModel
from ase_deepdensity.network.contract import Coefficients
from ase_deepdensity.network.error_bars import ErrorBars
from ase_deepdensity.network.posterior import Posterior
from ase_deepdensity.network.radial_variance import RadialVariance
from ase_deepdensity.predict import Predictor
from ase_deepdensity.training.error_bars import ErrorBarError, held_out_part, with_error_bars
from ase_deepdensity.training.error_bars import with_factors as with_factors_of
from tests.tiny import water_box

pytestmark = pytest.mark.filterwarnings('ignore::ase_deepdensity.checks.UnfamiliarWarning')


@pytest.fixture(scope='module')
def data(teacher, tmp_path_factory) -> tuple[Dataset, Dataset]:
    """Boxes to have been trained on, and held-out ones of two formulas."""
    folders = tmp_path_factory.mktemp('known'), tmp_path_factory.mktemp('unknown')
    predictor = Predictor(teacher, extrapolate=True)
    for seed in range(10):
        atoms = water_box((1, 1, 2), seed=seed, spacing=3.1 if seed < 4 else 2.9 + 0.03 * seed)
        if seed % 2 and seed > 4:
            del atoms[0]  # without the oxygen of one molecule: another formula
        density = predictor.predict(atoms, predictor.grid(atoms, h=0.4))
        snapshot = Snapshot(density, 0.0, np.zeros((len(atoms), 3)), np.zeros(3), 1, 1.0)
        write_snapshot(folders[seed >= 4] / f'{seed}.h5', snapshot)
    return Dataset(folders[0]), Dataset(folders[1])


@pytest.fixture(scope='module')
def measured(tiny_model, data) -> DensityModel:
    return with_error_bars(tiny_model, *data)


def test_expected_errors_are_of_the_right_size(measured, data):
    predictor = Predictor(measured, extrapolate=True)
    for snapshot in data[1]:
        coefficients = predictor.coefficients(snapshot.atoms)
        expected = predictor.expected_error(coefficients)
        true = nmae(predictor.density(coefficients, snapshot.density.grid), snapshot.density)
        low, high = expected.within(2)
        assert low < expected.nmae < high
        assert 0.5 < true / expected.nmae < 2, f'{true} is expected to be {expected}'
        assert expected.error_a.shape == (len(snapshot.atoms),) and (expected.error_a > 0).all()
        assert np.isclose(expected.nmae, 100 * expected.error_a.sum() / expected.electrons)


def test_what_is_stranger_is_never_expected_to_be_better(measured):
    predictor = Predictor(measured, extrapolate=True)
    coefficients = predictor.coefficients(water_box((1, 1, 2), seed=1))
    usual_a = predictor.expected_error(coefficients).error_a
    for factor in 3, 30:
        strange = replace(coefficients, unfamiliar_a=factor * coefficients.unfamiliar_a)
        strange_a = predictor.expected_error(strange).error_a
        assert (strange_a >= usual_a * (1 - 1e-6)).all()
        usual_a = strange_a


def test_rotations_and_order_change_nothing(measured):
    atoms = water_box((1, 1, 2), seed=2)
    calc = DeepDensity(measured)
    error_a = calc.get_density_uncertainty(atoms).error_a
    turned, order = atoms.copy(), np.random.default_rng(0).permutation(len(atoms))
    turned.rotate(40, (1, 2, 3), rotate_cell=True)
    assert np.allclose(calc.get_density_uncertainty(turned[order]).error_a, error_a[order], rtol=1e-3)


def test_sigma_at_points(measured, data):
    """It adds up to the expected error of all, is where atoms are, and tells how large errors are at points."""
    calc = DeepDensity(measured, extrapolate=True, h=0.4)
    inside_i = []
    for snapshot in data[1]:
        density = calc.predict(snapshot.atoms, uncertainty=True)
        expected = calc.get_density_uncertainty(snapshot.atoms)
        sigma_sR = density.sigma_sR
        assert sigma_sR.shape == density.nt_sR.shape and (sigma_sR >= 0).all()
        integral = (2 / np.pi) ** 0.5 * sigma_sR.sum() * density.grid.dv
        assert np.isclose(integral, expected.error_a.sum(), rtol=1e-6)
        error_R = np.abs(density.nt_sR - snapshot.density.nt_sR)
        assert spearmanr(sigma_sR.ravel(), error_R.ravel())[0] > 0.3
        inside_i.append(np.mean(error_R < sigma_sR * snapshot_scale(error_R, sigma_sR)))
    assert 0.5 < np.mean(inside_i) < 0.9, 'of points are within 1 σ where the whole is right'


def snapshot_scale(error_R: np.ndarray, sigma_R: np.ndarray) -> float:
    """What makes the mean of σ fit the mean error, as of a Gaussian."""
    return float(error_R.sum() / ((2 / np.pi) ** 0.5 * sigma_R.sum()))


def test_variance_of_an_atom_is_that_of_drawn_read_outs(measured):
    """Of many last layers drawn from their posterior, at points around one atom."""
    predictor = Predictor(measured, extrapolate=True)
    network, basis = predictor.network, measured.architecture.basis
    layer, rigidity_l = network.last_layer(), np.linspace(0.5, 2, basis.lmax + 1)
    generator = torch.Generator().manual_seed(0)
    y_lskm = []
    for l in range(basis.lmax + 1):
        readout = layer.readouts[8, l, False]
        noise_skm = torch.randn(4000, readout.functions, 2 * l + 1, generator=generator)
        y_lskm.append(noise_skm * readout.scale_o[: readout.functions, None] * rigidity_l[l] ** 0.5)
    c_lsnm = layer.functions.expand(y_lskm)
    atom = Atoms('O', cell=[8.0] * 3, pbc=True)  # whose images do not reach each other
    grid = predictor.grid(atom, h=0.4)
    position_av = torch.from_numpy(atom.positions)
    drawn_sR = predictor.evaluator(
        Coefficients({}, torch.zeros(1, 0), [c[:, None, None] for c in c_lsnm]), grid, position_av
    )[:, 0]
    sigma = Sigma(predictor._runner, RadialVariance(network, basis))
    c_anm = sigma.radial.coefficients(atom.numbers, rigidity_l[None], np.ones(1))
    found = Coefficients({}, torch.zeros(1, 0), [c_anm[None, None].float()])
    found_R = sigma.evaluator(found, grid, position_av)[0, 0].double()
    drawn_R = drawn_sR.double().var(0)
    found_R *= drawn_R.sum() / found_R.sum()  # √v has the given integral
    assert float((found_R - drawn_R).abs().sum() / drawn_R.sum()) < 0.05


def test_dipole_is_as_uncertain_as_that_of_drawn_read_outs(measured):
    """Of many last layers drawn from their posterior, those of each element the same for all its atoms."""
    predictor = Predictor(measured, extrapolate=True)
    network, bars, members = predictor.network, measured.error_bars, 200
    atoms = water_box((1, 1, 2), seed=3)
    atoms.set_cell([12.0, 11.0, 13.0])
    atoms.center()
    coefficients = predictor.coefficients(atoms)
    system, features = coefficients.seen
    generator, layer = torch.Generator().manual_seed(0), network.last_layer()
    weights = layer.zeros(members)
    for (Z, L, pseudo), readout in layer.readouts.items():
        if not pseudo and L < len(bars.whiten_lcd):
            noise_edo = torch.randn(members, readout.channels, readout.outputs, generator=generator)
            F_cd = bars.whitened(network.species, {(Z, L, False): torch.eye(readout.channels)})[Z, L, False]
            weights[Z, L, pseudo] = torch.einsum('cd, edo -> eco', F_cd, noise_edo)
    drawn, usual = layer.says(features, weights, system), coefficients.output
    grid = predictor.grid(atoms, h=0.38)

    def dipole(e: int) -> np.ndarray:
        output = Coefficients(
            {Z: usual.D_zesaii[Z] + D_esaii[e : e + 1] for Z, D_esaii in drawn.D_zesaii.items()},
            usual.invariants_ac,
            [c_esanm + d[e : e + 1] for c_esanm, d in zip(usual.c_lesanm, drawn.c_lesanm, strict=True)],
        )
        return predictor.density(replace(coefficients, output=output), grid).dipole_moment()

    drawn_ev = np.array([dipole(e) for e in range(members)])
    drawn_ev -= predictor.density(coefficients, grid).dipole_moment()
    posterior = Posterior(network, measured.architecture.basis, measured.atom_types)
    found_vv = posterior.dipole(bars.whitened(network.species, features), system, atoms.positions).sum(0)
    drawn_vv = drawn_ev.T @ drawn_ev / members
    assert abs(found_vv - drawn_vv).max() < 0.25 * np.trace(drawn_vv), f'{drawn_vv} drawn, {found_vv} found'
    assert np.isclose(np.trace(found_vv), np.trace(drawn_vv), rtol=0.25)


def test_matrices_are_as_uncertain_as_those_of_drawn_read_outs(measured):
    network, basis = measured.network, measured.architecture.basis
    rigidity_l, generator = np.linspace(0.5, 2, basis.lmax + 1), torch.Generator().manual_seed(0)
    drawn_eii = 0
    for (Z, L, _), readout in network.last_layer().readouts.items():
        if Z == 8 and len(readout.T_bmii):
            noise_ebm = torch.randn(4000, len(readout.T_bmii), 2 * L + 1, generator=generator)
            noise_ebm *= readout.scale_o[readout.functions :, None] * rigidity_l[min(L, basis.lmax)] ** 0.5
            drawn_eii += torch.einsum('ebm, bmij -> eij', noise_ebm, readout.T_bmii)
    posterior = Posterior(network, basis, measured.atom_types)
    [sigma_ii] = posterior.matrices(np.array([8]), rigidity_l[None], np.array([3.0]))
    np.testing.assert_allclose(sigma_ii, 3 * drawn_eii.std(0).numpy(), rtol=0.08)


def test_symmetry_that_forbids_a_dipole_forbids_its_error():
    calc = DeepDensity(with_factors(DensityModel.load('organics-pbe-pw400')))
    atoms = molecule('CH3OH', vacuum=4, pbc=True)
    usual_v = calc.get_density_uncertainty(atoms).sigma_dipole_v
    assert usual_v[:2].min() > 1e-3 and usual_v[2] < 1e-5, 'the mirror plane forbids it along z'
    atoms = molecule('C2H4', vacuum=4, pbc=True)
    assert calc.get_density_uncertainty(atoms).sigma_dipole_v.max() < 0.01 * usual_v.max()
    turned = molecule('CH3OH', vacuum=4, pbc=True)
    turned.rotate(90, 'z', center='COU')
    found_v = calc.get_density_uncertainty(turned).sigma_dipole_v
    assert np.allclose(found_v, usual_v[[1, 0, 2]], rtol=0.02, atol=1e-5)


def with_factors(model: DensityModel) -> DensityModel:
    """Error bars that tell of D and dipoles, whether the file does or not."""
    tensors = {'matrix_z': torch.ones(len(model.species)), 'dipole_x': torch.ones(2)}
    return replace(model, error_bars=ErrorBars(**model.error_bars.state_dict() | tensors))


def test_matrices_and_dipoles_are_as_wrong_as_expected(measured, data):
    """Of the held-out boxes, which the factors are from: most are within 2 σ, not nearly all within 1 σ."""
    predictor = Predictor(measured, extrapolate=True)
    deviation_x = []
    for snapshot in data[1]:
        coefficients = predictor.coefficients(snapshot.atoms)
        expected = predictor.expected_error(coefficients)
        assert expected.sigma_dipole_v is None, 'in a box of water it depends on where that begins'
        for sigma_ii, D_sii, its_sii in zip(
            expected.sigma_D_aii, coefficients.D_asii(), snapshot.density.D_asii, strict=True
        ):
            error_ii = abs(D_sii - its_sii)[0]
            assert 0.2 < np.sqrt((error_ii**2).mean() / (sigma_ii**2).mean()) < 5
            deviation_x.append(error_ii[sigma_ii > 0] / sigma_ii[sigma_ii > 0])
    share = np.mean(np.concatenate(deviation_x) < 1)
    assert 0.5 < share < 0.85


@pytest.mark.parametrize(('name', 'size'), [('tiny', 2e-4), ('organics-pbe-pw400', 1e-3)])
def test_gradients_are_those_of_finite_differences(measured, name, size):
    """Steps as small as the single precision of error bars allows, Å; the tiny model's curve more."""
    model = measured if name == 'tiny' else DensityModel.load(name)
    predictor = Predictor(model, dtype=torch.float64, extrapolate=True)
    if name == 'tiny':
        atoms = water_box((1, 1, 2), seed=5)
    else:
        atoms = molecule('CH3OH', vacuum=4, pbc=True)
        atoms.rattle(0.05, seed=1)
    gradient_av = predictor.expected_error_gradient(atoms)

    def error(step_av: np.ndarray) -> float:
        moved = atoms.copy()
        moved.positions += step_av
        return predictor.expected_error(predictor.coefficients(moved)).error_a.sum()

    scale = abs(gradient_av).max()
    assert scale > 1e-4 * error(np.zeros((len(atoms), 3)))
    assert np.allclose(gradient_av.sum(0), 0, atol=1e-4 * scale), 'a shift of all changes nothing'
    for seed in range(4):
        direction_av = np.random.default_rng(seed).normal(size=(len(atoms), 3))
        step_av = size * direction_av
        slope = (error(step_av) - error(-step_av)) / (2 * size)
        assert np.isclose(slope, np.vdot(gradient_av, direction_av), rtol=0.01, atol=0.01 * scale)


def test_sigma_belongs_to_one_density(measured):
    density = DeepDensity(measured, extrapolate=True, h=0.5).predict(water_box((1, 1, 1)), uncertainty=True)
    assert density.new(charge=0.0).sigma_sR is not None
    assert density.new(nt_sR=2 * density.nt_sR).sigma_sR is None
    with pytest.raises(ValueError, match='sigma_sR must have the shape of nt_sR'):
        density.new(sigma_sR=density.sigma_sR[:, 1:])
    with pytest.raises(ValueError, match='negative or not finite'):
        density.new(sigma_sR=-density.sigma_sR)
    dipole_v = np.full(3, 0.1)
    density = density.new(sigma_dipole_v=dipole_v)
    changed = density.new(D_asii=[0.9 * D_sii for D_sii in density.D_asii])
    assert changed.sigma_sR is not None and changed.sigma_D_asii is None and changed.sigma_dipole_v is None
    assert density.new(nt_sR=2 * density.nt_sR).sigma_dipole_v is None
    with pytest.raises(ValueError, match=r'sigma_dipole_v must have the shape of a dipole moment, \(3,\), not \(2,\)'):
        density.new(sigma_dipole_v=dipole_v[:2])
    with pytest.raises(ValueError, match='sigma_D_asii must be of 3 atoms, not 1'):
        density.new(sigma_D_asii=density.sigma_D_asii[:1])


def test_files_carry_sigma(measured, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    with_factors(measured).save('sure.safetensors')
    atoms = water_box((1, 1, 1))
    atoms.write('water.xyz')
    common = ['predict', 'water.xyz', 'sure.safetensors', '--extrapolate', '--h', '0.5', '--uncertainty', '--out']
    assert main([*common, 'n.h5', '--plot', 'n.png']) == 0
    assert main([*common, 'n.zarr']) == 0
    out = capsys.readouterr().out
    assert re.search(r'dipole .* ± \(0\.\d+, 0\.\d+, 0\.\d+\) e·Å', out) and 'of the numbers in D' in out
    assert 'σ beside it' in out and Path('n.png').stat().st_size > 10000
    calc = DeepDensity('sure.safetensors', extrapolate=True, h=0.5)
    density = calc.predict(ase.io.read('water.xyz'), uncertainty=True)
    read = read_density('n.h5')
    np.testing.assert_allclose(read.sigma_sR, density.sigma_sR)
    np.testing.assert_allclose(read.sigma_dipole_v, density.sigma_dipole_v)
    for its_sii, sigma_sii in zip(read.sigma_D_asii, density.sigma_D_asii, strict=True):
        np.testing.assert_allclose(its_sii, sigma_sii)
    stored = read_zarr_sigma('n.zarr')
    np.testing.assert_allclose(stored[:], density.sigma_sR, rtol=1e-5, atol=1e-8)
    group = zarr.open_group('n.zarr', mode='r')
    np.testing.assert_allclose(group['sigma_dipole'][:], density.sigma_dipole_v)
    np.testing.assert_allclose(group['sigma_D_O'][:, 0], density.sigma_D_asii[0])
    write_density('plain.h5', density.new(sigma_D_asii=None, sigma_dipole_v=None))
    assert read_density('plain.h5').sigma_sR is not None and read_density('plain.h5').sigma_D_asii is None
    write_density('matrices.h5', density.new(sigma_dipole_v=None))
    assert read_density('matrices.h5').sigma_D_asii is not None and read_density('matrices.h5').sigma_dipole_v is None
    assert stored.attrs['units'] == 'electron/angstrom^3'
    assert main([*common, 'n.h5', '--stream']) == 2
    assert 'goes with neither --stream nor --scheduler' in capsys.readouterr().err


def test_files_carry_them(measured, tmp_path):
    measured.save(tmp_path / 'm.safetensors')
    loaded = DensityModel.load(tmp_path / 'm.safetensors')
    atoms = water_box((1, 1, 1))
    expected = [DeepDensity(model).get_density_uncertainty(atoms) for model in (measured, loaded)]
    assert np.array_equal(expected[0].error_a, expected[1].error_a) and expected[0].spread == expected[1].spread
    assert re.fullmatch(r'NMAE \S+ % expected, \S+ to \S+ % in two of three cases', str(expected[1]))


def test_a_model_of_one_compound_leaves_out_snapshots(tiny_model, data, tmp_path):
    for t, snapshot in enumerate(data[1]):
        if snapshot.atoms.symbols.formula.reduce()[0].format('hill') == 'H2O':
            write_snapshot(tmp_path / f'{t}.h5', snapshot)
    for t, snapshot in enumerate(data[0]):
        write_snapshot(tmp_path / f'more-{t}.h5', snapshot)
    made = with_error_bars(tiny_model, data[0], Dataset(tmp_path))
    assert made.card['error bars']['formulas'] == 1 and 0 < made.error_bars.spread < 1.5
    again = with_factors_of(made, Dataset(tmp_path))
    assert np.allclose(again.error_bars.matrix_z, made.error_bars.matrix_z, rtol=0.5)


def test_another_last_layer_is_not_judged_by_the_old_one(measured, data):
    assert measured.adapted(data[1][:2]).error_bars is None


def test_refusals(tiny_model, data, measured):
    atoms = water_box((1, 1, 1))
    with pytest.raises(PredictionError, match='tiny has no error bars; .* deepdensity uncertainty MODEL DATASET'):
        DeepDensity(tiny_model).get_density_uncertainty(atoms)
    with pytest.raises(ErrorBarError, match='2 snapshots that took no part .* at least 5'):
        with_error_bars(tiny_model, data[0], data[1][:2])
    with pytest.raises(ErrorBarError, match='how its data were split: give --held-out'):
        held_out_part(tiny_model, data[0])
    state = measured.error_bars.state_dict()
    bars = type(measured.error_bars)
    with pytest.raises(ValueError, match='in offset_s that are not finite'):
        bars(**state | {'offset_s': torch.tensor([np.nan, 1.0])})
    old = bars.from_state_dict({k: v for k, v in state.items() if k not in ('matrix_z', 'dipole_x')}, measured.network)
    expected = DeepDensity(replace(measured, error_bars=old)).get_density_uncertainty(atoms)
    assert expected.nmae > 0 and expected.sigma_D_aii is None and expected.sigma_dipole_v is None
    with pytest.raises(ValueError, match=r'error_bars.weight_y is \(1,\), which should be'):
        bars.from_state_dict(state | {'weight_y': torch.zeros(1)}, measured.network)


def test_command(tiny_model, data, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    tiny_model.save('tiny.safetensors')
    water_box((1, 1, 1)).write('water.xyz')
    known, unknown = (str(part.files[0].parent) for part in data)
    assert main(['uncertainty', 'tiny.safetensors', known, '--held-out', unknown, '--out', 'sure']) == 0
    out = capsys.readouterr().out
    assert 'held-out systems is within a factor of' in out and re.search(r'within 2 σ, % +\d', out)
    assert main(['predict', 'water.xyz', 'sure.safetensors', '--extrapolate']) == 0
    assert re.search(r'error +NMAE .* in two of three cases\n.*% of it at atom', capsys.readouterr().out)
    assert main(['uncertainty', 'sure.safetensors', '--held-out', known, '--out', 'again']) == 2
    assert '4 snapshots that took no part' in capsys.readouterr().err
    assert main(['uncertainty', 'sure.safetensors', '--held-out', unknown, '--out', 'again']) == 0
    assert re.search(r'D within 2 σ, % +\d', capsys.readouterr().out)
    before, after = (DensityModel.load(f'{name}.safetensors').error_bars for name in ('sure', 'again'))
    assert torch.equal(before.weight_y, after.weight_y) and not torch.equal(before.matrix_z, after.matrix_z)
    assert np.allclose(before.matrix_z, after.matrix_z, rtol=0.5)
    assert main(['uncertainty', 'sure.safetensors']) == 2
    assert main(['uncertainty', 'tiny.safetensors', '--held-out', unknown]) == 2
    assert 'tiny has no error bars' in capsys.readouterr().err


def stretched(atoms: Atoms, factor: float) -> Atoms:
    """Cell and distances times a factor."""
    atoms = atoms.copy()
    atoms.set_cell(atoms.cell * factor, scale_atoms=True)
    return atoms


@pytest.mark.filterwarnings('ignore::ase_deepdensity.checks.UnfamiliarWarning')
@pytest.mark.parametrize(
    ('name', 'atoms', 'factor'),
    [
        ('aluminium-pbe-pw400', bulk('Al', cubic=True), 1.2),
        ('general-pbe-pw400', bulk('Si'), 0.74),
        ('magnetic-pbe-pw400', Atoms(bulk('Fe'), magmoms=[2.3]), 0.8),
        ('organics-pbe-pw400', molecule('CH3OH', vacuum=3.0), 1.2),
        ('water-pbe-dzp', molecule('H2O', vacuum=3.0), 1.2),
        ('water-pbe-pw400', molecule('H2O', vacuum=3.0), 1.2),
    ],
)
def test_shipped_models_tell_the_strange_from_the_known(name, atoms, factor):
    """Each expects the errors that it was measured to have of what it is for, and several times these elsewhere."""
    calc = DeepDensity(name, extrapolate=True)
    known, strange = (calc.get_density_uncertainty(one).nmae for one in (atoms, stretched(atoms, factor)))
    assert 0.03 < known < 1.0
    assert strange > 3 * known


def test_a_shipped_model_stays_as_it_is(data, capsys):
    known, unknown = (str(part.files[0].parent) for part in data)
    assert main(['uncertainty', 'water-pbe-dzp', known, '--held-out', unknown]) == 2
    assert (
        'water-pbe-dzp.safetensors is shipped with this program and stays as it is: give --out'
        in capsys.readouterr().err
    )
