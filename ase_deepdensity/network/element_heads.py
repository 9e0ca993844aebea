"""Heads that many elements share: what is common to all, to elements with the same projectors, and an element's own."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from ase_deepdensity.basis import SplineBasis
from ase_deepdensity.basis.coupling import coupling_tensors, couplings
from ase_deepdensity.network.contract import Matrices
from ase_deepdensity.network.heads import (
    OrthonormalFunctions,
    coefficient_scales,
    coupling_scales,
)
from ase_deepdensity.network.readout import LastLayer, Readout
from ase_deepdensity.network.system import System

Channel = tuple[int, bool]
"""Angular momentum of features, and whether they are of the other parity (pseudo)."""


class MatrixReadout(torch.nn.Module):
    """What elements with the same angular momenta ``l_j`` of the projectors share: how their matrices are made.

    Parameters
    ----------
    lmax
        Of the features; couplings to higher L are left at their mean.
    channels, pseudo_channels
        Numbers of features.
    members
        Of the ensemble.
    empty
        Leave out the tensors that a state dict will bring: saves the import of e3nn.
    """

    T_xii: torch.Tensor

    def __init__(self, l_j: Sequence[int], lmax: int, channels: int, pseudo_channels: int, members: int, empty: bool):
        super().__init__()
        all_couplings = couplings(l_j)
        self.index: dict[Channel, list[int]] = {
            key: [i for i, b in enumerate(all_couplings) if (b.L, b.pseudo) == key]
            for key in sorted({(b.L, b.pseudo) for b in all_couplings if b.L <= lmax})
        }
        self.names = [readout_name(key) for key in self.index]
        self.readouts = torch.nn.ParameterDict()
        for name, ((_, pseudo), which) in zip(self.names, self.index.items(), strict=True):
            size = pseudo_channels if pseudo else channels
            self.readouts[name] = torch.randn(members, size, len(which)) * 0.3 / size**0.5
        ni = sum(2 * l + 1 for l in l_j)
        size = sum(len(which) * (2 * L + 1) for (L, _), which in self.index.items())
        self.register_buffer('T_xii', torch.zeros(size, ni, ni))
        if not empty and size:
            tensors = coupling_tensors(l_j)
            self.T_xii.copy_(torch.cat([tensors[i] for which in self.index.values() for i in which]))

    def components(self, D_aii: torch.Tensor) -> list[torch.Tensor]:
        """Of given matrices, for each L and parity (natoms, couplings, 2L+1)."""
        x_ax = torch.einsum('aij, xij -> ax', D_aii, self.T_xii.to(D_aii))
        sizes = [len(which) * (2 * L + 1) for (L, _), which in self.index.items()]
        return [
            part_ax.unflatten(1, (-1, 2 * L + 1))
            for part_ax, (L, _) in zip(x_ax.split(sizes, dim=1), self.index, strict=True)
        ]


class ElementReadout(torch.nn.Module):
    """What belongs to one element: means and scales of its outputs, and a linear map that starts at zero."""

    mean_k: torch.Tensor
    mean_ii: torch.Tensor

    def __init__(self, functions: OrthonormalFunctions, readout: MatrixReadout, channels: int, pseudo_channels: int):
        super().__init__()
        self.register_buffer('mean_k', torch.zeros(functions.sizes[0]))
        self.register_buffer('mean_ii', torch.zeros(readout.T_xii.shape[1:]))
        self.own = torch.nn.ParameterDict()
        for L, size in enumerate(functions.sizes):
            self.register_buffer(f'scale{L}_k', torch.ones(size))
        for (L, pseudo), which in readout.index.items():
            self.register_buffer(f'scale{readout_name((L, pseudo))}_b', torch.ones(len(which)))
        for L, pseudo in channels_of(functions, readout):
            number = len(readout.index.get((L, pseudo), ())) + (
                functions.sizes[L] if has_functions(functions, L, pseudo) else 0
            )
            self.own[readout_name((L, pseudo))] = torch.zeros(pseudo_channels if pseudo else channels, number)


def readout_name(channel: Channel) -> str:
    """'0', '2', '1p' (pseudo)."""
    L, pseudo = channel
    return f'{L}{"p" if pseudo else ""}'


def has_functions(functions: OrthonormalFunctions, L: int, pseudo: bool) -> bool:
    """Whether features of this kind write the density."""
    return not pseudo and L < len(functions.sizes)


def channels_of(functions: OrthonormalFunctions, readout: MatrixReadout) -> list[Channel]:
    """All kinds of features that are read for an element."""
    return sorted({(L, False) for L in range(len(functions.sizes))} | set(readout.index))


class ElementHeads(torch.nn.Module):
    """Features → coefficients of a density and atomic matrices, for atoms of any elements.

    For the channel L, and features h of an atom of the element Z with projectors of the kind p,

        (y_k, x_b)_m = Σ_c h_cm (shared_ck ⊕ shared^p_cb + own^Z_c(kb)),     scaled and moved by what is usual for Z.

    Parameters
    ----------
    l_zj
        Angular momenta of the projectors of each element.
    members
        Of the ensemble; they differ in what is shared.
    """

    def __init__(
        self,
        basis: SplineBasis,
        lmax: int,
        channels: int,
        pseudo_channels: int,
        species: Sequence[int],
        l_zj: Sequence[Sequence[int]],
        members: int,
        empty: bool,
    ):
        super().__init__()
        self.species = tuple(species)
        self.members = members
        self.kinds = [kind_of(l_j) for l_j in l_zj]
        self.functions = OrthonormalFunctions(basis)
        self.shared = torch.nn.ParameterList(
            torch.randn(members, channels, size) * 0.3 / channels**0.5 for size in self.functions.sizes
        )
        self.matrices = torch.nn.ModuleDict(
            {
                kind_of(l_j): MatrixReadout(l_j, lmax, channels, pseudo_channels, members, empty)
                for l_j in sorted({tuple(l_j) for l_j in l_zj})
            }
        )
        self.elements = torch.nn.ModuleDict(
            {
                str(Z): ElementReadout(self.functions, self.matrices[kind], channels, pseudo_channels)  # type: ignore[arg-type]
                for Z, kind in zip(species, self.kinds, strict=True)
            }
        )

    def of(self, number: int) -> tuple[ElementReadout, MatrixReadout]:
        """An element's own part, and that of its kind."""
        kind = self.kinds[self.species.index(number)]
        return self.elements[str(number)], self.matrices[kind]  # type: ignore[return-value]

    def last_layer(self, numbers: Sequence[int] | None = None) -> LastLayer:
        """The read-outs of all or some elements, with what belongs to an element alone as their weights."""
        return LastLayer(
            self.functions,
            {
                (Z, *channel): self._readout(Z, channel)
                for Z in (self.species if numbers is None else numbers)
                for channel in channels_of(self.functions, self.of(Z)[1])
            },
        )

    def _readout(self, number: int, channel: Channel) -> Readout:
        element, readout = self.of(number)
        (L, pseudo), name = channel, readout_name(channel)
        functions = self.functions.sizes[L] if has_functions(self.functions, L, pseudo) else 0
        scales = [getattr(element, f'scale{L}_k')] if functions else []
        T_bmii = element.mean_ii.new_zeros(0, 2 * L + 1, *element.mean_ii.shape)
        if name in readout.readouts:
            sizes = [len(which) * (2 * l + 1) for (l, _), which in readout.index.items()]
            T_bmii = readout.T_xii.split(sizes)[readout.names.index(name)].unflatten(0, (-1, 2 * L + 1))
            scales.append(getattr(element, f'scale{name}_b'))
        own = element.own[name].data
        return Readout(len(own), torch.cat(scales), functions, T_bmii, (own,))

    def forward(
        self, h_mac: torch.Tensor, pseudo_mac: torch.Tensor, system: System
    ) -> tuple[list[torch.Tensor], Matrices]:
        """(m, natoms, channels) twice → for each l (members, natoms, n, 2l+1), and (members, natoms, ni, ni) by number.

        Of elements that do not occur nothing is computed.
        """
        y_zleakm, D_zeaii = [], {}
        for Z in system.numbers:
            rows = system.atoms_of(Z)
            y_leakm, D_zeaii[Z] = self._element(h_mac[:, rows], pseudo_mac[:, rows], Z)
            y_zleakm.append(y_leakm)
        back_a = torch.argsort(torch.cat([system.atoms_of(Z) for Z in system.numbers]))
        c_leanm = self.functions.expand([torch.cat(y_zeakm, dim=1) for y_zeakm in zip(*y_zleakm, strict=True)])
        return [c_eanm[:, back_a] for c_eanm in c_leanm], D_zeaii

    def means(self, system: System) -> tuple[list[torch.Tensor], Matrices]:
        """Of the training atoms of each element: for each l (natoms, n, 2l+1), and (natoms, ni, ni) by number."""
        first = self.elements[str(system.numbers[0])].mean_k
        y_lakm = [
            first.new_zeros(system.natoms, size, 2 * l + 1)  # type: ignore[operator]
            for l, size in enumerate(self.functions.sizes)
        ]
        D_zaii = {}
        for Z in system.numbers:
            element, rows = self.of(Z)[0], system.atoms_of(Z)
            y_lakm[0][rows] = element.mean_k[:, None]
            D_zaii[Z] = element.mean_ii.expand(len(rows), *element.mean_ii.shape)
        return self.functions.expand(y_lakm), D_zaii

    def _element(
        self, h_mac: torch.Tensor, pseudo_mac: torch.Tensor, number: int
    ) -> tuple[list[torch.Tensor], torch.Tensor]:
        """The same for the atoms of one element, coefficients of orthonormal functions."""
        element, readout = self.of(number)
        y_leakm, x_eax = [], []
        for L, pseudo in channels_of(self.functions, readout):
            name = readout_name((L, pseudo))
            features_mac = (pseudo_mac if pseudo else h_mac)[L * L : (L + 1) ** 2]
            nfunctions, parts_eck = 0, []
            if has_functions(self.functions, L, pseudo):
                nfunctions = self.functions.sizes[L]
                parts_eck.append(self.shared[L])
            if name in readout.readouts:
                parts_eck.append(readout.readouts[name])
            weight_eck = torch.cat(parts_eck, dim=2) + element.own[name]
            out_eakm = torch.matmul(features_mac, weight_eck[:, None]).permute(0, 2, 3, 1)
            if nfunctions:
                y_eakm = out_eakm[:, :, :nfunctions] * getattr(element, f'scale{L}_k')[:, None]
                y_leakm.append(y_eakm + element.mean_k[:, None] if L == 0 else y_eakm)
            if name in readout.readouts:
                x_eax.append((out_eakm[:, :, nfunctions:] * getattr(element, f'scale{name}_b')[:, None]).flatten(2))
        if not x_eax:
            return y_leakm, element.mean_ii.expand(self.members, h_mac.shape[1], *element.mean_ii.shape)
        D_eaii = torch.einsum('eax, xij -> eaij', torch.cat(x_eax, dim=2), readout.T_xii) + element.mean_ii
        return y_leakm, D_eaii

    @torch.no_grad()
    def fit_scale(self, number: int, y_lakm: Sequence[torch.Tensor], D_aii: torch.Tensor) -> None:
        """Means and scales of an element from its training atoms: orthonormal coefficients (natoms, k, 2l+1), D."""
        element, readout = self.of(number)
        mean_k, scale_lk = coefficient_scales(y_lakm)
        element.mean_k.copy_(mean_k)
        for l, scale_k in enumerate(scale_lk):
            getattr(element, f'scale{l}_k').copy_(scale_k)
        if not readout.names:
            return
        element.mean_ii.copy_(self._invariant_mean(readout, D_aii))
        scales = coupling_scales(readout.components(D_aii - element.mean_ii.to(D_aii)))
        for name, scale_b in zip(readout.names, scales, strict=True):
            getattr(element, f'scale{name}_b').copy_(scale_b)

    def _invariant_mean(self, readout: MatrixReadout, D_aii: torch.Tensor) -> torch.Tensor:
        """The rotation-invariant part of the mean, (ni, ni)."""
        number = len(readout.index[0, False])
        x_b = readout.components(D_aii)[readout.names.index('0')][:, :, 0].mean(0)
        return torch.einsum('b, bij -> ij', x_b, readout.T_xii[:number].to(D_aii))

    @torch.no_grad()
    def take_scales(self, number: int, others: Sequence[int]) -> None:
        """Scales of an element that no data are known of: the geometric mean of others, those of its kind first."""
        element, _ = self.of(number)
        kind = self.kinds[self.species.index(number)]
        alike = [Z for Z in others if self.kinds[self.species.index(Z)] == kind]
        for name, scale_x in element.named_buffers():
            if name.startswith('scale'):
                known = [getattr(self.elements[str(Z)], name) for Z in alike or others
                         if getattr(self.elements[str(Z)], name, scale_x[:0]).shape == scale_x.shape]  # fmt: skip
                if known:
                    scale_x.copy_(torch.stack(known).log().mean(0).exp())


def kind_of(l_j: Sequence[int]) -> str:
    """A name for a set of projectors, such as 'ssp' or 'sspp'."""
    return ''.join('spdfg'[l] for l in l_j) or 'none'
