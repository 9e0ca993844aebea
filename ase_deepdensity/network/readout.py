"""The last layer of a network, which is linear: what it reads of atoms, and what other weights of it would say.

For an element Z and features h of the angular momentum L and one parity,

    y_om = s_o Σ_c h_cm w_co + what is usual for Z,

where the outputs o are first coefficients of orthonormal functions of the density, then couplings of the atomic matrix.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch

from ase_deepdensity.network.contract import Coefficients, Matrices
from ase_deepdensity.network.heads import AtomicMatrixHead, CoefficientHead, OrthonormalFunctions
from ase_deepdensity.network.system import System

Key = tuple[int, int, bool]
"""Atomic number, angular momentum L, and whether the features are of the other parity (pseudo)."""
Weights = dict[Key, torch.Tensor]
"""(channels, outputs) of the last layer, or (members, channels, outputs) of several."""
Features = dict[Key, torch.Tensor]
"""(2L+1, natoms of the element, channels), the atoms in the order of :meth:`.System.atoms_of`."""


@dataclass(frozen=True, eq=False)
class Readout:
    """What becomes of the features of one kind."""

    channels: int
    """Features that are read."""
    scale_o: torch.Tensor
    """(outputs,) of the outputs, those of the density first."""
    functions: int
    """Number of outputs that are coefficients of orthonormal functions."""
    T_bmii: torch.Tensor
    """(couplings, 2L+1, ni, ni) what the other outputs are coefficients of."""
    parts: tuple[torch.Tensor, ...]
    """The network's own weights (channels, some outputs): views of its parameters, which an addition changes."""

    @property
    def outputs(self) -> int:
        """Number of all."""
        return len(self.scale_o)


@dataclass(frozen=True, eq=False)
class LastLayer:
    """All read-outs of a network."""

    functions: OrthonormalFunctions
    """Of the density."""
    readouts: Mapping[Key, Readout]
    """For each element and kind of features."""

    def zeros(self, members: int | None = None) -> Weights:
        """Weights of the right shapes."""
        leading = () if members is None else (members,)
        return {
            key: readout.scale_o.new_zeros(*leading, readout.channels, readout.outputs)
            for key, readout in self.readouts.items()
        }

    def says(self, features: Features, weights: Weights, system: System) -> Coefficients:
        """What weights (members, channels, outputs) say of the atoms of a system, without what is usual for elements.

        It is linear in them: the difference of two networks that differ in the last layer only.
        """
        some = next(iter(weights.values()))
        y_leakm = [
            some.new_zeros(len(some), system.natoms, size, 2 * l + 1) for l, size in enumerate(self.functions.sizes)
        ]
        D_zesaii: Matrices = {}
        for key, x_mac in features.items():
            Z, L, _ = key
            readout, rows = self.readouts[key], system.atoms_of(Z)
            out_eoam = torch.einsum('mac, eco -> eaom', x_mac, weights[key]) * readout.scale_o[:, None]
            if readout.functions:
                y_leakm[L] = y_leakm[L].index_copy(1, rows, out_eoam[:, :, : readout.functions])
            if len(readout.T_bmii):
                D_eaii = torch.einsum('eabm, bmij -> eaij', out_eoam[:, :, readout.functions :], readout.T_bmii)
                D_zesaii[Z] = D_zesaii[Z] + D_eaii[:, None] if Z in D_zesaii else D_eaii[:, None]
        c_lesanm = [c_eanm[:, None] for c_eanm in self.functions.expand(y_leakm)]
        return Coefficients(D_zesaii, some.new_zeros(system.natoms, 0), c_lesanm)

    def add(self, change: Weights) -> None:
        """Change the network's weights; (channels, outputs)."""
        for key, change_co in change.items():
            start = 0
            for part in self.readouts[key].parts:
                part += change_co[:, start : start + part.shape[1]].to(part)
                start += part.shape[1]

    def components(self, D_zaii: Matrices, features: Features) -> dict[Key, torch.Tensor]:
        """The outputs (couplings, 2L+1, natoms) that matrices (natoms, ni, ni) of elements consist of."""
        return {
            key: torch.einsum('aij, bmij -> bma', D_zaii[key[0]], readout.T_bmii)
            / readout.scale_o[readout.functions :, None, None]
            for key, readout in self.readouts.items()
            if key in features and len(readout.T_bmii)
        }


def readouts_of(coefficients: CoefficientHead, s: int, matrices: AtomicMatrixHead) -> dict[tuple[int, bool], Readout]:
    """Of the heads of one species, by angular momentum and parity."""
    kinds = sorted({(l, False) for l in range(len(coefficients.sizes))} | set(matrices.index))
    return {kind: _readout_of(coefficients, s, matrices, *kind) for kind in kinds}


def _readout_of(coefficients: CoefficientHead, s: int, matrices: AtomicMatrixHead, L: int, pseudo: bool) -> Readout:
    scales, parts, functions = [], [], 0
    T_bmii = matrices.mean_ii.new_zeros(0, 2 * L + 1, *matrices.mean_ii.shape)
    if not pseudo and L < len(coefficients.sizes):
        functions = coefficients.sizes[L]
        scales.append(getattr(coefficients, f'scale{L}_sk')[s])
        parts.append(coefficients.readout_lsck[L].data[s])
    if (L, pseudo) in matrices.index:
        name = f'{L}{"p" if pseudo else ""}'
        T_bmii = getattr(matrices, f'T{name}_bmii')
        scales.append(getattr(matrices, f'scale{name}_b'))
        parts.append(matrices.readouts[name].weight.data.T)
    return Readout(len(parts[0]), torch.cat(scales), functions, T_bmii, tuple(parts))


def features_of_system(features: Features, system: System, t: int) -> Features:
    """Those of the atoms of system t, of the features of several systems together."""
    if system.nsystems == 1:
        return features
    part = {}
    for key, x_mac in features.items():
        rows = system.rows_of(key[0], t)
        if rows.stop > rows.start:
            part[key] = x_mac[:, rows]
    return part


def split(
    h_mac: torch.Tensor, pseudo_mac: torch.Tensor, last_layer: LastLayer, rows_z: Mapping[int, torch.Tensor | slice]
) -> Features:
    """The features of all atoms for each read-out of the elements that occur.

    Parameters
    ----------
    h_mac, pseudo_mac
        ((lmax+1)², natoms, channels) features of the two parities.
    rows_z
        Where the atoms of each element are in them.
    """
    return {
        (Z, L, pseudo): (pseudo_mac if pseudo else h_mac)[L * L : (L + 1) ** 2, rows_z[Z]]
        for Z, L, pseudo in last_layer.readouts
        if Z in rows_z
    }
