"""Spin-polarised GPAW from predictions and states."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from ase import Atoms, units
from gpaw.new.ase_interface import GPAW

from ase_deepdensity import OnePassGPAW, SeededGPAW
from ase_deepdensity.level import LevelError
from ase_deepdensity.scf.protocol import Protocol
from ase_deepdensity.scf.seed import ChosenSeed, ModelSeed, of_spins
from ase_deepdensity.state import PAWDensity
from tests.scf.conftest import DZP, NO_BOUNDS
from tests.tolerances import SAME_ENERGY

pytestmark = [
    pytest.mark.filterwarnings('ignore::ase_deepdensity.checks.UnfamiliarWarning'),
    pytest.mark.filterwarnings('ignore::ase_deepdensity.checks.DoubtfulPassWarning'),
]

MOMENTS = [0.8, 0.2]


def radical(moments: list[float] | None = MOMENTS) -> Atoms:
    """OH in a small cell."""
    atoms = Atoms('OH', [(2.0, 2.1, 2.2), (2.9, 2.3, 2.2)], cell=[3.0, 3.2, 3.0], pbc=True)
    atoms.set_initial_magnetic_moments(moments)
    return atoms


@pytest.fixture(scope='module')
def reference():
    """Its calculation from GPAW's own start."""
    atoms = radical()
    atoms.calc = GPAW(txt=None, **DZP)
    atoms.get_potential_energy()
    return atoms.calc


@pytest.fixture(scope='module')
def state(reference) -> PAWDensity:
    return PAWDensity.from_gpaw(reference)


def seeded(start, atoms: Atoms, tmp_path=None, **parameters):
    """The calculator, and its log."""
    log = None if tmp_path is None else tmp_path / 'log.txt'
    atoms.calc = calc = SeededGPAW(start, txt=log, **parameters)
    atoms.get_potential_energy()
    return calc, '' if log is None else log.read_text()


def as_seed(model) -> ModelSeed:
    """What an untrained model says of atoms that are strange to it."""
    seed = ModelSeed(model)
    seed.predictor.extrapolate = True
    return seed


def assert_same_end(calc, reference):
    assert calc.get_potential_energy() == pytest.approx(reference.get_potential_energy(), abs=SAME_ENERGY)
    assert calc.get_magnetic_moment() == pytest.approx(reference.get_magnetic_moment(), abs=2e-3)


@pytest.mark.parametrize('given', ['atoms', 'magmoms'])
def test_converged_state_is_recognised(given, reference, state):
    atoms = radical(MOMENTS if given == 'atoms' else None)
    calc, _ = seeded(state, atoms, **DZP | ({'magmoms': MOMENTS} if given == 'magmoms' else {}))
    assert_same_end(calc, reference)
    assert reference.get_magnetic_moment() == pytest.approx(1, abs=0.01)
    assert calc.seed_report.accepted and calc.seed_report.residual < 1e-4
    assert calc.get_number_of_iterations() < reference.get_number_of_iterations() - 2


def test_two_spins_have_a_share_of_the_residual_of_their_own(state, tmp_path):
    protocol = Protocol(beta_gap=0.7, beta_metal=0.2, beta_spin=0.4)
    assert 'mixer: PulayMixer, β = 0.4\n' in seeded(state, radical(), tmp_path, protocol=protocol, **DZP)[1]


def test_a_total_gets_the_magnetisation_of_gpaw(reference, state, tmp_path):
    calc, log = seeded(state.with_spins(1), radical(), tmp_path, **DZP)
    assert 'given state, with the magnetisation of GPAW' in log
    assert_same_end(calc, reference)


def test_both_spins_together_start_a_spin_paired_calculation(state, tmp_path):
    calc, log = seeded(state, radical(None), tmp_path, **DZP)
    assert calc.dft.density.ncomponents == 1 and 'magnetisation' not in log
    assert calc.get_potential_energy() == pytest.approx(seeded(state, radical(None), **DZP)[0].get_potential_energy())


@pytest.mark.parametrize('kind', ['opposite', 'none'])
def test_another_order_is_refused(kind, reference, state):
    """It could end in another order than the one that was asked for."""
    if kind == 'opposite':
        other = state.new(nt_sR=state.nt_sR[::-1], D_asii=[D_sii[::-1] for D_sii in state.D_asii])
    else:
        other = state.with_spins(1).with_spins(2)
    calc, _ = seeded(other, radical(), **DZP)
    assert not calc.seed_report.accepted and 'atom 0 has a' in calc.seed_report.reason
    assert calc.get_potential_energy() == pytest.approx(reference.get_potential_energy(), abs=1e-9)
    assert calc.get_number_of_iterations() == reference.get_number_of_iterations()


def test_a_model_is_told_the_moments(magnetic_model, reference):
    calc = SeededGPAW(as_seed(magnetic_model), txt=None, hund=True, **DZP)
    calc.create_new_calculation(radical(None))
    known = calc.seed.coefficients(calc._starter.told(radical(None)))
    assert known.atoms.get_initial_magnetic_moments().tolist() == [2.0, 1.0] and known.nspins == 2
    assert calc.dft.density.ncomponents == 2
    calc, _ = seeded(as_seed(magnetic_model), radical())
    assert calc.seed.coefficients(radical()).atoms.get_initial_magnetic_moments().tolist() == MOMENTS
    assert_same_end(calc, reference)


def test_moved_atoms(tiny_model, magnetic_model, tmp_path):
    moved = radical()
    moved.positions[1, 0] += 0.03
    moved.calc = GPAW(txt=None, **DZP)
    moved.get_potential_energy()
    for model, words in [(magnetic_model, 'correction, level'), (tiny_model, 'magnetisation of GPAW')]:
        atoms, folder = radical(), tmp_path / words[:3]
        folder.mkdir()  # a calculation that is thrown away still ends its log
        calc, _ = seeded(as_seed(model), atoms, folder, protocol=UNBOUND)
        atoms.positions[1, 0] += 0.03
        atoms.get_potential_energy()
        assert_same_end(calc, moved.calc)
        assert words in (folder / 'log.txt').read_text().split('Seed:')[2]


def test_moments_in_all_directions_are_refused(state):
    calc = SeededGPAW(state, txt=None, **DZP | {'xc': 'LDA'}, magmoms=[[0, 0, 1.0], [1.0, 0, 0]], symmetry='off')
    with pytest.raises(LevelError, match='non-collinear'):
        calc.create_new_calculation(radical())


def test_a_chosen_model_may_know_the_total_only():
    seed, atoms = ChosenSeed(None), radical()
    atoms.symbols[0] = 'S'
    seed.check(atoms)
    assert not seed.sees_magnetic_moments and {1, 16} <= set(seed.model.species)
    assert seed.coefficients(atoms).nspins == 1


TIGHT = {'convergence': {'eigenstates': 1e-11}}
UNBOUND = Protocol(bounds=NO_BOUNDS)
"""Lets an untrained model be tried, whose magnetisation is as good as none."""


def test_one_pass_goes_on_to_self_consistency(tiny_model, reference):
    atoms = radical()
    atoms.calc = OnePassGPAW(tiny_model, txt=None, until={})
    atoms.get_potential_energy()
    assert atoms.calc.report.went_on
    assert_same_end(atoms.calc, reference)


@pytest.fixture(scope='module')
def atoms_model(magnetic_model):
    """Untrained, with the density matrices of free atoms and a small magnetisation.

    Where a spin has less than no electrons, GPAW's functionals are cut off, and nothing is a derivative.
    """
    buffers = dict(magnetic_model.network.named_buffers())
    kept = {name: buffer.clone() for name, buffer in buffers.items()}
    for Z, atom_type in magnetic_model.atom_types.items():
        occupation_i = np.repeat(np.array(atom_type.f_j), 2 * np.array(atom_type.l_j) + 1)
        size_i = np.repeat(2 * np.array(atom_type.l_j) + 1, 2 * np.array(atom_type.l_j) + 1)
        buffers[f'heads.0.elements.{Z}.mean_ii'].copy_(torch.from_numpy(np.diag(occupation_i / size_i)))
        for name, buffer in buffers.items():
            if name.startswith(f'heads.1.elements.{Z}.scale'):
                buffer.fill_(3.0)
    yield magnetic_model
    for name, buffer in buffers.items():
        buffer.copy_(kept[name])


def test_forces_of_one_pass_are_the_derivative_of_its_energy(atoms_model):
    calc = OnePassGPAW(as_seed(atoms_model), txt=None, until={}, protocol=UNBOUND, **DZP | TIGHT)
    energies, h = [], 0.01
    for step in (h, -h, 0.0):
        atoms = radical()
        atoms.positions[1, 0] += step
        atoms.calc = calc
        energies.append(atoms.get_potential_energy(force_consistent=True))
        assert not calc.report.went_on and abs(atoms.get_magnetic_moment()) > 0.03
    force, slope = atoms.get_forces()[1, 0], (energies[1] - energies[0]) / (2 * h)
    own = calc.dft._calculate_forces()[1, 0] * units.Ha / units.Bohr
    assert abs(own - slope) > 1, 'or nothing is tested'
    assert force == pytest.approx(slope, abs=0.02)


def test_components_for_spins():
    paired_s, polarised_s = np.array([[3.0]]), np.array([[2.0], [1.5]])
    assert of_spins(polarised_s, paired_s).tolist() == [[3.5]]
    assert of_spins(paired_s, polarised_s).tolist() == [[1.75], [1.25]]
    assert of_spins(polarised_s, polarised_s) is polarised_s
