"""The equivariant network: cluster-expansion features, products on the sphere, messages, two linear heads."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from ase_deepdensity.basis import SplineBasis
from ase_deepdensity.harmonics import solid_harmonics
from ase_deepdensity.network.contract import Coefficients, DensityNetwork, Fit
from ase_deepdensity.network.electron_gas import BANDS_u, Waves
from ase_deepdensity.network.graph import Graph
from ase_deepdensity.network.heads import AtomicMatrixHead, CoefficientHead
from ase_deepdensity.network.radial import bessel
from ase_deepdensity.network.spherical import SphereProducts, SphericalLinear, l_of_m

CHUNK = 256  # atoms whose neighbours' features are held at once where no gradient is needed


@dataclass(frozen=True)
class EquivariantHypers:
    """Sizes of :class:`EquivariantNetwork`."""

    cutoff: float = 5.0
    """Distance to which atoms are neighbours, Å."""
    response_widths: tuple[float, ...] = ()
    """For a metal: eV, widths of the Fermi–Dirac distributions with which free electrons answer at the k-points of the
    calculation, see :mod:`.electron_gas`.  Without, the network knows nothing of k-points."""
    lmax: int = 4
    """Highest angular momentum of the features."""
    radial: int = 8
    """Number of Bessel functions of the distance between atoms."""
    channels: int = 48
    """Features per atom, l and m."""
    message_channels: int = 24
    """Features that travel to neighbours."""
    pseudo_channels: int = 16
    """Features of the other parity, which the atomic matrices need."""
    layers: int = 2
    """Layers; each but the first sends one round of messages, so information travels layers · cutoff."""
    bound: float | None = None
    """What enters products stays below this (RMS over its components), smoothly.  Without, products of three in each
    layer grow with the ninth power of an unusual environment, and hot metals overflow at the first step."""


@dataclass
class Edges:
    """Distances and directions to neighbours, expanded once for all layers."""

    R_akn: torch.Tensor
    Y_amk: torch.Tensor
    neighbor_ak: torch.Tensor

    def rows(self, atoms: slice) -> Edges:
        return Edges(self.R_akn[atoms], self.Y_amk[atoms], self.neighbor_ak[atoms])


class Message(torch.nn.Module):
    """What neighbours tell: Σ_J R_n(r_IJ) Y_lm(r̂_IJ) s_Jc and Σ_J R_n(r_IJ) h_Jclm, then mixed over n and c."""

    def __init__(self, hypers: EquivariantHypers):
        super().__init__()
        size = hypers.message_channels
        self.channels = size
        self.send = SphericalLinear(hypers.lmax, hypers.channels, size)
        self.scalars = torch.nn.Linear(hypers.channels, size)
        self.mix = SphericalLinear(hypers.lmax, 2 * hypers.radial * size, hypers.channels)
        self.scale = torch.nn.Parameter(torch.tensor(0.3), requires_grad=False)

    def forward(self, h_mac: torch.Tensor, edges: Edges) -> torch.Tensor:
        sent_amc = self.send(h_mac, [slice(None)]).permute(1, 0, 2).contiguous()
        scalars_ac = self.scalars(h_mac[0])
        natoms = len(edges.R_akn)
        step = natoms if torch.is_grad_enabled() else CHUNK
        return torch.cat(
            [
                self._gather(sent_amc, scalars_ac, edges.rows(slice(start, start + step)))
                for start in range(0, natoms, step)
            ],
            dim=1,
        )

    def _gather(self, sent_amc: torch.Tensor, scalars_ac: torch.Tensor, edges: Edges) -> torch.Tensor:
        natoms, _, number = edges.R_akn.shape
        turned_aknc = edges.R_akn[:, :, :, None] * scalars_ac[edges.neighbor_ak][:, :, None, :]
        turned_amx = torch.bmm(edges.Y_amk, turned_aknc.flatten(2))
        passed_anx = torch.bmm(edges.R_akn.transpose(1, 2), sent_amc[edges.neighbor_ak].flatten(2))
        passed_anmc = passed_anx.view(natoms, number, -1, self.channels)
        passed_amx = passed_anmc.permute(0, 2, 1, 3).flatten(2)
        both_max = torch.cat([turned_amx, passed_amx], dim=2).permute(1, 0, 2).contiguous()
        return self.mix(both_max * self.scale, [slice(None)])


class Layer(torch.nn.Module):
    """h → products of two and three linear images of h → h, gated by what is invariant."""

    l_m: torch.Tensor

    def __init__(self, hypers: EquivariantHypers, channels_in: int, nspecies: int):
        super().__init__()
        size = hypers.channels
        self.factors = SphericalLinear(hypers.lmax, channels_in, 3 * size, nspecies, bias=True)
        self.mix = SphericalLinear(hypers.lmax, 2 * size, size, nspecies)
        self.skip = SphericalLinear(hypers.lmax, channels_in, size, nspecies)
        self.gate = torch.nn.Sequential(
            torch.nn.Linear(size, 64), torch.nn.SiLU(), torch.nn.Linear(64, (hypers.lmax + 1) * size)
        )
        self.bound = hypers.bound
        self.register_buffer('l_m', l_of_m(hypers.lmax), persistent=False)

    def forward(self, x_mac: torch.Tensor, products: SphereProducts, slices: list[slice]) -> torch.Tensor:
        factors_mac = self.factors(x_mac, slices)
        if self.bound is not None:
            factors_mac = factors_mac * (1 + factors_mac.square().mean(0) / self.bound**2).rsqrt()
        h_mac = self.mix(products(*factors_mac.chunk(3, dim=2)), slices) + self.skip(x_mac, slices)
        gate_alc = self.gate(h_mac[0]).view(h_mac.shape[1], -1, h_mac.shape[2])
        return h_mac * (1 + gate_alc.permute(1, 0, 2)[self.l_m])


class EquivariantNetwork(DensityNetwork):
    """Deep Density with features that are irreducible representations of the rotations.

    Features start as the atomic density of the cluster, A_I,znlm = Σ_J δ_zZJ R_n(r_IJ) Y_lm(r̂_IJ) (atomic cluster
    expansion, doi:10.1103/PhysRevB.99.014104).  Each layer multiplies them on the sphere; between layers neighbours
    exchange features.  Linear heads read the coefficients of the density and the blocks of the atomic matrices.

    Parameters
    ----------
    species
        Atomic numbers.
    hypers
        Sizes.
    basis
        Radial functions of the density.
    l_sj
        Angular momenta of the PAW projectors of each species.
    empty
        Leave out what a state dict will bring and takes time to make.
    """

    input_scale_lx: torch.Tensor
    l_m: torch.Tensor

    def __init__(
        self,
        species: Sequence[int],
        hypers: EquivariantHypers,
        basis: SplineBasis,
        l_sj: Sequence[Sequence[int]],
        empty: bool = False,
    ):
        super().__init__(species, hypers.cutoff)
        if basis.lmax > hypers.lmax:
            raise ValueError(f'features with lmax {hypers.lmax} cannot write a density with lmax {basis.lmax}')
        self.hypers = hypers
        nspecies, size = len(species), hypers.channels
        inputs = nspecies * hypers.radial + len(hypers.response_widths) * len(BANDS_u)
        self.register_buffer('input_scale_lx', torch.ones(hypers.lmax + 1, inputs))
        self.products = SphereProducts(hypers.lmax)
        self.messages = torch.nn.ModuleList(Message(hypers) for _ in range(hypers.layers - 1))
        self.layers = torch.nn.ModuleList(
            Layer(hypers, inputs + (2 * size if t else 0), nspecies) for t in range(hypers.layers)
        )
        total = hypers.layers * size
        self.coefficients = CoefficientHead(basis, total, nspecies)
        self.pseudo = SphericalLinear(hypers.lmax, total, 2 * hypers.pseudo_channels, nspecies)
        self.matrices = torch.nn.ModuleList(
            AtomicMatrixHead(l_j, hypers.lmax, total, hypers.pseudo_channels, empty) for l_j in l_sj
        )
        self.register_buffer('l_m', l_of_m(hypers.lmax), persistent=False)

    @property
    def sees_kpoints(self) -> bool:
        return bool(self.hypers.response_widths)

    def waves(self, cell_cv: np.ndarray, kpt_Kc: np.ndarray, electrons: float) -> Waves:
        return Waves.of(cell_cv, kpt_Kc, electrons, self.hypers.response_widths, self.hypers.lmax)

    def _edges(self, graph: Graph) -> Edges:
        r_ak = graph.vector_akv.norm(dim=2)
        return Edges(
            bessel(r_ak, self.cutoff, self.hypers.radial),
            solid_harmonics(graph.vector_akv / r_ak[:, :, None], self.hypers.lmax).transpose(1, 2),
            graph.neighbor_ak,
        )

    def _inputs(self, graph: Graph, edges: Edges) -> torch.Tensor:
        """A_m,a,(z n), and after it what the k-points do."""
        is_z_akz = torch.nn.functional.one_hot(graph.species_ak, len(self.species)).to(edges.R_akn)
        R_akx = (is_z_akz[:, :, :, None] * edges.R_akn[:, :, None, :]).flatten(2)
        A_max = torch.bmm(edges.Y_amk, R_akx).permute(1, 0, 2).contiguous()
        if not self.sees_kpoints:
            return A_max
        if graph.response_mac is None:
            raise ValueError('this network is told about k-points, but the graph holds nothing of them')
        return torch.cat([A_max, graph.response_mac], dim=2)

    def forward(self, graph: Graph) -> Coefficients:
        edges = self._edges(graph)
        slices = graph.slices
        A_max = self._inputs(graph, edges) * self.input_scale_lx[self.l_m][:, None]
        h_mac = self.layers[0](A_max, self.products, slices)
        all_h = [h_mac]
        for message, layer in zip(self.messages, self.layers[1:], strict=True):
            h_mac = layer(torch.cat([A_max, h_mac, message(h_mac, edges)], dim=2), self.products, slices)
            all_h.append(h_mac)
        h_mac = torch.cat(all_h, dim=2)
        pseudo_mac = self.products.bracket(*self.pseudo(h_mac, slices).chunk(2, dim=2)) / 5
        D_saii = [
            head(h_mac[:, atoms], pseudo_mac[:, atoms]) for head, atoms in zip(self._matrix_heads, slices, strict=True)
        ]
        invariants_ac = torch.cat([h_mac[0], A_max[0].detach()], dim=1)
        return Coefficients(D_saii, invariants_ac, self.coefficients(h_mac, slices))

    @property
    def mean_sii(self) -> list[torch.Tensor]:
        return [head.mean_ii for head in self._matrix_heads]

    @property
    def _matrix_heads(self) -> list[AtomicMatrixHead]:
        return list(self.matrices)  # type: ignore[arg-type]

    @torch.no_grad()
    def fit_scale(self, graphs: list[Graph], fit: Fit, D_tsaii: list[list[torch.Tensor]]) -> None:
        y_tlakm = fit(self.coefficients.expand, self.coefficients.sizes)
        A_max = torch.cat([self._inputs(graph, self._edges(graph)) for graph in graphs], dim=1)
        met_x = (A_max[0] != 0).sum(0).clamp(min=1)  # a rare element must not have a large scale where it does occur
        square_mx = A_max.square().sum(1) / met_x
        for l in range(self.hypers.lmax + 1):
            self.input_scale_lx[l] = square_mx[l * l : (l + 1) ** 2].mean(0).sqrt().clamp(min=1e-6).reciprocal()
        for s, head in enumerate(self._matrix_heads):
            y_lakm = [
                torch.cat([y_akm[graph.slices[s]] for y_akm, graph in zip(y_takm, graphs, strict=True)])
                for y_takm in zip(*y_tlakm, strict=True)
            ]
            if len(y_lakm[0]) == 0:
                raise ValueError(f'no snapshot to take scales from has the element {self.species[s]}')
            self.coefficients.fit_scale(s, y_lakm)
            head.fit_scale(torch.cat([D_saii[s] for D_saii in D_tsaii if len(D_saii[s])]))
