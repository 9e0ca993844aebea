"""The correction along a trajectory, and how few iterations a good one leaves."""

from __future__ import annotations

import pytest

from ase_deepdensity import SeededGPAW
from ase_deepdensity.scf.history import History
from ase_deepdensity.scf.loop import SeededLoop
from ase_deepdensity.scf.protocol import Protocol
from tests.scf.conftest import DZP
from tests.tolerances import SAME_ENERGY

UNBOUND = Protocol(refused=float('inf'), refused_atomic=float('inf'))

pytestmark = pytest.mark.filterwarnings('ignore::ase_deepdensity.checks.UnfamiliarWarning')


def residuals(model, atoms, depth: int, shifts: list[float]) -> list[float]:
    """Of each start while an atom goes along a line, Å."""
    atoms = atoms.copy()
    atoms.calc = SeededGPAW(model, txt=None, **DZP | {'convergence': {'density': 1e-6}})
    atoms.calc._starter.history = History(depth)
    found = []
    for shift in shifts:
        atoms.get_potential_energy()
        found.append(atoms.calc.seed_report.residual)
        atoms.positions[1] += shift
    return found


def test_a_smooth_trajectory_is_extrapolated(tiny_model, small_water):
    """To first order in the step, so that what is left is of the second."""
    steps = [0.02] * 4
    last, several = (residuals(tiny_model, small_water, depth, steps) for depth in (1, 3))
    assert several[:2] == pytest.approx(last[:2], rel=1e-6), 'one step behind, there is nothing to extrapolate'
    assert several[3] < 0.3 * last[3], (last, several)


def test_a_jump_is_not(tiny_model, small_water):
    steps = [0.01, 0.01, -0.15, 0.0]
    last, several = (residuals(tiny_model, small_water, depth, steps) for depth in (1, 3))
    assert several[3] < 1.5 * last[3], (last, several)


def test_a_known_density_takes_one_iteration(oracle, small_water, converged):
    """Its energy is known, by what is left of the residual; GPAW's own criterion wants three."""
    found = {}
    for share in 0.1, 0.0:
        calc = SeededGPAW(oracle, txt=None, protocol=Protocol(energy_share=share), **DZP)
        energy = calc.get_potential_energy(small_water)
        found[share] = calc.get_number_of_iterations()
        assert energy == pytest.approx(converged.get_potential_energy(), abs=SAME_ENERGY)
        assert calc.dft.scf_loop.convergence['energy'].tol == 0.0005, "GPAW's own criterion is there for what follows"
    assert found == {0.1: 1, 0.0: 3}
    strict = DZP | {'convergence': {'energy': 1e-12}}
    calc = SeededGPAW(oracle, txt=None, **strict)
    calc.get_potential_energy(small_water)
    assert calc.get_number_of_iterations() > 1, 'the estimate is above what is asked for'


def test_a_density_that_was_kept_is_let_go_again(tiny_model, small_water, converged, monkeypatch):
    """It had converged with orbitals that had not: as these change, so may the density that they give."""
    is_converged, calls = SeededLoop._density_is_converged, list[bool]()

    def too_early(loop, context):
        calls.append(True)
        return len(calls) == 1 or is_converged(loop, context)

    monkeypatch.setattr(SeededLoop, '_density_is_converged', too_early)
    calc = SeededGPAW(tiny_model, txt=None, protocol=UNBOUND, **DZP | {'maxiter': 40})
    energy = calc.get_potential_energy(small_water)
    assert calc.seed_report.accepted and 1 < calc.get_number_of_iterations() < 20
    assert energy == pytest.approx(converged.get_potential_energy(), abs=SAME_ENERGY)
