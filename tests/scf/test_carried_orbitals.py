"""Orbitals that go on along a trajectory."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
from gpaw.core import PWDesc
from scipy.stats import unitary_group

from ase_deepdensity import SeededGPAW
from ase_deepdensity.codes.gpaw import seams
from ase_deepdensity.scf.carried_orbitals import CarriedOrbitals
from ase_deepdensity.scf.protocol import Protocol
from tests.tolerances import SAME_ENERGY

PW = {'mode': {'name': 'pw', 'ecut': 250}, 'xc': 'LDA', 'convergence': {'density': 1e-6, 'eigenstates': 1e-9}}

pytestmark = pytest.mark.filterwarnings('ignore::ase_deepdensity.checks.UnfamiliarWarning')


def trajectory(model, atoms, depth: int) -> tuple[list[float], list[float], list[int]]:
    """Errors of the orbitals that cycles begin with, energies, iterations, while an atom goes along a line."""
    atoms = atoms.copy()
    calc = SeededGPAW(model, txt=None, protocol=Protocol(refused=np.inf, refused_atomic=np.inf), **PW)
    calc._starter.orbitals = CarriedOrbitals(depth)
    errors, energies, iterations = [], [], []
    for _ in range(4):
        contexts = calc.iconverge(atoms)
        errors.append(seams.orbital_error(next(contexts)))
        for context in contexts:
            iterations.append(context.niter)
        energies.append(calc.get_potential_energy(atoms))
        atoms.positions[1] += [0.0, 0.0, 0.02]
    return errors, energies, iterations


def test_a_smooth_trajectory_is_extrapolated(tiny_model, small_water):
    """What is left of the error, a square, is of higher order in the step."""
    plain, carried = (trajectory(tiny_model, small_water, depth) for depth in (0, 2))
    assert carried[0][:2] == pytest.approx(plain[0][:2], rel=1e-3), 'before the second step there is nothing to carry'
    assert carried[0][3] < 0.05 * plain[0][3]
    assert carried[1] == pytest.approx(plain[1], abs=SAME_ENERGY)
    assert len(carried[2]) < len(plain[2])


def test_a_rotation_among_orbitals_is_no_change():
    """The eigensolver mixes orbitals at will, with complex factors at a k-point."""
    rng = np.random.default_rng(0)
    psit_nG = PWDesc(ecut=5, cell=[4, 4, 4], kpt=(0.1, 0.2, 0.3), dtype=complex).zeros(5)
    psit_nG.data[:] = rng.normal(size=psit_nG.data.shape) + 1j * rng.normal(size=psit_nG.data.shape)
    wfs = SimpleNamespace(psit_nX=psit_nG, occ_n=np.array([1, 1, 1, 1, 0]), _P_ani={}, orthonormalized=True)
    ibzwfs = type('', (list,), {'band_comm': SimpleNamespace(size=1)})([wfs])
    orbitals = CarriedOrbitals(depth=2)
    orbitals.extrapolate(ibzwfs, SimpleNamespace(kept=[({}, psit_nG.data.copy())]), np.zeros(0))
    change_nG = 1e-4 * rng.normal(size=psit_nG.data[:4].shape)
    psit_nG.data[:4] = unitary_group.rvs(4, random_state=0) @ psit_nG.data[:4] + change_nG
    orbitals.remember(ibzwfs)
    ended_nG = psit_nG.data.copy()
    orbitals.extrapolate(ibzwfs, SimpleNamespace(kept=[({}, ended_nG)]), np.ones(1))
    added_nG = psit_nG.data[:4] - ended_nG[:4]
    assert np.linalg.norm(added_nG) < 1.01 * np.linalg.norm(change_nG), 'that unitary matrix was one to choose from'
    assert (psit_nG.data[4] == ended_nG[4]).all(), 'nobody converges what is empty'
    assert wfs._P_ani is None and not wfs.orthonormalized
