"""B-splines: torch against numpy, and what their definition says of them."""

import numpy as np
import pytest
import torch

from ase_deepdensity.basis import SplineBasis
from ase_deepdensity.basis.splines import splines

BASES = [SplineBasis(2.0, 2, 0), SplineBasis(3.4, 5, 4), SplineBasis(3.0, 23, 4)]


@pytest.mark.parametrize('basis', BASES, ids=str)
def test_torch_gives_what_numpy_gives(basis):
    r_p = np.linspace(0, 1.1 * basis.cutoff, 60)
    B_xyn = splines(basis, torch.from_numpy(r_p).view(6, 10))
    assert B_xyn.shape == (6, 10, basis.number)
    np.testing.assert_allclose(B_xyn.reshape(60, -1), basis.splines(r_p), rtol=0, atol=1e-14)


@pytest.mark.parametrize('basis', BASES, ids=str)
def test_derivatives(basis):
    r_p = torch.linspace(0.01, basis.cutoff, 23, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda r: splines(basis, r), r_p)


def test_partition_of_unity():
    """Away from the end all B-splines of a place add up to one, whose slope is zero."""
    basis = BASES[2]
    r_p = np.linspace(0, basis.cutoff - 3 * basis.spacing, 100)
    np.testing.assert_allclose(basis.splines(r_p).sum(1), 1, atol=1e-14)
