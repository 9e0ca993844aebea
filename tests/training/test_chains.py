"""The same training, prediction, calculator and commands for one-dimensional densities, with both networks."""

import json

import numpy as np
import pytest

from ase_deepdensity.analysis.compare import nmae
from ase_deepdensity.calculator import DeepDensity
from ase_deepdensity.cli.main import main
from ase_deepdensity.collocation.superposition import superpose
from ase_deepdensity.dataset import Dataset
from ase_deepdensity.generate.folder import generate
from ase_deepdensity.level import Level
from ase_deepdensity.model import DensityModel
from ase_deepdensity.plot.pictures import plot_difference
from ase_deepdensity.predict import Predictor
from ase_deepdensity.sampling.geometries import chain
from ase_deepdensity.training.config import TrainingConfig
from ase_deepdensity.training.loop import Trainer

pytestmark = pytest.mark.filterwarnings('ignore::ase_deepdensity.checks.UnfamiliarWarning')
HYPERS = {
    'equivariant': {'cutoff': 9.0, 'lmax': 1, 'radial': 6, 'channels': 8, 'message_channels': 4, 'pseudo_channels': 1},
    'invariant': {'cutoff': 9.0, 'embedding': 8, 'axes': 4, 'width': 16, 'depth': 2},
}


@pytest.fixture(scope='module')
def chains(tmp_path_factory) -> Dataset:
    folder = tmp_path_factory.mktemp('chains')
    stream = chain('mixed', 4)
    generate([next(stream) for _ in range(4)], folder, Level.load('ks1d'), progress=False)
    return Dataset(folder)


@pytest.fixture(scope='module', params=HYPERS)
def model(request, chains, tmp_path_factory) -> DensityModel:
    config = TrainingConfig(
        network=request.param, hypers=HYPERS[request.param], basis_cutoff=10.0, basis_functions=15, lmax=1, stride=2,
        steps=60, warmup=5, validate_every=30, smoothing=1e-4, validation=1, learning_rate=0.01, matrix_weight=0.0,
    )  # fmt: skip
    path = tmp_path_factory.mktemp(request.param) / 'm.safetensors'
    model = Trainer(chains, path, config, progress=False).run()
    assert path.with_suffix('.png').stat().st_size > 1000
    return model


def test_it_learns(model, chains):
    for snapshot in chains:
        reference, atoms = snapshot.density, snapshot.atoms
        start_R = superpose(reference.grid, atoms.positions, atoms.numbers, model.superposition)
        start = nmae(reference.new(nt_sR=start_R[np.newaxis]), reference)
        assert nmae(Predictor(model).predict(atoms, reference.grid), reference) < 0.5 * start


def test_calculator(model):
    atoms = next(chain('mixed', 6, seed=9))
    atoms.calc = DeepDensity(model)
    n_R = atoms.calc.get_pseudo_density()
    assert n_R.sum() * atoms.get_volume() / n_R.size == pytest.approx(12, rel=1e-6)
    assert n_R.shape == tuple(atoms.calc.get_number_of_grid_points()) and not n_R[0].any() and not n_R[:, 0].any()
    np.testing.assert_array_equal(atoms.calc.get_all_electron_density(), n_R)
    assert np.isfinite(atoms.get_dipole_moment()).all()
    with pytest.raises(ValueError, match='gridrefinement must be 1'):
        atoms.calc.get_pseudo_density(gridrefinement=2)


def test_slabs_are_the_whole(model):
    atoms = next(chain('mixed', 6, seed=9))
    predictor = Predictor(model)
    whole = predictor.predict(atoms).nt_sR
    (block,) = predictor.stream(atoms, max_points=50)
    np.testing.assert_allclose(block.nt_sR, whole, rtol=1e-5)


def test_pictures_are_lines(model, chains):
    reference = chains[0].density
    figure = plot_difference(Predictor(model).predict(chains[0].atoms), reference)
    upper, lower = figure.axes
    x_i, n_i = upper.lines[0].get_data()
    assert len(x_i) == reference.grid.shape[2] + 1 and n_i[0] == n_i[-1] == reference.nt_sR[0, 0, 0, 0]
    assert x_i[-1] == pytest.approx(chains[0].atoms.cell[2, 2])
    assert 'NMAE' in figure.legends[0].get_texts()[1].get_text() and lower.get_ylabel() == 'difference'


def test_all_commands(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    settings = {'network': 'invariant', 'hypers': HYPERS['invariant'], 'basis_cutoff': 10.0, 'lmax': 1, 'validation': 1}
    (tmp_path / 'c.json').write_text(json.dumps(settings | {'matrix_weight': 0.0, 'warmup': 2, 'validate_every': 4}))
    assert main(['sample', 'chain', 'a.xyz', '--kind', 'insulator', '--atoms', '3', '-n', '3']) == 0
    assert main(['generate', 'a.xyz', 'data', '--level', 'ks1d', '--quiet']) == 0
    assert main(['train', 'data', '--out', 'm', '--config', 'c.json', '--steps', '4', '--quiet']) == 0
    assert main(['evaluate', 'm.safetensors', 'data', '--json', 's.json']) == 0
    assert 0 < json.loads((tmp_path / 's.json').read_text())['mean']['nmae'] < 100
    assert main(['info', 'm.safetensors']) == 0
    assert main(['predict', 'a.xyz@0', 'm.safetensors', '--out', 'n.cube', '--plot', 'n.png']) == 0
    output = capsys.readouterr().out
    assert 'electrons  6.000000' in output and 'network           invariant' in output
    assert (tmp_path / 'n.png').read_bytes()[:4] == b'\x89PNG'
