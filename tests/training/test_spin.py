"""Trainings on spin-polarised snapshots, and of ensembles, with a network that is two or more equivariant ones."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from ase_deepdensity.collocation.density import DensityEvaluator
from ase_deepdensity.collocation.superposition import superpose
from ase_deepdensity.dataset import Dataset, Snapshot, write_snapshot
from ase_deepdensity.network.contract import Coefficients, DensityNetwork
from ase_deepdensity.network.equivariant import EquivariantHypers, EquivariantNetwork
from ase_deepdensity.network.registry import NETWORKS
from ase_deepdensity.predict import Predictor
from ase_deepdensity.spin import spins
from ase_deepdensity.state import PAWDensity
from ase_deepdensity.system import system_of
from ase_deepdensity.training.batch import Batches
from ase_deepdensity.training.config import TrainingConfig
from ase_deepdensity.training.data import Cache, TrainingData
from ase_deepdensity.training.loop import Trainer
from ase_deepdensity.training.loss import mean_spreads
from ase_deepdensity.training.step import Objective
from ase_deepdensity.training.validation import predicted
from tests.tiny import BASIS, HYPERS, SPECIES, build_model, water_box
from tests.training.conftest import SETTINGS

MOMENT = 0.5


class MomentNetwork(DensityNetwork):
    """One equivariant network says the total, another one what the magnetisation of an atom is per magnetic moment."""

    expands = True
    sees_magnetic_moments = True

    def __init__(self, species, hypers, basis, l_zj, empty=False):
        super().__init__(species, hypers.cutoff)
        self.total, self.per_moment = (EquivariantNetwork(species, hypers, basis, l_zj, empty) for _ in range(2))

    @classmethod
    def telling_shapes(cls, *arguments):
        shapes = EquivariantNetwork.telling_shapes(*arguments)
        return {f'{part}.{name}': shape for part in ('total', 'per_moment') for name, shape in shapes.items()}

    @property
    def ninvariants(self):
        return self.total.ninvariants

    @property
    def mean_zii(self):
        return self.total.mean_zii

    def forward(self, system):
        total, per_moment = self.total(system), self.per_moment(system)
        if not system.is_spin_polarized:
            return total
        moment_a = system.magmom_a.to(total.invariants_ac)
        D_zesaii = {}
        for Z, D_esaii in total.D_zesaii.items():
            m_esaii = (per_moment.D_zesaii[Z] - self.per_moment.mean_zii[Z]) * moment_a[system.atoms_of(Z), None, None]
            D_zesaii[Z] = torch.cat([D_esaii, m_esaii], 1)
        c_lesanm = [
            torch.cat([c_esanm, m_esanm * moment_a[:, None, None]], 1)
            for c_esanm, m_esanm in zip(total.c_lesanm, per_moment.c_lesanm, strict=True)
        ]
        return Coefficients(D_zesaii, total.invariants_ac, c_lesanm)

    def fit_scale(self, systems, fit, D_tzsaii):
        self.total.fit_scale(systems, fit, D_tzsaii)
        polarised = [t for t, system in enumerate(systems) if system.is_spin_polarized]

        def magnetisations(expand, sizes):
            fits_tslakm = fit(expand, sizes)
            return [fits_tslakm[t][1:] for t in polarised]

        m_tzsaii = [{Z: D_saii[1:] for Z, D_saii in D_zsaii.items() if len(D_saii) == 2} for D_zsaii in D_tzsaii]
        self.per_moment.fit_scale([systems[t] for t in polarised], magnetisations, m_tzsaii)


@pytest.fixture(autouse=True)
def registered(monkeypatch):
    monkeypatch.setitem(NETWORKS, 'moments', (MomentNetwork, EquivariantHypers))


def known_network(tiny_model) -> MomentNetwork:
    """What the data are made with."""
    network = MomentNetwork(SPECIES, EquivariantHypers(**HYPERS), BASIS, tiny_model.architecture.projectors)
    network.total.load_state_dict(tiny_model.network.state_dict())
    network.per_moment.load_state_dict(build_model(tiny_model.level, seed=1).network.state_dict())
    return network


@pytest.fixture(scope='module')
def polarised(tiny_model, tmp_path_factory) -> Dataset:
    """Boxes of four molecules whose oxygen atoms have moments up or down, and one without any."""
    folder, network = tmp_path_factory.mktemp('polarised'), known_network(tiny_model)
    for seed in range(5):
        atoms = water_box((1, 2, 2), seed=seed)
        grid = Predictor(tiny_model).grid(atoms, h=0.35)
        if seed:
            up_a = np.random.default_rng(seed).choice([-MOMENT, MOMENT], len(atoms))
            atoms.set_initial_magnetic_moments(np.where(atoms.numbers == 8, up_a, 0.0))
        system = system_of(atoms, network, tiny_model.level).to(dtype=torch.float32)
        with torch.no_grad():
            output = network(system)
            added_sR = DensityEvaluator(BASIS)(output, grid, atoms.positions)[0].double().numpy()
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
    config = TrainingConfig(network='moments', steps=40, **SETTINGS | {'smoothing': 2e-4})
    trainer = Trainer(polarised, tmp_path / 'm.safetensors', config, progress=False)
    assert {outline.nspins for outline in map(polarised.outline, range(5))} == {1, 2}
    data = TrainingData(polarised, trainer.network, trainer.tables, Cache())

    def error(network: torch.nn.Module) -> float:
        """Of the magnetisation of a snapshot, relative to it."""
        with torch.no_grad():
            m_R = magnetisation(predicted(network, data, 1, trainer.evaluate, trainer.device))
        wanted_R = magnetisation(data.reference(1))
        return float(np.abs(m_R - wanted_R).sum() / np.abs(wanted_R).sum())

    start = error(trainer.network)
    model = trainer.run()
    assert error(model.network) < min(0.5, 0.5 * start)


def test_flipped_moments_are_a_flipped_magnetisation(polarised, tiny_model):
    """What a batch holds is linear in them: total and loss are the same."""
    network = known_network(tiny_model)
    data = TrainingData(polarised, network, tiny_model.superposition, Cache())
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


class Ensemble(torch.nn.Module):
    """Networks as members."""

    def __init__(self, *networks):
        super().__init__()
        self.networks = torch.nn.ModuleList(networks)
        self.species, self.mean_zii = networks[0].species, networks[0].mean_zii

    def forward(self, system):
        outputs = [network(system) for network in self.networks]
        return Coefficients(
            {Z: torch.cat([output.D_zesaii[Z] for output in outputs]) for Z in system.numbers},
            outputs[0].invariants_ac,
            [torch.cat(c_iesanm) for c_iesanm in zip(*[output.c_lesanm for output in outputs], strict=True)],
        )


def test_each_member_of_an_ensemble_learns_for_itself(dataset, tiny_model):
    """Gradients are those that it would have alone, but for the number of members."""
    members = [build_model(tiny_model.level, seed=seed).network for seed in (1, 2)]
    data = TrainingData(dataset, members[0], tiny_model.superposition, Cache())
    batch = Batches(data, TrainingConfig(batch=2), members[0].cutoff)[0]
    config, evaluate, spread_zs = TrainingConfig(matrix_weight=0.0), DensityEvaluator(BASIS), torch.ones(2, 2)

    def gradients(network: torch.nn.Module) -> list[torch.Tensor]:
        for member in members:
            member.zero_grad()
        Objective(network, evaluate, spread_zs, config)(batch).total.backward()
        return [member.coefficients.readout_lsck[0].grad for member in members]

    alone = [gradients(member)[i].clone() for i, member in enumerate(members)]
    for together, single in zip(gradients(Ensemble(*members)), alone, strict=True):
        torch.testing.assert_close(2 * together, single, rtol=1e-4, atol=1e-5)
