import numpy as np
import pytest
import torch

from ase_deepdensity.basis import SplineBasis
from ase_deepdensity.basis.coupling import coupling_tensors, couplings
from ase_deepdensity.network.heads import AtomicMatrixHead, CoefficientHead
from ase_deepdensity.testing import DensityNetworkContract


@pytest.mark.parametrize('l_j', [*DensityNetworkContract.l_zj, (0, 1, 2, 3)])
def test_blocks_are_an_orthonormal_basis_of_the_symmetric_matrices(l_j):
    T_xii = torch.cat(coupling_tensors(l_j))
    ni = T_xii.shape[1]
    assert len(T_xii) == ni * (ni + 1) // 2
    gram_xx = torch.einsum('xij, yij -> xy', T_xii, T_xii)
    np.testing.assert_allclose(gram_xx, np.eye(len(T_xii)), atol=1e-12)
    np.testing.assert_allclose(T_xii, T_xii.transpose(1, 2), atol=1e-14)


def test_pseudo_blocks():
    assert {(b.l1, b.l2, b.L) for b in couplings((0, 1, 0, 1, 2)) if b.pseudo} == {(1, 1, 1), (1, 2, 2)}


def test_scale_and_components_of_matrices():
    head = AtomicMatrixHead((0, 0, 1), 4, 8, 2)
    rng = np.random.default_rng(0)
    D_aii = torch.from_numpy(rng.normal(size=(400, 5, 5))).float()
    D_aii = D_aii + D_aii.transpose(1, 2) + torch.diag(torch.tensor([3.0, 1.0, 2.0, 2.0, 2.0]))
    head.fit_scale(D_aii)
    np.testing.assert_allclose(head.mean_ii.diagonal(), [3, 1, 2, 2, 2], atol=0.3)
    p_block = head.mean_ii[2:, 2:]
    np.testing.assert_allclose(p_block, p_block[0, 0] * torch.eye(3), atol=1e-6)  # the mean is invariant
    for name, x_abm in head.components(D_aii - head.mean_ii).items():
        np.testing.assert_allclose(x_abm.square().mean((0, 2)).sqrt(), getattr(head, f'scale{name}_b'), rtol=1e-4)


def test_orthonormal_coefficients_keep_the_norm():
    """Σ y² is ∫ρ² of one atom: c of the basis with their overlaps gives the same."""
    basis = SplineBasis(2.0, 4, 2)
    overlaps = [torch.from_numpy(basis.overlap_nn(l)) for l in range(3)]
    head = CoefficientHead(basis, 4, 1)
    y_lakm = [torch.randn(2, size, 2 * l + 1) for l, size in enumerate(head.sizes)]
    for S_nn, y_akm, c_anm in zip(overlaps, y_lakm, head.expand(y_lakm), strict=True):
        norm_a = torch.einsum('anm, nk, akm -> a', c_anm, S_nn.float(), c_anm)
        np.testing.assert_allclose(norm_a, y_akm.square().sum((1, 2)), rtol=1e-4)
