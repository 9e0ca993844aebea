"""Layers on features that are functions on the unit sphere, written as spherical-harmonic coefficients.

Features have the shape ``h_mac``: m runs over (l, m) with l ≤ lmax in GPAW's order, a over atoms, c over channels.
All layers commute with rotations and with inversion, where (l, m) has the parity (−1)ˡ, or, for *pseudo* features,
(−1)ˡ⁺¹.
"""

from __future__ import annotations

import numpy as np
import torch
from scipy.integrate import lebedev_rule

from ase_deepdensity.basis.harmonics import solid_harmonics

COLUMNS = 8192
"""Features (atoms times channels) whose values on the sphere are held at once."""


def l_of_m(lmax: int) -> torch.Tensor:
    """Angular momentum of each of the (lmax+1)² components."""
    return torch.repeat_interleave(torch.arange(lmax + 1), 2 * torch.arange(lmax + 1) + 1)


def mean_square_l(square_mx: torch.Tensor) -> torch.Tensor:
    """Means over the m of each l: ((lmax+1)², x) → (lmax+1, x)."""
    sizes = [2 * l + 1 for l in range(round(len(square_mx) ** 0.5))]
    return torch.stack([part_mx.mean(0) for part_mx in square_mx.split(sizes)])


def rms(x: torch.Tensor) -> torch.Tensor:
    """√⟨x²⟩; 1 of nothing or where all is zero."""
    size = x.square().sum().div(max(x.numel(), 1)).sqrt()
    return torch.where(size > 0, size, 1.0)


class SphericalLinear(torch.nn.Module):
    """h_mad = Σ_c h_mac W_lcd, one matrix for each l and each species of the atom; a bias for l=0 when asked for.

    Parameters
    ----------
    lmax, channels_in, channels_out
        Sizes.
    nspecies
        Number of species with weights of their own; 1: all share.
    """

    l_m: torch.Tensor

    def __init__(self, lmax: int, channels_in: int, channels_out: int, nspecies: int = 1, bias: bool = False):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.randn(nspecies, lmax + 1, channels_in, channels_out) / channels_in**0.5)
        self.bias = torch.nn.Parameter(torch.zeros(nspecies, channels_out)) if bias else None
        self.register_buffer('l_m', l_of_m(lmax), persistent=False)

    def forward(self, h_mac: torch.Tensor, slices: list[slice]) -> torch.Tensor:
        """(m, natoms, channels_in) → (m, natoms, channels_out); ``slices``: atoms of each species."""
        if len(self.weight) == 1:
            slices = [slice(None)]
        return torch.cat([self._one(h_mac[:, atoms], s) for s, atoms in enumerate(slices)], dim=1)

    def _one(self, h_mac: torch.Tensor, s: int) -> torch.Tensor:
        out_mad = torch.bmm(h_mac, self.weight[s][self.l_m])
        if self.bias is None:
            return out_mad
        return torch.cat([out_mad[:1] + self.bias[s], out_mad[1:]])


class SphereProducts(torch.nn.Module):
    """Products of features, point by point on the sphere, projected back onto l ≤ lmax.

    (ab)_LM = ∫ a(r̂) b(r̂) Y_LM(r̂) dr̂, (abc)_LM alike: Gaunt tensor products (doi:10.48550/arXiv.2401.10216) of two
    and three factors.  Lebedev's rule of degree 4·lmax integrates them exactly, so the symmetry is exact.
    The bracket {a, b} = r̂·(∇a × ∇b) gives the products of odd l₁+l₂+L, which are pseudo-tensors.
    """

    Y_gm: torch.Tensor
    back_mg: torch.Tensor
    gradient_tgm: torch.Tensor

    def __init__(self, lmax: int):
        super().__init__()
        points_vg, weight_g = lebedev_rule(_lebedev_degree(4 * lmax))
        points_gv = torch.from_numpy(points_vg.T.copy())
        Y_gm = solid_harmonics(points_gv, lmax)
        jacobian_gmv = _harmonics_gradient(points_gv, lmax)
        gradient_tgm = torch.einsum('gmv, tgv -> tgm', jacobian_gmv, _tangents(points_gv))
        dtype = torch.get_default_dtype()
        self.register_buffer('Y_gm', Y_gm.to(dtype), persistent=False)
        self.register_buffer('back_mg', (Y_gm.T * torch.from_numpy(weight_g)).to(dtype), persistent=False)
        self.register_buffer('gradient_tgm', gradient_tgm.contiguous().to(dtype), persistent=False)

    def forward(self, a_mac: torch.Tensor, b_mac: torch.Tensor, c_mac: torch.Tensor) -> torch.Tensor:
        """Products ab and abc, one behind the other: three times (m, natoms, c) → (m, natoms, 2c)."""
        columns = (x_mac.flatten(1).split(COLUMNS, dim=1) for x_mac in (a_mac, b_mac, c_mac))
        parts_xpm = [self._products(*factors_mx) for factors_mx in zip(*columns, strict=True)]
        return torch.cat([torch.cat(x_mx, dim=1).view_as(a_mac) for x_mx in zip(*parts_xpm, strict=True)], dim=2)

    def _products(self, a_mx: torch.Tensor, b_mx: torch.Tensor, c_mx: torch.Tensor) -> tuple[torch.Tensor, ...]:
        ab_gx = (self.Y_gm @ a_mx) * (self.Y_gm @ b_mx)
        return self.back_mg @ ab_gx, self.back_mg @ (ab_gx * (self.Y_gm @ c_mx))

    def bracket(self, a_mac: torch.Tensor, b_mac: torch.Tensor) -> torch.Tensor:
        """{a, b}: twice (m, natoms, c) → (m, natoms, c), of the other parity."""
        columns = (x_mac.flatten(1).split(COLUMNS, dim=1) for x_mac in (a_mac, b_mac))
        return torch.cat([self._bracket(a_mx, b_mx) for a_mx, b_mx in zip(*columns, strict=True)], dim=1).view_as(a_mac)

    def _bracket(self, a_mx: torch.Tensor, b_mx: torch.Tensor) -> torch.Tensor:
        a1_gx, a2_gx = (gradient_gm @ a_mx for gradient_gm in self.gradient_tgm)
        b1_gx, b2_gx = (gradient_gm @ b_mx for gradient_gm in self.gradient_tgm)
        return self.back_mg @ (a1_gx * b2_gx - a2_gx * b1_gx)


def _harmonics_gradient(points_gv: torch.Tensor, lmax: int) -> torch.Tensor:
    """∇Y_m, (g, m, 3).  (``torch.autograd.functional.jacobian`` in one go imports SymPy.)"""
    with torch.enable_grad():
        points_gv = points_gv.detach().requires_grad_()
        totals = solid_harmonics(points_gv, lmax).sum(0).unbind()[1:]  # the first is a constant
        parts = [torch.autograd.grad(total, points_gv, retain_graph=True)[0] for total in totals]
    return torch.stack([torch.zeros_like(points_gv), *parts], dim=1).detach()


def _tangents(points_gv: torch.Tensor) -> torch.Tensor:
    """(2, g, 3) unit vectors e₁, e₂ with e₁ × e₂ = r̂ at points of the unit sphere."""
    smallest_g = points_gv.abs().argmin(1)
    axis_gv = torch.eye(3, dtype=points_gv.dtype)[smallest_g]
    e1_gv = torch.nn.functional.normalize(torch.linalg.cross(points_gv, axis_gv), dim=1)
    return torch.stack([e1_gv, torch.linalg.cross(points_gv, e1_gv)])


def _lebedev_degree(degree: int) -> int:
    """Smallest degree ≥ ``degree`` for which a Lebedev rule exists."""
    known = np.array([*range(3, 33, 2), *range(35, 132, 6)])
    return int(known[known >= degree][0])
