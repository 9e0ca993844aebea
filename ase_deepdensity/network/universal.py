"""The universal network: one set of weights for all elements, which enter as vectors."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import pi

import numpy as np
import torch

from ase_deepdensity.basis import SplineBasis
from ase_deepdensity.network.by_species import check_species, chunks
from ase_deepdensity.network.contract import Coefficients, DensityNetwork, Fit, Matrices
from ase_deepdensity.network.element_heads import ElementHeads, kind_of
from ase_deepdensity.network.element_layer import ElementLayer
from ase_deepdensity.network.elements import NDESCRIPTORS, Element, ElementVectors
from ase_deepdensity.network.heads import OrthonormalFunctions, tensors_shape
from ase_deepdensity.network.messages import Edges, Message
from ase_deepdensity.network.readout import Features as ReadFeatures
from ase_deepdensity.network.readout import LastLayer, split
from ase_deepdensity.network.sizes import check_hypers
from ase_deepdensity.network.spherical import SphereProducts, SphericalLinear, l_of_m, mean_square_l, rms
from ase_deepdensity.network.system import System

SMALL_MAGNETISATION = 0.03
"""Scale of the magnetisation of an element without training data of it, in units of that of its total."""


@dataclass(frozen=True)
class UniversalHypers:
    """Sizes of :class:`UniversalNetwork`."""

    cutoff: float = 5.0
    """Distance to which atoms are neighbours, Å."""
    lmax: int = 4
    """Highest angular momentum of the features."""
    radial: int = 8
    """Number of Bessel functions of the distance between atoms."""
    element_size: int = 32
    """Length of an element's vector."""
    neighbor_size: int = 8
    """Numbers by which the elements of neighbours are told from each other."""
    channels: int = 48
    """Features per atom, l and m."""
    message_channels: int = 24
    """Features that travel to neighbours."""
    pseudo_channels: int = 16
    """Features of the other parity, which the atomic matrices need."""
    layers: int = 2
    """Layers; each but the first sends one round of messages, so information travels layers · cutoff."""
    bound: float = 3.0
    """What enters products stays below this (RMS over its components), smoothly."""
    alone: bool = False
    """Give atoms features that do not vanish with their last neighbour, so that free atoms can be learned."""
    members: int = 1
    """Of the ensemble of heads, whose mean is the prediction and whose spread its error bar."""
    magnetic: bool = False
    """Predict the magnetisation too, from the magnetic moments of the atoms."""
    charged: bool = False
    """Be told the charges of systems; a model without predicts for the charge of its training data only."""

    def __post_init__(self) -> None:
        check_hypers(self)


class UniversalNetwork(DensityNetwork):
    """Deep Density for any element: equivariant features as in :class:`.EquivariantNetwork`, elements as vectors.

    The atomic density of a cluster (doi:10.1103/PhysRevB.99.014104) is weighted with the vectors u of its elements,

        A_I,nulm = Σ_J u_J R_n(r_IJ) Y_lm(r̂_IJ),

    so that its size does not depend on how many elements the network knows.  What follows shares its weights among all,
    see :class:`.ElementLayer` and :class:`.ElementHeads`; see :class:`.ElementVectors` for moments and charges.

    The total is even and the magnetisation odd in the moments m of all atoms: (F(m) + F(−m))/2 and (G(m) − G(−m))/2.
    Without moments there is one evaluation and no magnetisation.

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
        hypers: UniversalHypers,
        basis: SplineBasis,
        l_zj: Sequence[Sequence[int]],
        empty: bool = False,
    ):
        super().__init__(species, hypers.cutoff)
        if basis.lmax > hypers.lmax:
            raise ValueError(f'features with lmax {hypers.lmax} cannot write a density with lmax {basis.lmax}')
        self.hypers, self.basis, self.l_zj = hypers, basis, tuple(tuple(l_j) for l_j in l_zj)
        size, inputs = hypers.channels, hypers.radial * hypers.neighbor_size
        total = hypers.layers * size
        self.vectors = ElementVectors(len(species), hypers.element_size, hypers.magnetic, hypers.charged)
        self.as_neighbor = torch.nn.Linear(hypers.element_size, hypers.neighbor_size)
        self.register_buffer('input_scale_lx', torch.ones(hypers.lmax + 1, inputs))
        self.products = SphereProducts(hypers.lmax)
        self.messages = torch.nn.ModuleList(Message(hypers) for _ in range(hypers.layers - 1))
        self.layers = torch.nn.ModuleList(
            ElementLayer(hypers, inputs + (2 * size if t else 0), len(species)) for t in range(hypers.layers)
        )
        self.pseudo = SphericalLinear(hypers.lmax, total, 2 * hypers.pseudo_channels)
        self.heads = torch.nn.ModuleList(
            ElementHeads(
                basis, hypers.lmax, total, hypers.pseudo_channels, self.species, self.l_zj, hypers.members, empty
            )
            for _ in range(1 + hypers.magnetic)
        )
        self.register_buffer('l_m', l_of_m(hypers.lmax), persistent=False)

    @classmethod
    def telling_shapes(
        cls, species: Sequence[int], hypers: UniversalHypers, basis: SplineBasis, l_zj: Sequence[Sequence[int]]
    ) -> dict[str, tuple[int, ...]]:
        size, nl, inputs = hypers.channels, hypers.lmax + 1, hypers.radial * hypers.neighbor_size
        total = hypers.layers * size
        shapes: dict[str, tuple[int, ...]] = {
            'vectors.descriptor_zx': (len(species), NDESCRIPTORS),
            'vectors.learned_zx': (len(species), hypers.element_size),
            'vectors.physical.2.weight': (hypers.element_size, hypers.element_size),
            'input_scale_lx': (nl, inputs),
            'pseudo.weight': (1, nl, total, 2 * hypers.pseudo_channels),
        }
        for t in range(hypers.layers):
            shapes[f'layers.{t}.mix.weight'] = (1, nl, 2 * size, size)
            shapes[f'layers.{t}.skip.weight'] = (1, nl, inputs + (2 * size if t else 0), size)
            shapes[f'layers.{t}.scales.weight'] = ((nl + 1) * 3 * size, hypers.element_size)
        for t in range(hypers.layers - 1):
            shapes[f'messages.{t}.mix.weight'] = (1, nl, 2 * hypers.radial * hypers.message_channels, size)
        functions = OrthonormalFunctions(basis)
        for s in range(1 + hypers.magnetic):
            for l_j in set(map(tuple, l_zj)):
                shapes[f'heads.{s}.matrices.{kind_of(l_j)}.T_xii'] = tensors_shape(l_j, hypers.lmax)
            for Z in species:
                shapes[f'heads.{s}.elements.{Z}.mean_k'] = (functions.sizes[0],)
        return shapes

    @property
    def steps(self) -> int:
        return self.hypers.layers

    @property
    def ninvariants(self) -> int:
        return self.hypers.layers * self.hypers.channels + self.input_scale_lx.shape[1] + self.hypers.element_size

    @property
    def members(self) -> int:
        return self.hypers.members

    @property
    def sees_magnetic_moments(self) -> bool:
        return self.hypers.magnetic

    @property
    def sees_charge(self) -> bool:
        return self.hypers.charged

    @property
    def knows_the_usual(self) -> bool:
        return True

    @property
    def takes_elements(self) -> bool:
        return True

    def set_elements(self, elements: Mapping[int, Element]) -> None:
        self.vectors.describe(elements, self.species)

    @property
    def mean_zii(self) -> dict[int, torch.Tensor]:
        return {Z: self._heads[0].of(Z)[0].mean_ii for Z in self.species}

    @property
    def _heads(self) -> list[ElementHeads]:
        return list(self.heads)  # type: ignore[arg-type]

    @property
    def _layers(self) -> list[ElementLayer]:
        return list(self.layers)  # type: ignore[arg-type]

    @property
    def _messages(self) -> list[Message]:
        return list(self.messages)  # type: ignore[arg-type]

    def forward(self, system: System) -> Coefficients:
        return self._said(system)[0]

    def _said(self, system: System) -> tuple[Coefficients, Features]:
        """What there is to say, and what was read for that, the moments as they are."""
        z_a, edges = self._index_of(system), self._edges(system)
        up, few = self._features(system, z_a, edges, 1), system.asked_about()
        if not (self.hypers.magnetic and system.is_spin_polarized):
            return _output([self._read(0, up, few)], up.invariants_ac), up
        down = self._features(system, z_a, edges, -1)
        total, magnetisation = (
            _combined(self._read(s, up, few), self._read(s, down, few), sign) for s, sign in enumerate((1, -1))
        )
        return _output([total, magnetisation], (up.invariants_ac + down.invariants_ac) / 2), up

    def usual(self, system: System) -> Coefficients:
        c_lanm, D_zaii = self._heads[0].means(system)
        return Coefficients(
            {Z: D_aii.expand(self.members, 1, *D_aii.shape) for Z, D_aii in D_zaii.items()},
            self.input_scale_lx.new_zeros(system.natoms, self.ninvariants),
            [c_anm.expand(self.members, 1, *c_anm.shape) for c_anm in c_lanm],
        )

    def parameters_of(self, numbers: Sequence[int]) -> list[torch.nn.Parameter]:
        return [weight for heads in self._heads for Z in numbers for weight in heads.of(Z)[0].parameters()]

    def last_layer(self) -> LastLayer:
        return self._heads[0].last_layer()

    def with_features(self, system: System) -> tuple[Coefficients, ReadFeatures]:
        output, up = self._said(system)
        rows_z = {Z: system.atoms_of(Z) for Z in system.numbers}
        return output, split(up.h_mac, up.pseudo_mac, self._heads[0].last_layer(system.numbers), rows_z)

    def _read(self, s: int, features: Features, system: System) -> Said:
        """What the heads of the total (0) or of the magnetisation (1) say."""
        return self._heads[s](features.h_mac, features.pseudo_mac, system)

    def _index_of(self, system: System) -> torch.Tensor:
        """(natoms,) which of the network's species each atom is."""
        check_species(system, self.species)
        if not self.vectors.descriptor_zx.any():
            raise ValueError('this network has not been told what its elements are like: see set_elements')
        return torch.searchsorted(torch.tensor(self.species, device=system.number_a.device), system.number_a)

    def _edges(self, system: System) -> Edges:
        radial, lmax = self.hypers.radial, self.hypers.lmax
        return Edges.join(
            [
                Edges.of(system.vector_akv[rows], system.neighbor_ak[rows], self.cutoff, radial, lmax)
                for rows in chunks(len(system.neighbor_ak))
            ]
        )

    def _vectors(self, system: System, z_a: torch.Tensor, sign: int) -> torch.Tensor:
        """(natoms, element_size), for moments that are turned round with ``sign`` −1."""
        natoms_t = system.system_a.bincount(minlength=system.nsystems).clamp(min=1)
        charge_a = (system.charge_t / natoms_t)[system.system_a]
        v_ax: torch.Tensor = self.vectors(z_a, sign * system.magmom_a, charge_a)
        return v_ax

    def _inputs(self, edges: Edges, v_ax: torch.Tensor) -> torch.Tensor:
        """A_m,a,(n u), scaled."""
        x_akx = _weighted(edges.R_akn, self.as_neighbor(v_ax), edges.neighbor_ak)
        A_max = torch.bmm(edges.Y_amk, x_akx).permute(1, 0, 2)
        return A_max * self.input_scale_lx[self.l_m][:, None]

    def _features(self, system: System, z_a: torch.Tensor, edges: Edges, sign: int) -> Features:
        """What heads read, for moments as they are or turned round."""
        v_ax = self._vectors(system, z_a, sign)
        A_max = torch.cat([self._inputs(edges.rows(rows), v_ax) for rows in chunks(len(edges.R_akn))], dim=1)
        h_mac = self._layer(0, A_max, v_ax, z_a)
        all_h = [h_mac]
        for t, message in enumerate(self._messages, start=1):
            few = slice(system.within(self.hypers.layers - 1 - t))
            A_max, all_h = A_max[:, few], [x_mac[:, few] for x_mac in all_h]
            told_mac = message(h_mac, edges.rows(few))
            h_mac = self._layer(t, torch.cat([A_max, all_h[-1], told_mac], dim=2), v_ax, z_a)
            all_h.append(h_mac)
        h_mac = torch.cat(all_h, dim=2)
        invariants_ac = torch.cat([h_mac[0], A_max[0], v_ax[: h_mac.shape[1]].detach()], dim=1)
        return Features(h_mac, self._pseudo(h_mac), invariants_ac)

    def _layer(self, t: int, x_mac: torch.Tensor, v_ax: torch.Tensor, z_a: torch.Tensor) -> torch.Tensor:
        """What layer t makes of its inputs; ``v_ax`` and ``z_a`` may go on with atoms that it has none of."""
        layer = self._layers[t]
        parts = [layer(x_mac[:, a], v_ax[a], z_a[a], self.products) for a in chunks(x_mac.shape[1])]
        return torch.cat(parts, dim=1)

    def _pseudo(self, h_mac: torch.Tensor) -> torch.Tensor:
        """Features of the other parity, (m, natoms, pseudo_channels)."""
        return self.products.bracket(*self.pseudo(h_mac, []).chunk(2, dim=2)) / 5

    @torch.no_grad()
    def fit_scale(self, systems: Sequence[System], fit: Fit, D_tzsaii: Sequence[Matrices]) -> None:
        system = System.join(systems, self.cutoff)
        if missing := sorted(set(self.species) - set(system.numbers)):
            raise ValueError(f'no snapshot to take scales from has the element {missing[0]}')
        self._fit_features(system)
        functions = self._heads[0].functions
        y_tslakm = fit(functions.expand, functions.sizes)
        for s, heads in enumerate(self._heads):
            chosen = [t for t, y_slakm in enumerate(y_tslakm) if len(y_slakm) > s]
            known = self._fit_heads(heads, [systems[t] for t in chosen], [y_tslakm[t][s] for t in chosen], [
                {Z: D_saii[s] for Z, D_saii in D_zsaii.items() if len(D_saii) > s} for D_zsaii in D_tzsaii
            ])  # fmt: skip
            if s == 1:
                self._scale_unknown_magnetisations(known)

    def _fit_heads(
        self,
        heads: ElementHeads,
        systems: Sequence[System],
        y_tlakm: Sequence[list[torch.Tensor]],
        D_tzaii: Sequence[Matrices],
    ) -> list[int]:
        """Scales of one component from the snapshots that have it; returns the elements of these."""
        if not systems:
            return []
        system = System.join(systems, self.cutoff)
        y_lakm = [torch.cat(y_takm) for y_takm in zip(*y_tlakm, strict=True)]
        for Z in system.numbers:
            D_aii = torch.cat([D_zaii[Z] for D_zaii in D_tzaii if Z in D_zaii])
            heads.fit_scale(Z, [y_akm[system.atoms_of(Z)] for y_akm in y_lakm], D_aii)
        return list(system.numbers)

    def _scale_unknown_magnetisations(self, known: Sequence[int]) -> None:
        """Elements without training data of their magnetisation get a small one; the mean of all is zero."""
        total, magnetisation = self._heads
        for Z in self.species:
            element, of_total = magnetisation.of(Z)[0], dict(total.of(Z)[0].named_buffers())
            for name, buffer in element.named_buffers():
                if name.startswith('mean'):  # it would not turn round with the moments
                    buffer.zero_()
                elif Z not in known:
                    buffer.copy_(SMALL_MAGNETISATION * of_total[name])

    def _fit_features(self, system: System) -> None:
        """Inputs and features to the size 1, layer by layer, as :class:`.EquivariantNetwork` does it."""
        z_a, edges = self._index_of(system), self._edges(system)
        v_ax = self._vectors(system, z_a, 1)
        self._fit_inputs(edges, v_ax)
        A_max = self._inputs(edges, v_ax)
        x_mac, all_h = A_max, list[torch.Tensor]()
        for t, layer in enumerate(self._layers):
            if t:
                message = self._messages[t - 1]
                message.fit_scale(all_h[-1], edges)
                x_mac = torch.cat([A_max, all_h[-1], message(all_h[-1], edges)], dim=2)
            layer.fit_scale(x_mac, v_ax, z_a, self.products)
            all_h.append(layer(x_mac, v_ax, z_a, self.products))
        self.pseudo.weight.div_(rms(self._pseudo(torch.cat(all_h, dim=2))).sqrt())

    def _fit_inputs(self, edges: Edges, v_ax: torch.Tensor) -> None:
        """Divide inputs by their RMS, or by what it is for random directions if that is more: then no l is blown up."""
        self.input_scale_lx.fill_(1.0)
        square_lx = mean_square_l(self._inputs(edges, v_ax).square().mean(1))
        random_x = _weighted(edges.R_akn**2, self.as_neighbor(v_ax) ** 2, edges.neighbor_ak).sum(1).mean(0) / (4 * pi)
        self.input_scale_lx.copy_(torch.maximum(square_lx, random_x).sqrt().clamp(min=1e-6).reciprocal())

    @torch.no_grad()
    def with_elements(self, elements: Mapping[int, Element]) -> UniversalNetwork:
        """The same network, which knows more elements; what it says of the others does not change.

        A new element starts from its descriptors, the weights that all share, the density matrix of its free atom and
        the usual scales of the other elements, first of those with the same kinds of projectors.

        Raises
        ------
        ValueError
            Elements that it knows already.
        """
        if known := sorted(elements.keys() & set(self.species)):
            raise ValueError(f'the network knows the elements {known} already')
        l_j_z = dict(zip(self.species, self.l_zj, strict=True)) | {Z: tuple(e.l_j) for Z, e in elements.items()}
        species = sorted(l_j_z)
        new = UniversalNetwork(species, self.hypers, self.basis, [l_j_z[Z] for Z in species])
        new = new.to(self.input_scale_lx.device, self.input_scale_lx.dtype)
        _carry_over(self, new)
        new.set_elements(elements)
        for s, heads in enumerate(new._heads):
            for Z, element in elements.items():
                heads.take_scales(Z, self.species)
                if s == 0:
                    heads.of(Z)[0].mean_ii.copy_(torch.from_numpy(np.asarray(element.D_ii)))
        return new.train(self.training)


@dataclass
class Features:
    """Of all atoms, for one orientation of the moments."""

    h_mac: torch.Tensor
    """((lmax+1)², natoms, layers · channels)."""
    pseudo_mac: torch.Tensor
    """((lmax+1)², natoms, pseudo_channels), of the other parity."""
    invariants_ac: torch.Tensor
    """(natoms, n)."""


Said = tuple[list[torch.Tensor], Matrices]
"""Of one component: for each l (members, natoms, n, 2l+1), and by number (members, natoms, ni, ni)."""


def _combined(up: Said, down: Said, sign: int) -> Said:
    """(up ± down) / 2."""
    c_leanm = [(c_up + sign * c_down) / 2 for c_up, c_down in zip(up[0], down[0], strict=True)]
    return c_leanm, {Z: (D_eaii + sign * down[1][Z]) / 2 for Z, D_eaii in up[1].items()}


def _output(said_s: Sequence[Said], invariants_ac: torch.Tensor) -> Coefficients:
    """Components together."""
    c_lesanm = [torch.stack(c_seanm, dim=1) for c_seanm in zip(*(c_leanm for c_leanm, _ in said_s), strict=True)]
    D_zesaii = {Z: torch.stack([D_zeaii[Z] for _, D_zeaii in said_s], dim=1) for Z in said_s[0][1]}
    return Coefficients(D_zesaii, invariants_ac, c_lesanm)


def _weighted(x_akn: torch.Tensor, u_au: torch.Tensor, neighbor_ak: torch.Tensor) -> torch.Tensor:
    """(natoms, k, n · u): what is said of a neighbour, weighted with its vector."""
    return (x_akn[:, :, :, None] * u_au[neighbor_ak][:, :, None, :]).flatten(2)


def _carry_over(old: UniversalNetwork, new: UniversalNetwork) -> None:
    """The state of a network into one that knows more species: rows of tensors by species, all others as they are."""
    rows = [new.species.index(Z) for Z in old.species]
    known = dict(old.named_parameters()) | dict(old.named_buffers())
    for name, tensor in [*new.named_parameters(), *new.named_buffers()]:
        if name.endswith('_scale_z'):
            tensor.fill_(float(known[name].log().mean().exp()))
        if (name.startswith('vectors.') and name.endswith('_zx')) or name.endswith('_scale_z'):
            tensor[rows] = known[name]
        elif name in known:
            tensor.copy_(known[name])
