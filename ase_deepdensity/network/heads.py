"""From features to what a density is made of: coefficients of a basis and PAW atomic density matrices."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import torch

from ase_deepdensity.basis import SplineBasis
from ase_deepdensity.basis.coupling import coupling_tensors, couplings

SMALLEST = 0.03
"""Scale of an output that hardly occurs in the training data, in units of that of the others."""


def tensors_shape(l_j: Sequence[int], lmax: int) -> tuple[int, int, int]:
    """Of :func:`coupling_tensors` with L ≤ lmax, one behind the other."""
    ni = sum(2 * l + 1 for l in l_j)
    return sum(2 * b.L + 1 for b in couplings(l_j) if b.L <= lmax), ni, ni


def coupling_scales(x_xabm: Sequence[torch.Tensor]) -> list[torch.Tensor]:
    """RMS (couplings,) of components (natoms, couplings, 2L+1), of each L and parity.

    No scale is below ``SMALLEST`` times that of all together, see :func:`coefficient_scales`.
    """
    square_xb = [x_abm.square().mean((0, 2)) for x_abm in x_xabm]
    least = SMALLEST * float(torch.cat(square_xb).mean().sqrt())
    return [square_b.sqrt().clamp(min=max(least, 1e-8)) for square_b in square_xb]


def matrix_shapes(l_j: Sequence[int], lmax: int, prefix: str) -> dict[str, tuple[int, ...]]:
    """Shapes of the tensors T in the state dict of an :class:`AtomicMatrixHead`, by name."""
    ni = sum(2 * l + 1 for l in l_j)
    counts = Counter((b.L, b.pseudo) for b in couplings(l_j) if b.L <= lmax)
    return {f'{prefix}T{L}{"p" if pseudo else ""}_bmii': (n, 2 * L + 1, ni, ni) for (L, pseudo), n in counts.items()}


class AtomicMatrixHead(torch.nn.Module):
    """D_ii = D̄_ii + Σ_couplings Σ_m x_m T_mii for the atoms of one species.

    Parameters
    ----------
    l_j
        Angular momenta of the projectors.
    channels, pseudo_channels
        Sizes of the features and pseudo features, whose lmax are ``lmax``.
    empty
        Leave the matrices T out, which a state dict will bring: saves the import of e3nn.
    """

    mean_ii: torch.Tensor
    T0_bmii: torch.Tensor

    def __init__(self, l_j: Sequence[int], lmax: int, channels: int, pseudo_channels: int, empty: bool = False):
        super().__init__()
        ni = sum(2 * l + 1 for l in l_j)
        all_couplings = couplings(l_j)
        tensors = None if empty else coupling_tensors(l_j)
        self.index = {  # (L, pseudo) → which couplings
            key: [i for i, b in enumerate(all_couplings) if (b.L, b.pseudo) == key]
            for key in sorted({(b.L, b.pseudo) for b in all_couplings if b.L <= lmax})
        }
        self.readouts = torch.nn.ModuleDict()
        for (L, pseudo), members in self.index.items():
            name = f'{L}{"p" if pseudo else ""}'
            size = pseudo_channels if pseudo else channels
            readout = torch.nn.Linear(size, len(members), bias=L == 0)
            torch.nn.init.normal_(readout.weight, std=0.3 / size**0.5)
            self.readouts[name] = readout
            T_bmii = torch.zeros(len(members), 2 * L + 1, ni, ni)
            if tensors is not None:
                T_bmii[:] = torch.stack([tensors[i] for i in members])
            self.register_buffer(f'T{name}_bmii', T_bmii)
            self.register_buffer(f'scale{name}_b', torch.ones(len(members)))
        self.register_buffer('mean_ii', torch.zeros(ni, ni))

    def components(self, D_aii: torch.Tensor) -> dict[str, torch.Tensor]:
        """x of each readout, (natoms, couplings, 2L+1), of given matrices."""
        return {
            name: torch.einsum('aij, bmij -> abm', D_aii, getattr(self, f'T{name}_bmii').to(D_aii))
            for name in self.readouts
        }

    @torch.no_grad()
    def fit_scale(self, D_aii: torch.Tensor) -> None:
        """Take mean (its rotation-invariant part) and RMS of each coupling from training matrices (natoms, ni, ni)."""
        if not self.readouts:  # an atom without projectors
            return
        invariant = self.components(D_aii)['0'].mean(0)
        self.mean_ii.copy_(torch.einsum('bm, bmij -> ij', invariant, self.T0_bmii.to(D_aii)))
        scales = coupling_scales(list(self.components(D_aii - self.mean_ii.to(D_aii)).values()))
        for name, scale_b in zip(self.readouts, scales, strict=True):
            getattr(self, f'scale{name}_b').copy_(scale_b)

    def forward(self, h_mac: torch.Tensor, pseudo_mac: torch.Tensor) -> torch.Tensor:
        """Features of these atoms → (natoms, ni, ni)."""
        D_aii = self.mean_ii.expand(h_mac.shape[1], *self.mean_ii.shape)
        for (L, pseudo), name in zip(self.index, self.readouts, strict=True):
            features_mac = (pseudo_mac if pseudo else h_mac)[L * L : (L + 1) ** 2]
            x_mab = self.readouts[name](features_mac) * getattr(self, f'scale{name}_b')
            D_aii = D_aii + torch.einsum('mab, bmij -> aij', x_mab, getattr(self, f'T{name}_bmii'))
        return D_aii


class OrthonormalFunctions(torch.nn.Module):
    """Combinations W = S^(−1/2) of a basis that are orthonormal at one centre, for each l.

    Directions in which the functions are nearly linearly dependent are left out.

    Parameters
    ----------
    basis
        Whose functions have the overlaps S.
    """

    def __init__(self, basis: SplineBasis, smallest: float = 1e-5):
        super().__init__()
        self.sizes = []
        """Number of combinations for each l."""
        for l in range(basis.lmax + 1):
            value_k, vector_nk = torch.linalg.eigh(torch.from_numpy(basis.overlap_nn(l)))
            keep = value_k > smallest
            W_nk = vector_nk[:, keep] / value_k[keep].sqrt()
            self.sizes.append(W_nk.shape[1])
            self.register_buffer(f'W{l}_nk', W_nk.to(torch.get_default_dtype()), persistent=False)

    def expand(self, y_lakm: list[torch.Tensor]) -> list[torch.Tensor]:
        """Orthonormal coefficients (..., k, 2l+1) → coefficients of the basis (..., n, 2l+1)."""
        return [torch.einsum('nk, ...km -> ...nm', getattr(self, f'W{l}_nk'), y) for l, y in enumerate(y_lakm)]


def coefficient_scales(y_lakm: Sequence[torch.Tensor]) -> tuple[torch.Tensor, list[torch.Tensor]]:
    """Mean (k,) of l = 0 and for each l the RMS (k,) around it, of orthonormal coefficients (natoms, k, 2l+1).

    No scale is below ``SMALLEST`` times that of l = 0: what symmetry forbids in the training data must be within reach
    where it is broken.
    """
    mean_k = y_lakm[0][:, :, 0].mean(0)
    x_lakm = [y_lakm[0] - mean_k[:, None], *y_lakm[1:]]
    least = SMALLEST * float(x_lakm[0].square().mean().sqrt())
    return mean_k, [x_akm.square().mean((0, 2)).sqrt().clamp(min=max(least, 1e-6)) for x_akm in x_lakm]


class CoefficientHead(OrthonormalFunctions):
    """Features → coefficients c_anm of the normalised radial functions, through combinations that are orthonormal.

    For each l: c_nm = Σ_k W_nk (mean_k δ_l0 + scale_k y_km), see :class:`OrthonormalFunctions`.
    """

    mean_sk: torch.Tensor

    def __init__(self, basis: SplineBasis, channels: int, nspecies: int):
        super().__init__(basis)
        for l, size in enumerate(self.sizes):
            self.register_buffer(f'scale{l}_sk', torch.ones(nspecies, size))
        self.register_buffer('mean_sk', torch.zeros(nspecies, self.sizes[0]))
        self.readout_lsck = torch.nn.ParameterList(
            torch.randn(nspecies, channels, size) * 0.3 / channels**0.5 for size in self.sizes
        )

    @torch.no_grad()
    def fit_scale(self, s: int, y_lakm: list[torch.Tensor]) -> None:
        """Take mean and RMS of one species, see :func:`coefficient_scales`."""
        self.mean_sk[s], scale_lk = coefficient_scales(y_lakm)
        for l, scale_k in enumerate(scale_lk):
            getattr(self, f'scale{l}_sk')[s] = scale_k

    def forward(self, h_mac: torch.Tensor, slices: list[slice]) -> list[torch.Tensor]:
        """(m, natoms, channels) → for each l (natoms, n, 2l+1)."""
        y_lakm = []
        for l, readout_sck in enumerate(self.readout_lsck):
            part_mac = h_mac[l * l : (l + 1) ** 2]
            y_mak = torch.cat(
                [
                    torch.matmul(part_mac[:, atoms], readout_sck[s]) * getattr(self, f'scale{l}_sk')[s]
                    + (self.mean_sk[s] if l == 0 else 0)
                    for s, atoms in enumerate(slices)
                ],
                dim=1,
            )
            y_lakm.append(y_mak.permute(1, 2, 0))
        return self.expand(y_lakm)
