"""The invariant network: Deep Density on the descriptor of Deep Potential, the electron being one more particle."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import pi, sqrt

import numpy as np
import torch

from ase_deepdensity.basis import SplineBasis
from ase_deepdensity.basis.harmonics import solid_harmonics
from ase_deepdensity.basis.splines import splines
from ase_deepdensity.network.by_species import SortedSystem, total_matrices
from ase_deepdensity.network.contract import Coefficient, DensityNetwork, Fit, Matrices, PointwiseDensity
from ase_deepdensity.network.equivariant import EquivariantHypers, Layer
from ase_deepdensity.network.heads import AtomicMatrixHead, CoefficientHead, matrix_shapes
from ase_deepdensity.network.radial import bessel, switch
from ase_deepdensity.network.sizes import check_hypers
from ase_deepdensity.network.spherical import SphereProducts, SphericalLinear, l_of_m
from ase_deepdensity.network.system import System

SMALLEST = 0.1
"""Size of the part of T of one l that hardly occurs in the training data, in units of that of all."""
STRANGE = 5.0
"""Standard deviations from the training data beyond which one environment is as strange as another."""


@dataclass(frozen=True)
class InvariantHypers:
    """Sizes of :class:`InvariantNetwork`."""

    cutoff: float = 6.0
    """Distance to which atoms are neighbours, Å."""
    embedding: int = 32
    """M: features of a pair of atoms."""
    axes: int = 4
    """M′: features that the others are multiplied with in the descriptor."""
    lmax: int = 4
    """Highest angular momentum of T; 1 leaves unit vectors as in Deep Potential, and serves on a line."""
    width: int = 64
    """Neurons of each layer of the fitting net."""
    depth: int = 3
    """Its layers."""
    radial: int = 12
    """Bessel functions in which a distance enters the embedding net."""
    core: float = 1.0
    """Distance from a nucleus below which directions lose their meaning, Å."""
    matrix_channels: int = 24
    """Features per atom, l and m for the atomic density matrices."""

    def __post_init__(self) -> None:
        check_hypers(self)
        if self.axes > self.embedding:
            raise ValueError(f'axes must not be more than embedding, {self.embedding}, not {self.axes}')

    @property
    def descriptor(self) -> int:
        """Numbers in D."""
        return (self.lmax + 1) * self.embedding * self.axes


def bounded(x: torch.Tensor) -> torch.Tensor:
    """tanh x; torch's own takes several times as long on a CPU."""
    return 2 * torch.sigmoid(2 * x) - 1


class Gated(torch.nn.Module):
    """x → x + V (silu(W x + b) ∘ tanh(U x + c) ∘ factor): products come cheaply, as angles need them.

    Unusual inputs let it grow no faster than they do themselves.
    """

    def __init__(self, width: int):
        super().__init__()
        self.inward = torch.nn.Linear(width, 2 * width)
        self.outward = torch.nn.Linear(width, width)

    def forward(self, x: torch.Tensor, factor: torch.Tensor | None = None) -> torch.Tensor:
        gate, value = self.inward(x).chunk(2, dim=-1)
        y = torch.nn.functional.silu(gate) * bounded(value)
        return x + self.outward(y if factor is None else y * factor)


class EmbeddingNet(torch.nn.Module):
    """G(s(R)) of a pair of species; Bessel functions of R come first, which are functions of s as s is monotonic."""

    def __init__(self, hypers: InvariantHypers):
        super().__init__()
        self.first = torch.nn.Linear(hypers.radial, hypers.embedding)
        self.second = Gated(hypers.embedding)

    def forward(self, R_akn: torch.Tensor) -> torch.Tensor:
        g_akm: torch.Tensor = self.second(self.first(R_akn))
        return g_akm


class FittingNet(torch.nn.Module):
    """F(D, E, |e|) of one species: for each point the coefficients of the radial functions, relative to their scale.

    The descriptor enters the first layer as a bias and all layers as factors, computed once per atom.
    """

    def __init__(self, hypers: InvariantHypers, number: int):
        super().__init__()
        width, depth = hypers.width, hypers.depth
        self.width = width
        self.atom = torch.nn.Sequential(
            torch.nn.Linear(hypers.descriptor, 2 * width),
            Gated(2 * width),
            torch.nn.Linear(2 * width, (depth + 1) * width),
        )
        self.electron = torch.nn.Linear(hypers.embedding * (hypers.lmax + 1), width, bias=False)
        self.radial = torch.nn.Linear(number, width, bias=False)
        self.hidden = torch.nn.ModuleList(Gated(width) for _ in range(depth))
        self.readout = torch.nn.Linear(width, number)
        torch.nn.init.normal_(self.radial.weight, std=1.0)
        torch.nn.init.normal_(self.readout.weight, std=0.3 / width**0.5)

    def modulation(self, D_ax: torch.Tensor) -> torch.Tensor:
        """Bias of the first layer and factors of all, of each atom: (natoms, (depth + 1) · width)."""
        bias_ah, factor_ah = self.atom(D_ax).split([self.width, self.width * len(self.hidden)], dim=1)
        return torch.cat([bias_ah, 1 + bounded(factor_ah)], dim=1)

    def forward(self, atom_ah: torch.Tensor, E_apx: torch.Tensor, B_apn: torch.Tensor) -> torch.Tensor:
        """The modulation of each atom, E and B_n at points around it → (natoms, points, number)."""
        bias_a1h, *factors = atom_ah[:, None].chunk(len(self.hidden) + 1, dim=2)
        h_aph = bias_a1h + self.electron(E_apx) + self.radial(B_apn)
        for layer, factor_a1h in zip(self.hidden, factors, strict=True):
            h_aph = layer(h_aph, factor_a1h)
        out_apn: torch.Tensor = self.readout(h_aph)
        return out_apn


class MatrixNet(torch.nn.Module):
    """Atomic density matrices from T: its products on the sphere reach every L and parity.

    Parameters
    ----------
    l_zj
        Angular momenta of the projectors of each species.
    """

    def __init__(self, hypers: InvariantHypers, l_zj: Sequence[Sequence[int]], empty: bool):
        super().__init__()
        self.lmax = self.largest_l(l_zj)
        size, M = hypers.matrix_channels, hypers.embedding
        layer = EquivariantHypers(lmax=self.lmax, channels=size, bound=3.0)
        self.products = SphereProducts(self.lmax)
        self.scalars = torch.nn.Linear(hypers.descriptor, M)
        self.first = Layer(layer, M, len(l_zj))
        self.second = Layer(layer, M + size, len(l_zj))
        self.pseudo = SphericalLinear(self.lmax, 2 * size, 2 * size, len(l_zj))
        self.heads = torch.nn.ModuleList(AtomicMatrixHead(l_j, self.lmax, 2 * size, size, empty) for l_j in l_zj)

    @staticmethod
    def largest_l(l_zj: Sequence[Sequence[int]]) -> int:
        """Of what a matrix consists of."""
        return 2 * max((l for l_j in l_zj for l in l_j), default=0)

    def forward(self, D_ax: torch.Tensor, T_aML: torch.Tensor, slices: list[slice]) -> list[torch.Tensor]:
        """Standardised descriptors, T (natoms, M, L), atoms of each species → for each species (natoms, ni, ni)."""
        wanted = (self.lmax + 1) ** 2
        T_aML = torch.nn.functional.pad(T_aML, (0, max(0, wanted - T_aML.shape[2])))
        x_mac = torch.cat([self.scalars(D_ax)[None], T_aML.permute(2, 0, 1)[1:wanted]])
        h_mac = self.first(x_mac, self.products, slices)
        h_mac = torch.cat([h_mac, self.second(torch.cat([x_mac, h_mac], dim=2), self.products, slices)], dim=2)
        pseudo_mac = self.products.bracket(*self.pseudo(h_mac, slices).chunk(2, dim=2)) / 5
        return [head(h_mac[:, a], pseudo_mac[:, a]) for head, a in zip(self.heads, slices, strict=True)]


class InvariantNetwork(DensityNetwork):
    """Deep Density (doi:10.1016/j.jcp.2021.110523) on the descriptor of DeepPot-SE (doi:10.48550/arXiv.1805.09003).

        s(R)   = switch(R)/R,   g_IJ = G_ZI,ZJ(s(R_IJ))                                      M features
        T_I,lm = (1/N) Σ_J g_IJ s(R_IJ) Y_lm(R̂_IJ),   l = 0 … lmax                          M × (lmax+1)²
        D_I,l  = Σ_m T_I,lm T′_I,lmᵀ, T′ the first M′ rows of T                               M × M′, invariant
        E_I,l(r) = Σ_m T_I,lm Y_lm(e/√(e² + core²)),   e = r − R_I                            M, invariant
        ρ_I(r) = Σ_n B_n(|e|) (mean_n + scale_n F_ZI,n(D_I, E_I(r), |e|))

    with solid harmonics Y and the splines B_n of the model's basis, which end smoothly at its cutoff: the envelope.
    They serve |e| also as the input of F.  The core keeps the density smooth at the nucleus.

    With lmax = 1 the harmonics are (1, R̂), and T, D and E those of Deep Potential, D for l = 0 and 1 apart.  The higher
    ones tell E_I(r) the angles between the electron and the neighbours, Σ_J g s P_l(cos θ), which F would have to make
    of products of vectors.  The atomic density matrices, of which the paper has none, are built from T
    (:class:`MatrixNet`).  On a line Y_l is the sign of the displacement to the power of l, and all stays as it is.

    Parameters
    ----------
    species
        Atomic numbers.
    hypers
        Sizes.
    basis
        Radial functions; its angular momenta are not used.
    l_zj
        Angular momenta of the PAW projectors of each species.
    empty
        Leave out what a state dict will bring and takes time to make.
    """

    expands = False
    neighbors: torch.Tensor
    T_scale_sMl: torch.Tensor
    of_l_Ll: torch.Tensor
    D_mean_sx: torch.Tensor
    D_scale_sx: torch.Tensor
    mean_sn: torch.Tensor
    scale_sn: torch.Tensor

    def __init__(
        self,
        species: Sequence[int],
        hypers: InvariantHypers,
        basis: SplineBasis,
        l_zj: Sequence[Sequence[int]],
        empty: bool = False,
    ):
        super().__init__(species, hypers.cutoff)
        self.hypers, self.basis = hypers, basis
        nspecies, M = len(species), hypers.embedding
        self.embeddings = torch.nn.ModuleList(EmbeddingNet(hypers) for _ in range(nspecies**2))
        self.fitting = torch.nn.ModuleList(FittingNet(hypers, basis.number) for _ in species)
        self.matrices = MatrixNet(hypers, l_zj, empty)
        self.register_buffer('neighbors', torch.tensor(1.0))
        self.register_buffer('T_scale_sMl', torch.ones(nspecies, M, hypers.lmax + 1))
        of_l_Ll = torch.nn.functional.one_hot(l_of_m(hypers.lmax)).to(torch.get_default_dtype())
        self.register_buffer('of_l_Ll', of_l_Ll, persistent=False)
        self.register_buffer('D_mean_sx', torch.zeros(nspecies, hypers.descriptor))
        self.register_buffer('D_scale_sx', torch.ones(nspecies, hypers.descriptor))
        self.register_buffer('mean_sn', torch.zeros(nspecies, basis.number))
        self.register_buffer('scale_sn', torch.ones(nspecies, basis.number))

    def forward(self, system: System) -> PointwiseDensity:
        atoms = SortedSystem.of(system, self.species)
        T_aML = self._environments(atoms)
        D_ax = self._standardised(self._descriptors(T_aML), atoms.slices)
        atom_ah = torch.cat([net.modulation(D_ax[a]) for net, a in zip(self._nets, atoms.slices, strict=True)])

        def of_species(z: int, a_p: torch.Tensor, e_pv: torch.Tensor) -> torch.Tensor:
            atoms_a, place_p, e_apv = _by_atom(a_p, e_pv)
            r2_ap = e_apv.square().sum(2)
            B_apn = splines(self.basis, (r2_ap + 1e-12).sqrt())
            Y_apL = self._harmonics(e_apv / (r2_ap + self.hypers.core**2).sqrt()[:, :, None])
            T_aLx = torch.einsum('aML, Ll -> aLlM', T_aML[atoms_a], self.of_l_Ll).flatten(2)
            F_apn = self._nets[z](atom_ah[atoms_a], torch.bmm(Y_apL, T_aLx), B_apn)
            return (B_apn * (self.mean_sn[z] + self.scale_sn[z] * F_apn)).sum(2)[place_p]

        def contribution(a_p: torch.Tensor, e_pv: torch.Tensor) -> torch.Tensor:
            sorted_p = atoms.back_a[a_p]
            rho_p = e_pv.new_zeros(len(a_p))
            for z, rows in enumerate(atoms.slices):
                of_z_p = torch.nonzero((sorted_p >= rows.start) & (sorted_p < rows.stop)).flatten()
                if len(of_z_p):
                    rho_p = rho_p.index_put((of_z_p,), of_species(z, sorted_p[of_z_p], e_pv[of_z_p]))
            return rho_p[None, None]

        D_zesaii = atoms.by_number(self.matrices(D_ax, T_aML, atoms.slices))
        invariants_ac = torch.cat([D_ax, T_aML[:, :, 0].detach()], dim=1)
        return PointwiseDensity(D_zesaii, invariants_ac[atoms.back_a], contribution, self.basis.cutoff)

    @classmethod
    def telling_shapes(
        cls, species: Sequence[int], hypers: InvariantHypers, basis: SplineBasis, l_zj: Sequence[Sequence[int]]
    ) -> dict[str, tuple[int, ...]]:
        nspecies, M, width, nl = len(species), hypers.embedding, hypers.width, hypers.lmax + 1
        size = hypers.matrix_channels
        shapes: dict[str, tuple[int, ...]] = {
            'T_scale_sMl': (nspecies, M, nl),
            'matrices.scalars.weight': (M, hypers.descriptor),
            'matrices.second.skip.weight': (nspecies, MatrixNet.largest_l(l_zj) + 1, M + size, size),
        }
        for e in range(nspecies**2):
            shapes[f'embeddings.{e}.first.weight'] = (M, hypers.radial)
            shapes[f'embeddings.{e}.second.outward.weight'] = (M, M)
        for s in range(nspecies):
            shapes[f'fitting.{s}.atom.0.weight'] = (2 * width, hypers.descriptor)
            shapes[f'fitting.{s}.atom.2.weight'] = ((hypers.depth + 1) * width, 2 * width)
            shapes[f'fitting.{s}.electron.weight'] = (width, M * nl)
            shapes[f'fitting.{s}.readout.weight'] = (basis.number, width)
            shapes |= matrix_shapes(l_zj[s], MatrixNet.largest_l(l_zj), f'matrices.heads.{s}.')
        return shapes

    @property
    def ninvariants(self) -> int:
        return self.hypers.descriptor + self.hypers.embedding

    @property
    def mean_zii(self) -> dict[int, torch.Tensor]:
        return {Z: head.mean_ii for Z, head in zip(self.species, self._matrix_heads, strict=True)}

    @property
    def _nets(self) -> list[FittingNet]:
        return list(self.fitting)  # type: ignore[arg-type]

    @property
    def _matrix_heads(self) -> list[AtomicMatrixHead]:
        return list(self.matrices.heads)  # type: ignore[arg-type]

    def _environments(self, atoms: SortedSystem) -> torch.Tensor:
        """T (natoms, M, L), scaled."""
        r_ak = atoms.vector_akv.norm(dim=2)
        s_ak = switch(r_ak, self.cutoff) / r_ak
        R_akL = s_ak[:, :, None] * self._harmonics(atoms.vector_akv / r_ak[:, :, None])
        radial_akn = bessel(r_ak, self.cutoff, self.hypers.radial)
        parts = []
        for s, rows in enumerate(atoms.slices):
            g_akm = torch.zeros(())
            for z in range(len(self.species)):
                of_z_ak = (atoms.species_ak[rows] == z).to(s_ak)
                g_akm = g_akm + self.embeddings[s * len(self.species) + z](radial_akn[rows]) * of_z_ak[:, :, None]
            T_aML = torch.einsum('akM, akL -> aML', g_akm, R_akL[rows]) / self.neighbors
            parts.append(T_aML * (self.T_scale_sMl[s] @ self.of_l_Ll.T))
        return torch.cat(parts)

    def _descriptors(self, T_aML: torch.Tensor) -> torch.Tensor:
        """D, (natoms, (lmax+1) · M · M′); D_l is divided by the root of its number of m."""
        T_axL = T_aML[:, : self.hypers.axes]
        return torch.einsum('aML, axL, Ll -> alMx', T_aML, T_axL, self.of_l_Ll * self.of_l_Ll.sum(0).rsqrt()).flatten(1)

    def _harmonics(self, vectors: torch.Tensor) -> torch.Tensor:
        """√(4π/(2l+1)) rˡ Y_lm, whose squares add up to r²ˡ over m."""
        return solid_harmonics(vectors, self.hypers.lmax) * (4 * pi / (self.of_l_Ll @ self.of_l_Ll.sum(0))).sqrt()

    def _standardised(self, D_ax: torch.Tensor, slices: list[slice]) -> torch.Tensor:
        """Deviations from the mean of the species in units of the usual ones; they stay below STRANGE, smoothly."""
        D_ax = torch.cat([(D_ax[a] - self.D_mean_sx[s]) / self.D_scale_sx[s] for s, a in enumerate(slices)])
        return D_ax * (1 + (D_ax / STRANGE) ** 2).rsqrt()

    @torch.no_grad()
    def fit_scale(self, systems: Sequence[System], fit: Fit, D_tzsaii: Sequence[Matrices]) -> None:
        atoms = SortedSystem.of(System.join(systems, self.cutoff), self.species)
        near_a = (atoms.vector_akv.norm(dim=2) < self.cutoff * (1 - 1e-6)).sum(1)
        self.neighbors.fill_(max(float(near_a.double().mean()), 1.0))
        for statistics in self._fit_environments, self._fit_descriptors:
            for z, rows in enumerate(atoms.slices):
                if rows.start == rows.stop:
                    raise ValueError(f'no snapshot to take scales from has the element {self.species[z]}')
                statistics(z, self._environments(atoms)[rows])
        head = CoefficientHead(self.basis, 1, 1).to(self.mean_sn)
        c_tlanm = [head.expand(y_slakm[0]) for y_slakm in fit(head.expand, head.sizes)]
        c_lanm = [torch.cat(c_tanm)[atoms.order_a] for c_tanm in zip(*c_tlanm, strict=True)]
        for z, matrix_head in enumerate(self._matrix_heads):
            self._fit_radial(z, [c_anm[atoms.slices[z]] for c_anm in c_lanm])
            matrix_head.fit_scale(total_matrices(D_tzsaii, self.species[z]))

    def _fit_environments(self, s: int, T_aML: torch.Tensor) -> None:
        """Scales of T of one species; an l that symmetry forbids in the training data gets no huge one."""
        rms_Ml = (T_aML.square().mean(0) @ (self.of_l_Ll / self.of_l_Ll.sum(0))).sqrt()
        least_M1 = SMALLEST * rms_Ml.square().mean(1, keepdim=True).sqrt()
        self.T_scale_sMl[s] = 1 / torch.maximum(rms_Ml, least_M1).clamp(min=1e-3)

    def _fit_descriptors(self, s: int, T_aML: torch.Tensor) -> None:
        D_ax = self._descriptors(T_aML)
        self.D_mean_sx[s] = D_ax.mean(0)
        self.D_scale_sx[s] = D_ax.std(0, correction=0).clamp(min=1e-2)

    def _fit_radial(self, s: int, c_lanm: Coefficient) -> None:
        """The mean of one species, and what is left on spheres around its atoms (RMS), from least squares."""
        r_n = self.basis.spacing * np.arange(self.basis.number)
        B_rn = torch.from_numpy(self.basis.splines(r_n))
        norm_n = torch.from_numpy(self.basis.norm_n(0)).to(self.mean_sn)
        mean_n = c_lanm[0][:, :, 0].mean(0)
        self.mean_sn[s] = mean_n * norm_n / sqrt(4 * pi)
        square_r = torch.zeros(len(r_n), dtype=torch.float64)
        for l, c_anm in enumerate(c_lanm):
            rest_anm = (c_anm - (mean_n[:, None] if l == 0 else 0)).double().cpu()
            radial_rn = B_rn * torch.from_numpy(self.basis.norm_n(l) * r_n[:, None] ** l)
            square_r += torch.einsum('rn, anm -> arm', radial_rn, rest_anm).square().sum(2).mean(0) / (4 * pi)
        self.scale_sn[s] = square_r.sqrt().clamp(min=float(square_r.max().sqrt()) * 1e-3)


def _by_atom(
    a_p: torch.Tensor, e_pv: torch.Tensor
) -> tuple[torch.Tensor, tuple[torch.Tensor, torch.Tensor], torch.Tensor]:
    """Points sorted by atoms → the atoms, where each point is, and vectors (atoms, most points of one, 3), padded."""
    atoms_a, row_p, count_a = a_p.unique_consecutive(return_inverse=True, return_counts=True)
    column_p = torch.arange(len(a_p), device=a_p.device) - (count_a.cumsum(0) - count_a)[row_p]
    width = max(count_a.tolist(), default=0)
    return atoms_a, (row_p, column_p), e_pv.new_zeros(len(atoms_a), width, 3).index_put((row_p, column_p), e_pv)
