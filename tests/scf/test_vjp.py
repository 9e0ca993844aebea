"""The vector–Jacobian product of a prediction against differences of predictions."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from ase_deepdensity.predict import Predictor
from ase_deepdensity.spin import spins
from tests.tiny import water_box

pytestmark = pytest.mark.filterwarnings('ignore::ase_deepdensity.checks.UnfamiliarWarning')


@pytest.mark.parametrize(
    ('model', 'pbc'),
    [
        ('tiny_model', (True, True, True)),
        ('tiny_model', (True, True, False)),
        ('tiny_metal', (True, True, True)),
        ('magnetic_model', (True, True, True)),
    ],
)
def test_against_differences(model, pbc, request):
    predictor = Predictor(request.getfixturevalue(model), dtype=torch.float64, extrapolate=True)
    atoms = water_box((2, 1, 1), seed=5)
    atoms.pbc = pbc
    if predictor.network.sees_magnetic_moments:
        atoms.set_initial_magnetic_moments([1.0, 0.3, 0.0, -1.0, 0.0, 0.2])
    grid = predictor.grid(atoms)
    rng = np.random.default_rng(1)
    angle_R = 2 * np.pi * grid.points() @ np.linalg.inv(grid.cell_cv).T.sum(0)
    nspins = predictor.coefficients(atoms).nspins
    v_sR = np.array([np.cos(angle_R), np.sin(angle_R)])[:nspins]
    W_asii = [rng.normal(size=D_sii.shape) for D_sii in predictor.coefficients(atoms).D_asii()]

    def product(moved):
        known = predictor.coefficients(moved)
        matrices = sum((W_sii * D_sii).sum() for W_sii, D_sii in zip(W_asii, known.D_asii(), strict=True))
        return (spins(predictor.evaluate_components(known, grid), nspins) * v_sR).sum() * grid.dv + matrices

    gradient_av = predictor.vjp(atoms, grid, v_sR, W_asii)
    for a, v in [(0, 0), (1, 2), (5, 1)]:
        products = []
        for step in (0.005, -0.005):
            moved = atoms.copy()
            moved.positions[a, v] += step
            products.append(product(moved))
        assert gradient_av[a, v] == pytest.approx((products[0] - products[1]) / 0.01, rel=2e-3, abs=2e-3), (a, v)


def test_blocks_add_up(tiny_model):
    predictor = Predictor(tiny_model, dtype=torch.float64)
    atoms = water_box((2, 1, 1), seed=5)
    grid = predictor.grid(atoms)
    v_R = np.random.default_rng(2).normal(size=grid.shape)
    W_asii = [np.zeros_like(D_sii) for D_sii in predictor.coefficients(atoms).D_asii()]
    whole_av = predictor.vjp(atoms, grid, v_R, W_asii)
    parts_av = sum(
        predictor.vjp(atoms, slab, v_R[slab.start_c[0] : slab.stop_c[0]], W_asii) for slab in grid.slabs(20000)
    )
    np.testing.assert_allclose(parts_av, whole_av, atol=1e-8 * abs(whole_av).max())
