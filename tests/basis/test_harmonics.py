import numpy as np
import pytest
import torch
from e3nn import o3
from gpaw.sphere.spherical_harmonics import Y

from ase_deepdensity.basis.harmonics import solid_harmonics

POINTS = np.random.default_rng(0).normal(size=(20, 3))


def test_gpaws_order_and_sign():
    Y_pL = solid_harmonics(torch.from_numpy(POINTS), 4).numpy()
    for L in range(25):
        np.testing.assert_allclose(Y_pL[:, L], Y(L, *POINTS.T), rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize('lmax', [0, 1, 6])
def test_e3nns_with_turned_axes(lmax):
    points = torch.from_numpy(POINTS)
    expected = o3.spherical_harmonics(
        list(range(lmax + 1)), points[:, [1, 2, 0]], normalize=False, normalization='integral'
    )
    np.testing.assert_allclose(solid_harmonics(points, lmax), expected, rtol=1e-9, atol=1e-10)
