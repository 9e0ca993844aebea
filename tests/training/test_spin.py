"""Trainings on spin-polarised snapshots, and of ensembles, with the universal network."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from ase_deepdensity.collocation.density import DensityEvaluator
from ase_deepdensity.collocation.superposition import superpose
from ase_deepdensity.dataset import Dataset, Snapshot, write_snapshot
from ase_deepdensity.network.contract import DensityNetwork
from ase_deepdensity.network.registry import build_network
from ase_deepdensity.predict import Predictor
from ase_deepdensity.spin import spins
from ase_deepdensity.state import PAWDensity
from ase_deepdensity.system import system_of
from ase_deepdensity.training.batch import Batches, cosets
from ase_deepdensity.training.config import TrainingConfig
from ase_deepdensity.training.data import Cache, TrainingData, sample_of
from ase_deepdensity.training.loop import Trainer
from ase_deepdensity.training.loss import mean_spreads
from ase_deepdensity.training.start import with_moments_met
from ase_deepdensity.training.step import Objective
from ase_deepdensity.training.validation import predicted
from tests.tiny import BASIS, HYPERS, SPECIES, water_box
from tests.training.conftest import SETTINGS, curve

MOMENT = 0.5
UNIVERSAL = HYPERS | {'element_size': 8, 'neighbor_size': 4}


def known_network(tiny_model, **hypers) -> DensityNetwork:
    """One with random weights: what the data are made with."""
    torch.manual_seed(3)
    network = build_network('universal', UNIVERSAL | hypers, SPECIES, BASIS, tiny_model.architecture.projectors)
    network.set_elements(tiny_model.atom_types)
    for name, buffer in network.named_buffers():
        if name.startswith('heads') and 'scale' in name:
            buffer.fill_(0.01)
    return network


@pytest.fixture(scope='module')
def polarised(tiny_model, tmp_path_factory) -> Dataset:
    """Boxes of four molecules whose oxygen atoms have moments up or down, and one without any."""
    folder, network = tmp_path_factory.mktemp('polarised'), known_network(tiny_model, magnetic=True)
    for seed in range(5):
        atoms = water_box((1, 2, 2), seed=seed)
        grid = Predictor(tiny_model).grid(atoms, h=0.35)
        if seed:
            up_a = np.random.default_rng(seed).choice([-MOMENT, MOMENT], len(atoms))
            atoms.set_initial_magnetic_moments(np.where(atoms.numbers == 8, up_a, 0.0))
        system = system_of(atoms, network, tiny_model.level).to(dtype=torch.float32)
        with torch.no_grad():
            output = network(system)
            added_sR = DensityEvaluator(BASIS)(output, grid, system.position_av)[0].double().numpy()
        added_sR[0] += superpose(grid, atoms.positions, atoms.numbers, tiny_model.superposition)
        nspins, D_asii = len(added_sR), [np.empty(0)] * len(atoms)
        for Z in system.numbers:
            D_saii = spins(output.D_zesaii[Z][0].double().numpy(), nspins)
            for i, a in enumerate(system.atoms_of(Z).tolist()):
                D_asii[a] = D_saii[:, i]
        density = PAWDensity(atoms, grid, spins(added_sR, nspins), D_asii, tiny_model.level).normalized()
        write_snapshot(folder / f'{seed}.h5', Snapshot(density, 0.0, np.zeros((len(atoms), 3)), np.zeros(3), 1, 1.0))
    return Dataset(folder)


def magnetisation(density: PAWDensity) -> np.ndarray:
    return density.nt_sR[0] - density.nt_sR[1]


def test_a_magnetisation_is_learned(polarised, tmp_path):
    config = TrainingConfig(
        network='universal', steps=60, **SETTINGS | {'hypers': UNIVERSAL | {'magnetic': True}, 'smoothing': 2e-4}
    )
    trainer = Trainer(polarised, tmp_path / 'm.safetensors', config, progress=False)
    assert {outline.nspins for outline in map(polarised.outline, range(5))} == {1, 2}
    data = TrainingData(polarised, trainer.network, trainer.atom_types, Cache())

    def error(network: torch.nn.Module) -> float:
        """Of the magnetisation of a snapshot, relative to it."""
        with torch.no_grad():
            state = predicted(network, data[1], data.reference(1), data.target(1), trainer.evaluate, trainer.device)
        wanted_R = magnetisation(data.reference(1))
        return float(np.abs(magnetisation(state) - wanted_R).sum() / np.abs(wanted_R).sum())

    start = error(trainer.network)
    model = trainer.run()
    assert error(model.network) < min(0.5, 0.5 * start)
    rows = curve(tmp_path / 'm.csv')
    is_magnetic = trainer.validation.reference(0).nspins == 2
    assert all((row[-1] > 0) == is_magnetic for row in rows)
    assert ('NMAE of m, %' in model.card['validation']) == is_magnetic
    assert trainer.score(model.network, data).magnetisation_nmae < 50


def test_flipped_moments_are_a_flipped_magnetisation(polarised, tiny_model):
    """What a batch holds is linear in them: total and loss are the same."""
    network = known_network(tiny_model, magnetic=True)
    data = TrainingData(polarised, network, tiny_model.atom_types, Cache())
    spread_zs = mean_spreads((sample.D_zsaii for sample in data), network.mean_zii, SPECIES)
    assert (spread_zs[1] < 1).all()
    objective = Objective(network, DensityEvaluator(BASIS), spread_zs, TrainingConfig())
    batch = Batches(data, TrainingConfig(batch=5), network.cutoff)[0]
    assert batch.target_sp.shape[0] == 2
    with torch.no_grad():
        losses = objective(batch)
        batch.system.magmom_a.neg_()
        wrong = objective(batch)
        batch.target_sp[1].neg_()
        for D_saii in batch.D_zsaii.values():
            D_saii[1].neg_()
        flipped = objective(batch)
    torch.testing.assert_close(flipped.total, losses.total, rtol=1e-4, atol=1e-5)
    assert wrong.total > 1.1 * losses.total


def test_weight_of_the_magnetisation(polarised, tiny_model):
    """Both losses are linear in it, and that of spin-paired snapshots does not depend on it."""
    network = known_network(tiny_model, magnetic=True)
    data = TrainingData(polarised, network, tiny_model.atom_types, Cache())
    spread_zs = mean_spreads((sample.D_zsaii for sample in data), network.mean_zii, SPECIES)

    def losses(t: int, weight: float, matrix_weight: float = 5.0) -> float:
        config = TrainingConfig(magnetisation_weight=weight, matrix_weight=matrix_weight)
        batch = cosets([data[t]], [data.target(t)], network.cutoff, 2)
        if t:  # far from what the network says
            D_zsaii = {Z: torch.stack([D_saii[0], D_saii[1] + 0.05]) for Z, D_saii in batch.D_zsaii.items()}
            batch = replace(batch, target_sp=batch.target_sp + torch.tensor([[0.0], [0.05]]), D_zsaii=D_zsaii)
        with torch.no_grad():
            return float(Objective(network, DensityEvaluator(BASIS), spread_zs, config)(batch).total)

    for matrix_weight in 0.0, 5.0:
        none, one, three = (losses(1, weight, matrix_weight) for weight in (0.0, 1.0, 3.0))
        assert one > 1.01 * none and three - none == pytest.approx(3 * (one - none), rel=1e-3)
    assert losses(1, 1.0) - losses(1, 0.0) > 1.1 * (losses(1, 1.0, 0.0) - losses(1, 0.0, 0.0)), 'matrices count too'
    assert losses(0, 0.0) == losses(0, 3.0)


def test_moments_are_scattered(polarised, tiny_model):
    """By one factor for a snapshot, another one each time, the same one for the same seed; data stay as they are."""
    network = known_network(tiny_model, magnetic=True)
    data = TrainingData(polarised, network, tiny_model.atom_types, Cache())
    before = [sample.system.magmom_a.clone() for sample in data]
    batches = Batches(data, TrainingConfig(batch=5), network.cutoff)
    factors = []
    for step in range(20):
        system, names = batches[step].system, batches[step].names
        for t, name in enumerate(names):
            moment_a = system.magmom_a[system.slices[t]]
            given_a = before[[file.name for file in polarised.files].index(name)]
            if given_a.any():
                factor_a = moment_a[given_a != 0] / given_a[given_a != 0]
                torch.testing.assert_close(factor_a, factor_a[:1].expand_as(factor_a))
                factors.append(float(factor_a[0]))
            else:
                assert not moment_a.any()
    assert len(set(factors)) == len(factors) == 80
    assert 0.5 <= min(factors) < 0.55 and 1.45 < max(factors) <= 1.5
    assert torch.equal(
        batches[3].system.magmom_a, Batches(data, TrainingConfig(batch=5), network.cutoff)[3].system.magmom_a
    )
    assert not torch.equal(
        batches[3].system.magmom_a, Batches(data, TrainingConfig(batch=5, seed=1), network.cutoff)[3].system.magmom_a
    )
    assert all(torch.equal(sample.system.magmom_a, moment_a) for sample, moment_a in zip(data, before, strict=True))


def test_moments_of_all_sizes_of_the_training_are_familiar(tiny_model):
    """How large they are is a guess: another guess is no other environment."""
    network, atoms = known_network(tiny_model, magnetic=True), water_box((1, 1, 1))
    assert with_moments_met(paired := system_of(atoms, network, tiny_model.level), 0.3) == [paired]
    atoms.set_initial_magnetic_moments([2.0, -1.0, 0.0])
    met = with_moments_met(system_of(atoms, network, tiny_model.level), 0.3)
    assert met[0].magmom_a.tolist() == pytest.approx([1.4, -0.7, 0])
    assert met[-1].magmom_a.tolist() == pytest.approx([2.6, -1.3, 0])


def test_a_magnetisation_without_moments_is_refused(polarised, tiny_model):
    network, snapshot = known_network(tiny_model, magnetic=True), polarised[1]
    atoms = snapshot.atoms.copy()
    atoms.set_initial_magnetic_moments(None)
    density = snapshot.density
    D_asii = [np.stack([D_sii[0] + 0.01, D_sii[1]]) for D_sii in density.D_asii]
    without = PAWDensity(atoms, density.grid, density.nt_sR, D_asii, density.level)
    with pytest.raises(
        ValueError, match='1.h5: there is a magnetisation, but its atoms have no initial magnetic moments'
    ):
        sample_of(without, '1.h5', network, tiny_model.atom_types)
    paired = without.with_spins(1).with_spins(2)
    assert sample_of(paired, '1.h5', network, tiny_model.atom_types).system.magmom_a.sum() == 0


def test_moments_that_vanish_are_trained_on(polarised, tiny_model, tmp_path):
    """Nothing of their magnetisation can be normalised by its own size."""
    for t in range(1, 5):
        snapshot = polarised[t]
        density = snapshot.density.with_spins(1).with_spins(2)
        write_snapshot(tmp_path / f'{t}.h5', Snapshot(density, 0.0, np.zeros((12, 3)), np.zeros(3), 1, 1.0))
    config = TrainingConfig(network='universal', steps=20, **SETTINGS | {'hypers': UNIVERSAL | {'magnetic': True}})
    trainer = Trainer(Dataset(tmp_path), tmp_path / 'm.safetensors', config, progress=False)
    model = trainer.run()
    rows = np.array(curve(tmp_path / 'm.csv'))
    assert np.isfinite(rows).all() and (rows[:, -1] == 0).all()
    density = Predictor(model, extrapolate=True).predict(polarised[1].atoms)
    assert density.nspins == 2 and np.abs(magnetisation(density)).sum() < 0.05 * density.nt_sR.sum()


def test_the_members_of_an_ensemble_learn_and_differ(dataset, tmp_path):
    config = TrainingConfig(network='universal', steps=30, **SETTINGS | {'hypers': UNIVERSAL | {'members': 3}})
    trainer = Trainer(dataset, tmp_path / 'm.safetensors', config, progress=False)
    start = trainer.score(trainer.network, trainer.validation)
    model = trainer.run()
    assert model.card['validation']['NMAE of ñ, %'] < 0.5 * start.nmae
    assert model.card['validation']['ε_D'] < 0.5 * start.matrix_error
    with torch.no_grad():
        D_eaii = model.network(trainer.training[0].system).D_zesaii[8][:, 0]
    assert len(D_eaii) == 3 and float(D_eaii.std(0).max()) > 1e-6
