"""A last layer that learns snapshots: those of a model whose last layer is another one."""

from __future__ import annotations

import copy
from dataclasses import replace

import numpy as np
import pytest
import torch
from ase import Atoms

from ase_deepdensity.analysis.compare import nmae
from ase_deepdensity.dataset import Snapshot
from ase_deepdensity.grid import Grid
from ase_deepdensity.level import Level
from ase_deepdensity.model import DensityModel
from ase_deepdensity.predict import Predictor
from ase_deepdensity.state import PAWDensity
from ase_deepdensity.training import adapt as module
from ase_deepdensity.training.adapt import AdaptError, adapt
from ase_deepdensity.training.ridge import Krylov
from tests.tiny import build_model, water_box

OTHER = Level({'mode': 'lcao', 'h': 0.2}, 'mine')
pytestmark = pytest.mark.filterwarnings('ignore::ase_deepdensity.checks.UnfamiliarWarning')


@pytest.fixture(autouse=True)
def few_directions(monkeypatch):
    """Quick, and enough for these snapshots."""
    monkeypatch.setattr(module, 'DIRECTIONS', 15)


def said(model: DensityModel, atoms: Atoms, grid: Grid) -> PAWDensity:
    """What a model says, not normalised: that is linear in its last layer."""
    predictor = Predictor(model, extrapolate=True)
    coefficients = predictor.coefficients(atoms)
    nt_sR = predictor.evaluate_components(coefficients, grid)
    return PAWDensity(atoms, grid, nt_sR, coefficients.D_asii(), model.level, atom_types=model.types_of(atoms))


def snapshots_of(model: DensityModel, number: int) -> list[Snapshot]:
    result = []
    for seed in range(1, 1 + number):
        atoms = water_box((1, 1, 2), seed=seed)
        density = said(model, atoms, Predictor(model).grid(atoms, h=0.4))
        result.append(Snapshot(density, 0.0, np.zeros((len(atoms), 3)), np.zeros(3), 1, 1.0))
    return result


@pytest.fixture(scope='module')
def snapshots(teacher) -> list[Snapshot]:
    return snapshots_of(teacher, 5)


def errors(model: DensityModel, snapshots: list[Snapshot]) -> tuple[float, float]:
    """Mean NMAE, %, and RMS error of D."""
    of_density, of_matrices = [], []
    for snapshot in snapshots:
        density = said(model, snapshot.atoms, snapshot.density.grid)
        of_density.append(nmae(density, snapshot.density))
        pairs = zip(density.D_asii, snapshot.density.D_asii, strict=True)
        of_matrices.append(np.mean([((a - b) ** 2).mean() for a, b in pairs]) ** 0.5)
    return float(np.mean(of_density)), float(np.mean(of_matrices))


def test_three_snapshots_halve_the_error_of_others(tiny_model, snapshots):
    adapted, report = adapt(tiny_model, snapshots[:3])
    before, after = errors(tiny_model, snapshots[3:]), errors(adapted, snapshots[3:])
    assert after[0] < 0.5 * before[0], (before, after)
    assert after[1] < 0.5 * before[1], (before, after)
    assert report.after < report.left_out < report.before
    assert adapted.card['adapted']['to'] == [s.atoms.get_chemical_formula() for s in snapshots[:3]]
    assert 'adapted' not in tiny_model.card


def test_of_a_model_in_memory_and_from_its_file(tiny_model, snapshots, tmp_path):
    adapted = tiny_model.adapted(snapshots[:1])
    assert errors(adapted, snapshots[3:])[0] < errors(tiny_model, snapshots[3:])[0]
    adapted.save(tmp_path / 'a.safetensors')
    assert errors(DensityModel.load(tmp_path / 'a.safetensors'), snapshots[:1]) == errors(adapted, snapshots[:1])


def test_more_elements_and_members(tiny_model, snapshots):
    """A universal network learns with what belongs to an element alone."""
    model = build_model(tiny_model.level, network='universal', element_size=8, neighbor_size=3, members=2)
    assert errors(model.adapted(snapshots[:3]), snapshots[3:])[0] < errors(model, snapshots[3:])[0]


def test_data_that_contradict_change_nothing(tiny_model, snapshots):
    """Densities with noise that no features tell of."""
    rng = np.random.default_rng(0)
    own = snapshots_of(tiny_model, 2)
    noisy = []
    for snapshot in own:
        density = snapshot.density
        nt_sR = density.nt_sR * (1 + 0.05 * rng.normal(size=density.nt_sR.shape))
        D_asii = [D_sii * (1 + 0.05 * rng.normal()) for D_sii in density.D_asii]
        noisy.append(replace(snapshot, density=density.new(nt_sR=nt_sR, D_asii=D_asii)))
    adapted, report = adapt(tiny_model, noisy)
    assert report.strength is None
    assert errors(adapted, own)[0] < 1.0
    for name, tensor in tiny_model.network.state_dict().items():
        if 'matrices' not in name:
            assert torch.equal(tensor, adapted.network.state_dict()[name]), name


@pytest.mark.parametrize(
    ('change', 'message'),
    [
        (lambda s: [], 'no snapshots'),
        (lambda s: [replace(s, density=s.density.new(level=OTHER))], 'another level'),
        (lambda s: [replace(s, density=s.density.new(charge=1.0))], 'has the charge 1'),
    ],
)  # fmt: skip
def test_refused(tiny_model, snapshots, change, message):
    before = copy.deepcopy(tiny_model.network.state_dict())
    with pytest.raises(AdaptError, match=message):
        adapt(tiny_model, change(snapshots[0]))
    assert all(torch.equal(before[name], tensor) for name, tensor in tiny_model.network.state_dict().items())


def test_refuses_spin_and_networks_that_are_not_linear_at_the_end(tiny_model, snapshots):
    state = snapshots[0].density
    two = state.new(nt_sR=state.nt_sR[[0, 0]] / 2, D_asii=[D_sii[[0, 0]] / 2 for D_sii in state.D_asii])
    with pytest.raises(AdaptError, match='spin-polarised'):
        adapt(tiny_model, [replace(snapshots[0], density=two)])
    with pytest.raises(AdaptError, match='InvariantNetwork is not linear'):
        adapt(build_model(tiny_model.level, network='invariant'), snapshots[:1])


def test_krylov_is_the_ridge():
    torch.manual_seed(0)
    A_px, b_p = torch.randn(30, 12, dtype=torch.float64), torch.randn(30, dtype=torch.float64)
    krylov = Krylov.of(lambda x: A_px @ x, lambda u: A_px.T @ u, b_p, 12)
    for strength, y_i in zip((0.0, 0.3, 20.0), krylov.coefficients([0.0, 0.3, 20.0]), strict=True):
        exact_x = torch.linalg.solve(A_px.T @ A_px + strength * torch.eye(12, dtype=torch.float64), A_px.T @ b_p)
        torch.testing.assert_close(y_i @ krylov.v_ix, exact_x)
    nothing = Krylov.of(lambda x: A_px @ x, lambda u: A_px.T @ u, 0 * b_p, 12)
    assert nothing.coefficients([1.0]).shape == (1, 0)


def test_folds_leave_each_out_once():
    for number in 2, 5, 13:
        assert sorted(t for fold in module.folds(number) for t in fold) == list(range(number))
        assert len(module.folds(number)) == min(number, module.MOST_FOLDS)
