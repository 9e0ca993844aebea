"""The layer of the universal network: products of features, with weights that all elements share."""

from __future__ import annotations

from math import sqrt
from typing import Protocol

import torch

from ase_deepdensity.network.spherical import SphereProducts, SphericalLinear, l_of_m, rms


class LayerSizes(Protocol):
    """What a layer needs of the hyper-parameters of a network."""

    @property
    def lmax(self) -> int: ...
    @property
    def channels(self) -> int: ...
    @property
    def element_size(self) -> int: ...
    @property
    def bound(self) -> float: ...
    @property
    def alone(self) -> bool: ...


class ElementLayer(torch.nn.Module):
    """h → products of two and three linear images of h → h, gated by what is invariant.

    The vector of an atom's element scales the images, channel by channel, and adds to those of l = 0.  All weights are
    shared; what belongs to an element is one number that brings its images, and what comes out, to the usual size.

    What comes of atoms without neighbours nearly vanishes; with ``alone`` the vector adds to the scalars, too.
    """

    l_m: torch.Tensor
    factor_scale_z: torch.Tensor
    mix_scale_z: torch.Tensor
    skip_scale_z: torch.Tensor

    def __init__(self, hypers: LayerSizes, channels_in: int, nspecies: int):
        super().__init__()
        size, nl = hypers.channels, hypers.lmax + 1
        self.size, self.bound = size, hypers.bound
        self.factors = SphericalLinear(hypers.lmax, channels_in, 3 * size)
        self.mix = SphericalLinear(hypers.lmax, 2 * size, size)
        self.skip = SphericalLinear(hypers.lmax, channels_in, size)
        self.scales = torch.nn.Linear(hypers.element_size, (nl + 1) * 3 * size)
        self.outward = torch.nn.Linear(hypers.element_size, nl * size)
        for linear in self.scales, self.outward:
            torch.nn.init.normal_(linear.weight, std=0.3 / hypers.element_size**0.5)
            torch.nn.init.zeros_(linear.bias)
        self.alone = torch.nn.Linear(hypers.element_size, size, bias=False) if hypers.alone else None
        if self.alone is not None:
            torch.nn.init.zeros_(self.alone.weight)
        self.gate = torch.nn.Sequential(torch.nn.Linear(size, 64), torch.nn.SiLU(), torch.nn.Linear(64, nl * size))
        for name in 'factor_scale_z', 'mix_scale_z', 'skip_scale_z':
            self.register_buffer(name, torch.ones(nspecies))
        self.register_buffer('l_m', l_of_m(hypers.lmax), persistent=False)

    def forward(
        self, x_mac: torch.Tensor, v_ax: torch.Tensor, z_a: torch.Tensor, products: SphereProducts
    ) -> torch.Tensor:
        """(m, natoms, channels_in), vectors and indices of the atoms' elements → (m, natoms, channels)."""
        mixed_mac, skipped_mac = self._images(x_mac, v_ax, z_a, products)
        h_mac = mixed_mac * self.mix_scale_z[z_a, None] + skipped_mac * self.skip_scale_z[z_a, None]
        gate_alc = (self.gate(h_mac[0]) + self.outward(v_ax)).unflatten(1, (-1, self.size))
        h_mac = h_mac * (1 + gate_alc.transpose(0, 1)[self.l_m])
        return h_mac if self.alone is None else torch.cat([h_mac[:1] + self.alone(v_ax), h_mac[1:]])

    def _images(
        self, x_mac: torch.Tensor, v_ax: torch.Tensor, z_a: torch.Tensor, products: SphereProducts
    ) -> tuple[torch.Tensor, torch.Tensor]:
        mixed_mac = self.mix(products(*self._factors(x_mac, v_ax, z_a).chunk(3, dim=2)), [])
        return mixed_mac, self.skip(x_mac, [])

    def _factors(self, x_mac: torch.Tensor, v_ax: torch.Tensor, z_a: torch.Tensor) -> torch.Tensor:
        """What is multiplied, (m, natoms, 3 · channels)."""
        scale_lac = self.scales(v_ax).unflatten(1, (-1, 3 * self.size)).transpose(0, 1)
        factors_mac = self.factors(x_mac, []) * (1 + scale_lac[1:][self.l_m])
        factors_mac = torch.cat([factors_mac[:1] + scale_lac[:1], factors_mac[1:]]) * self.factor_scale_z[z_a, None]
        return factors_mac * (1 + factors_mac.square().mean(0) / self.bound**2).rsqrt()

    @torch.no_grad()
    def fit_scale(self, x_mac: torch.Tensor, v_ax: torch.Tensor, z_a: torch.Tensor, products: SphereProducts) -> None:
        """Bring the scalars of each element to the size 1 (RMS), as in :meth:`.equivariant.Layer.fit_scale`."""
        factors_mac = self._factors(x_mac, v_ax, z_a)
        cubes_ac = products(*factors_mac.chunk(3, dim=2))[0, :, self.size :]
        for z in z_a.unique():
            self.factor_scale_z[z] /= rms(cubes_ac[z_a == z]) ** (1 / 3)
        mixed_mac, skipped_mac = self._images(x_mac, v_ax, z_a, products)
        for z in z_a.unique():
            self.mix_scale_z[z] /= sqrt(2) * rms(mixed_mac[0, z_a == z])
            self.skip_scale_z[z] /= sqrt(2) * rms(skipped_mac[0, z_a == z])
