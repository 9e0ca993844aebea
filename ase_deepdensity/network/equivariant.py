"""The equivariant network: cluster-expansion features, products on the sphere, messages, two linear heads."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import pi, sqrt

import numpy as np
import torch

from ase_deepdensity.basis import SplineBasis
from ase_deepdensity.network.by_species import SortedSystem, total_matrices
from ase_deepdensity.network.contract import Coefficients, DensityNetwork, Fit, Matrices
from ase_deepdensity.network.electron_gas import BANDS_u, Waves
from ase_deepdensity.network.heads import AtomicMatrixHead, CoefficientHead, matrix_shapes
from ase_deepdensity.network.messages import Edges, Message
from ase_deepdensity.network.readout import Features, Key, LastLayer, Readout, readouts_of, split
from ase_deepdensity.network.sizes import check_hypers
from ase_deepdensity.network.spherical import SphereProducts, SphericalLinear, l_of_m, mean_square_l, rms
from ase_deepdensity.network.system import System


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

    def __post_init__(self) -> None:
        check_hypers(self)


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
        """(m, natoms, channels_in) → (m, natoms, channels); ``slices``: atoms of each species."""
        h_mac = self.mix(self._products(x_mac, products, slices), slices) + self.skip(x_mac, slices)
        gate_alc = self.gate(h_mac[0]).view(h_mac.shape[1], -1, h_mac.shape[2])
        return h_mac * (1 + gate_alc.permute(1, 0, 2)[self.l_m])

    def _products(self, x_mac: torch.Tensor, products: SphereProducts, slices: list[slice]) -> torch.Tensor:
        """Of two factors and of three, (m, natoms, 2 · channels)."""
        factors_mac = self.factors(x_mac, slices)
        if self.bound is not None:
            factors_mac = factors_mac * (1 + factors_mac.square().mean(0) / self.bound**2).rsqrt()
        return products(*factors_mac.chunk(3, dim=2))

    @torch.no_grad()
    def fit_scale(self, x_mac: torch.Tensor, products: SphereProducts, slices: list[slice]) -> None:
        """Scale weights so that the scalars of each species have the size 1 (RMS), for features of training atoms.

        Products of three have it, and then products and linear images have equal parts in what comes out.  All l of a
        species are scaled alike: those that symmetry makes small here must not become large elsewhere.
        """
        cubes_mac = self._products(x_mac, products, slices).chunk(2, dim=2)[1]
        for s, atoms in enumerate(slices):
            self.factors.weight[s] /= rms(cubes_mac[0, atoms]) ** (1 / 3)
        for linear, y_mac in (self.mix, self._products(x_mac, products, slices)), (self.skip, x_mac):
            out_mac = linear(y_mac, slices)
            for s, atoms in enumerate(slices):
                linear.weight[s] /= sqrt(2) * rms(out_mac[0, atoms])


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
    l_zj
        Angular momenta of the PAW projectors of each species.
    empty
        Leave out what a state dict will bring and takes time to make.
    """

    expands = True
    input_scale_lx: torch.Tensor
    l_m: torch.Tensor

    def __init__(
        self,
        species: Sequence[int],
        hypers: EquivariantHypers,
        basis: SplineBasis,
        l_zj: Sequence[Sequence[int]],
        empty: bool = False,
    ):
        super().__init__(species, hypers.cutoff)
        if basis.lmax > hypers.lmax:
            raise ValueError(f'features with lmax {hypers.lmax} cannot write a density with lmax {basis.lmax}')
        self.hypers = hypers
        nspecies, size = len(species), hypers.channels
        self._pair_inputs = nspecies * hypers.radial
        inputs = self._pair_inputs + len(hypers.response_widths) * len(BANDS_u)
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
            AtomicMatrixHead(l_j, hypers.lmax, total, hypers.pseudo_channels, empty) for l_j in l_zj
        )
        self.register_buffer('l_m', l_of_m(hypers.lmax), persistent=False)

    @classmethod
    def telling_shapes(
        cls, species: Sequence[int], hypers: EquivariantHypers, basis: SplineBasis, l_zj: Sequence[Sequence[int]]
    ) -> dict[str, tuple[int, ...]]:
        nspecies, size, nl = len(species), hypers.channels, hypers.lmax + 1
        inputs = nspecies * hypers.radial + len(hypers.response_widths) * len(BANDS_u)
        shapes: dict[str, tuple[int, ...]] = {
            'input_scale_lx': (nl, inputs),
            'pseudo.weight': (nspecies, nl, hypers.layers * size, 2 * hypers.pseudo_channels),
        }
        for t in range(hypers.layers):
            shapes[f'layers.{t}.mix.weight'] = (nspecies, nl, 2 * size, size)
            shapes[f'layers.{t}.skip.weight'] = (nspecies, nl, inputs + (2 * size if t else 0), size)
        for t in range(hypers.layers - 1):
            shapes[f'messages.{t}.mix.weight'] = (1, nl, 2 * hypers.radial * hypers.message_channels, size)
        for z, l_j in enumerate(l_zj):
            shapes |= matrix_shapes(l_j, hypers.lmax, f'matrices.{z}.')
        return shapes

    @property
    def steps(self) -> int:
        return self.hypers.layers

    @property
    def ninvariants(self) -> int:
        return self.hypers.layers * self.hypers.channels + self.input_scale_lx.shape[1]

    @property
    def sees_kpoints(self) -> bool:
        return bool(self.hypers.response_widths)

    def waves(self, cell_cv: np.ndarray, kpt_Kc: np.ndarray, electrons: float) -> Waves:
        return Waves.of(cell_cv, kpt_Kc, electrons, self.hypers.response_widths, self.hypers.lmax)

    def _edges(self, atoms: SortedSystem) -> Edges:
        return Edges.of(atoms.vector_akv, atoms.neighbor_ak, self.cutoff, self.hypers.radial, self.hypers.lmax)

    def _inputs(self, atoms: SortedSystem, edges: Edges) -> torch.Tensor:
        """A_m,a,(z n), and after it what the k-points do."""
        A_max = torch.bmm(edges.Y_amk, self._by_neighbor(atoms, edges.R_akn)).permute(1, 0, 2).contiguous()
        if not self.sees_kpoints:
            return A_max
        if atoms.response_mac is None:
            raise ValueError('this network is told about k-points, but the system holds nothing of them')
        return torch.cat([A_max, atoms.response_mac], dim=2)

    def _by_neighbor(self, atoms: SortedSystem, x_akn: torch.Tensor) -> torch.Tensor:
        """(natoms, k, nspecies · n): what is said of a neighbour, in the place of its species."""
        is_z_akz = torch.nn.functional.one_hot(atoms.species_ak, len(self.species)).to(x_akn)
        return (is_z_akz[:, :, :, None] * x_akn[:, :, None, :]).flatten(2)

    def forward(self, system: System) -> Coefficients:
        return self._read(*self._through(system))[0]

    def last_layer(self) -> LastLayer:
        readouts: dict[Key, Readout] = {}
        for s, (Z, head) in enumerate(zip(self.species, self._matrix_heads, strict=True)):
            readouts |= {(Z, *channel): readout for channel, readout in readouts_of(self.coefficients, s, head).items()}
        return LastLayer(self.coefficients, readouts)

    def with_features(self, system: System) -> tuple[Coefficients, Features]:
        h_mac, A_max, atoms = self._through(system)
        output, pseudo_mac = self._read(h_mac, A_max, atoms)
        rows_z = {Z: rows for Z, rows in zip(self.species, atoms.slices, strict=True) if rows.start < rows.stop}
        return output, split(h_mac, pseudo_mac, self.last_layer(), rows_z)

    def _through(self, system: System) -> tuple[torch.Tensor, torch.Tensor, SortedSystem]:
        """What the last layer reads, (m, natoms, layers · channels), the scaled inputs, and the atoms of both."""
        atoms = SortedSystem.of(system, self.species)
        A_max, edges = self._start(atoms)
        h_mac = self._layer(0, A_max, atoms)
        all_h = [h_mac]
        for t, message in enumerate(self._messages, start=1):
            rows = atoms.within(self.hypers.layers - 1 - t)
            told_mac = message(h_mac, edges)
            atoms, A_max, all_h = atoms.part(rows), A_max[:, rows], [x_mac[:, rows] for x_mac in all_h]
            h_mac = self._layer(t, torch.cat([A_max, all_h[-1], told_mac], dim=2), atoms)
            all_h.append(h_mac)
            if t < len(self.messages):
                inner = atoms.within(self.hypers.layers - 2 - t)
                edges = edges.narrowed(rows, inner)
        return torch.cat(all_h, dim=2), A_max, atoms

    def _start(self, atoms: SortedSystem) -> tuple[torch.Tensor, Edges]:
        """Inputs of all atoms, scaled, and the edges of those that the first messages go to."""
        A_max, edges = [], []
        for rows, _ in atoms.chunks():
            some = atoms.part(rows)
            of_some = self._edges(some)
            A_max.append(self._inputs(some, of_some) * self.input_scale_lx[self.l_m][:, None])
            edges.append(of_some.rows(some.within(self.hypers.layers - 2)))
        return torch.cat(A_max, dim=1), Edges.join(edges)

    def _layer(self, t: int, x_mac: torch.Tensor, atoms: SortedSystem) -> torch.Tensor:
        """What layer t makes of its inputs."""
        layer = self._layers[t]
        return torch.cat([layer(x_mac[:, rows], self.products, slices) for rows, slices in atoms.chunks()], dim=1)

    def _read(self, h_mac: torch.Tensor, A_max: torch.Tensor, atoms: SortedSystem) -> tuple[Coefficients, torch.Tensor]:
        """What the heads say, and the features of the other parity that they have read."""
        c_tlanm, D_tzaii, pseudo_tmac = [], [], []
        for rows, slices in atoms.chunks():
            some_mac = h_mac[:, rows]
            pseudo_mac = self._pseudo(some_mac, slices)
            heads = zip(self._matrix_heads, slices, strict=True)
            D_tzaii.append([head(some_mac[:, a], pseudo_mac[:, a]) for head, a in heads])
            c_tlanm.append(self.coefficients(some_mac, slices))
            pseudo_tmac.append(pseudo_mac)
        D_zaii = [torch.cat(D_taii) for D_taii in zip(*D_tzaii, strict=True)]
        c_lesanm = [torch.cat(c_tanm)[None, None, atoms.back_a] for c_tanm in zip(*c_tlanm, strict=True)]
        invariants_ac = torch.cat([h_mac[0], A_max[0]], dim=1)
        output = Coefficients(atoms.by_number(D_zaii), invariants_ac[atoms.back_a], c_lesanm)
        return output, torch.cat(pseudo_tmac, dim=1)

    @property
    def mean_zii(self) -> dict[int, torch.Tensor]:
        return {Z: head.mean_ii for Z, head in zip(self.species, self._matrix_heads, strict=True)}

    def _pseudo(self, h_mac: torch.Tensor, slices: list[slice]) -> torch.Tensor:
        """Features of the other parity, (m, natoms, pseudo_channels)."""
        return self.products.bracket(*self.pseudo(h_mac, slices).chunk(2, dim=2)) / 5

    @property
    def _layers(self) -> list[Layer]:
        return list(self.layers)  # type: ignore[arg-type]

    @property
    def _messages(self) -> list[Message]:
        return list(self.messages)  # type: ignore[arg-type]

    @property
    def _matrix_heads(self) -> list[AtomicMatrixHead]:
        return list(self.matrices)  # type: ignore[arg-type]

    @torch.no_grad()
    def fit_scale(self, systems: Sequence[System], fit: Fit, D_tzsaii: Sequence[Matrices]) -> None:
        y_tlakm = [y_slakm[0] for y_slakm in fit(self.coefficients.expand, self.coefficients.sizes)]
        atoms = SortedSystem.of(System.join(systems, self.cutoff), self.species)
        self._fit_inputs(atoms)
        self._fit_layers(atoms)
        y_lakm = [torch.cat(y_takm)[atoms.order_a] for y_takm in zip(*y_tlakm, strict=True)]
        for z, head in enumerate(self._matrix_heads):
            rows = atoms.slices[z]
            if rows.start == rows.stop:
                raise ValueError(f'no snapshot to take scales from has the element {self.species[z]}')
            self.coefficients.fit_scale(z, [y_akm[rows] for y_akm in y_lakm])
            head.fit_scale(total_matrices(D_tzsaii, self.species[z]))

    def _fit_inputs(self, atoms: SortedSystem) -> None:
        """Divide inputs by their RMS in the training data, or by what it is for random directions if that is more.

        The latter, √(Σ_J R_n(r_IJ)² / 4π), stays where symmetry makes Σ_J R_n Y_lm small.  Without, an l that all
        training data lack would be blown up in the first environment that has it.
        """
        edges = self._edges(atoms)
        A_max = self._inputs(atoms, edges)
        met_x = (A_max[0] != 0).sum(0).clamp(min=1)  # a rare element must not have a large scale where it does occur
        square_mx = A_max.square().sum(1) / met_x
        square_lx = mean_square_l(square_mx)
        random_x = self._by_neighbor(atoms, edges.R_akn**2).sum((0, 1)) / (4 * pi * met_x[: self._pair_inputs])
        least_x = torch.cat([random_x, square_lx[0, self._pair_inputs :]])  # of k-points: one scale for all l
        self.input_scale_lx.copy_(torch.maximum(square_lx, least_x).sqrt().clamp(min=1e-6).reciprocal())

    def _fit_layers(self, atoms: SortedSystem) -> None:
        """Layer by layer, bring features to the size 1 (data-dependent initialisation, doi:10.48550/arXiv.1511.06422).

        Products of three turn a size x into x³, two layers with their gates into more than x⁹: the coherent sums over
        the neighbours in a crystal, or one unusual environment, would make a random network err by a factor of 1000.
        """
        edges, slices = self._edges(atoms), atoms.slices
        A_max = self._inputs(atoms, edges) * self.input_scale_lx[self.l_m][:, None]
        x_mac, all_h = A_max, list[torch.Tensor]()
        for t, layer in enumerate(self._layers):
            if t:
                message = self._messages[t - 1]
                message.fit_scale(all_h[-1], edges)
                x_mac = torch.cat([A_max, all_h[-1], message(all_h[-1], edges)], dim=2)
            layer.fit_scale(x_mac, self.products, slices)
            all_h.append(layer(x_mac, self.products, slices))
        pseudo_mac = self._pseudo(torch.cat(all_h, dim=2), slices)
        self.pseudo.weight.div_(rms(pseudo_mac).sqrt())  # both factors have it
