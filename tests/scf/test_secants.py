"""What cycles tell the next one of how residuals answer to changes of the density."""

from __future__ import annotations

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk
from gpaw.new.ase_interface import GPAW

from ase_deepdensity import SeededGPAW
from ase_deepdensity.scf import loop, secants, start
from ase_deepdensity.scf.default_start import State
from ase_deepdensity.scf.protocol import Protocol
from ase_deepdensity.scf.secants import Secant, add_next_step, teach
from tests.scf.conftest import DZP
from tests.tolerances import SAME_ENERGY

pytestmark = pytest.mark.filterwarnings(
    'ignore::ase_deepdensity.checks.UnfamiliarWarning', 'ignore::ase_deepdensity.scf.compatible.LevelWarning'
)

ANYTHING = Protocol(refused=np.inf, refused_atomic=np.inf)


@pytest.fixture(scope='module', params=[False, True], ids=['one spin', 'two spins'])
def dft(request):
    """Set up, with Pulay's mixer."""
    calc = GPAW(
        mode='lcao', basis='szp(dzp)', h=0.3, xc='LDA', txt=None, spinpol=request.param, mixer={'name': 'pulay'}
    )
    calc.create_new_calculation(Atoms('LiH', [[0.1, 0.2, 0.3], [1.6, 0.4, 0.2]], cell=[3.1, 3.3, 3.5], pbc=True))
    return calc.dft


def change(density, rng) -> State:
    """A random one, small and symmetric."""
    state = State.of(density)
    state.nt_sR = 1e-3 * rng.normal(size=state.nt_sR.shape)
    for D_sii in state.D_asii.values():
        D_sii[:] = 1e-3 * rng.normal(size=D_sii.shape)
        D_sii += D_sii.transpose(0, 2, 1)
    return state


def summed(*terms: tuple[float, State]) -> State:
    """Σ factor · state."""
    total = terms[0][1].minus(terms[0][1])
    for factor, state in terms:
        total.add(state, factor)
    return total


@pytest.mark.parametrize(('error', 'left'), [(0.0, 1.5e-3), (0.1, 0.1)])
def test_a_taught_mixer_goes_where_the_secants_point(error, left, dft, monkeypatch):
    """Residuals are linear here: what the secants span is solved by the first step, as far as they are trusted; only
    the mixer's share of the rest is."""
    monkeypatch.setattr(secants, 'ERROR', error)
    density, mixer = dft.density, dft.scf_loop.mixer
    solution, rng = State.of(density), np.random.default_rng(0)
    one, two, unknown = (change(density, rng) for _ in range(3))
    answers = {0: -0.3, 1: -1.7, 2: -0.6}
    begin = summed((1, solution), (1, one), (1, two), (1e-3, unknown))
    residual = summed((answers[0], one), (answers[1], two), (1e-3 * answers[2], unknown))
    known = [
        Secant(summed((0.5, one)), summed((0.5 * answers[0], one))),
        Secant(summed((0.2, two), (0.1, one)), summed((0.2 * answers[1], two), (0.1 * answers[0], one))),
    ]
    begin.put(density)
    mixer.reset()
    teach(mixer, density, residual, known)
    assert np.array_equal(density.nt_sR.data, begin.nt_sR)
    summed((1, begin), (1, residual)).put(density)
    mixer.mix(density)
    mixed = State.of(density)
    solution.put(density)
    stepped = summed((1, begin))
    add_next_step(stepped, residual, known, mixer.beta, density)
    for after in mixed, stepped:
        assert abs(after.minus(solution).nt_sR).max() < left * abs(one.nt_sR).max()
        assert abs(after.minus(solution).D_asii.data).max() < left * abs(one.D_asii.data).max()


def test_the_share_that_would_have_been_best(dft):
    density, rng = dft.density, np.random.default_rng(1)
    residual = change(density, rng)
    for best, expected in (0.7, 0.7), (0.1, 0.4), (3.0, 1.0):
        assert Secant(summed((0.5, residual)), summed((-0.5 / best, residual))).share(density, dft.comm) == (
            pytest.approx(expected)
        )
    nothing = summed((0.0, residual))
    assert Secant(nothing, nothing).share(density, dft.comm) is None


@pytest.mark.parametrize('carry', [True, False])
def test_the_next_step_is_told(carry, tiny_model, small_water):
    atoms = small_water.copy()
    atoms.calc = calc = SeededGPAW(tiny_model, txt=None, carry=carry, protocol=ANYTHING, **DZP)
    atoms.get_potential_energy()
    before = calc._starter.start
    assert before.known == [] and before.secants
    atoms.positions[1] += 0.01
    atoms.get_potential_energy()
    after = calc._starter.start
    assert [id(secant) for secant in after.known] == [id(secant) for secant in before.secants if carry]
    atoms.set_cell(1.02 * atoms.cell, scale_atoms=True)
    atoms.get_potential_energy()
    assert calc._starter.start.known == []


def test_a_long_cycle_keeps_no_more_than_the_newest(tiny_model, small_water, monkeypatch):
    monkeypatch.setattr(loop, 'DEPTH', 2)
    atoms = small_water.copy()
    atoms.calc = calc = SeededGPAW(tiny_model, txt=None, protocol=ANYTHING, **DZP)
    atoms.get_potential_energy()
    assert calc.get_number_of_iterations() > 4
    assert len(calc._starter.start.secants) == 2


def test_metals_need_fewer_iterations(monkeypatch):
    """Aluminium, one atom of which moves: with the energies of cycles that are told nothing."""
    level = {
        'mode': {'name': 'pw', 'ecut': 200},
        'xc': 'PBE',
        'kpts': (2, 2, 2),
        'symmetry': 'off',
        'convergence': {'density': 1e-6},
    }

    def walk() -> tuple[list[float], int]:
        atoms = bulk('Al', cubic=True)
        atoms.positions[0] += [0.05, 0.02, 0.0]
        atoms.calc = SeededGPAW('aluminium-pbe-pw400', txt=None, **level)
        energies, niter = [], 0
        for _ in range(3):
            energies.append(atoms.get_potential_energy())
            niter += atoms.calc.get_number_of_iterations()
            atoms.positions[0] += [0.05, 0.02, 0.0]
        return energies, niter

    told = walk()
    monkeypatch.setattr(start, 'SECANTS', 0)
    untold = walk()
    assert told[0] == pytest.approx(untold[0], abs=SAME_ENERGY)
    assert told[1] < untold[1]
