"""What atoms tell their neighbours: distances and directions to them, and the messages that travel along these."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import torch

from ase_deepdensity.basis.harmonics import solid_harmonics
from ase_deepdensity.network.radial import bessel
from ase_deepdensity.network.spherical import SphericalLinear, rms

MESSAGE = 0.3
"""Size of what neighbours tell before training, beside an atom's own features of 1."""
CHUNK = 256
"""Atoms whose neighbours' features are held at once where no gradient is needed."""


class MessageSizes(Protocol):
    """What messages need of the hyper-parameters of a network."""

    @property
    def lmax(self) -> int: ...
    @property
    def radial(self) -> int: ...
    @property
    def channels(self) -> int: ...
    @property
    def message_channels(self) -> int: ...


@dataclass
class Edges:
    """Distances and directions to the neighbours of each atom, expanded once for all layers."""

    R_akn: torch.Tensor
    """(natoms, k, radial) Bessel functions of the distance, Å^(−3/2); zero for places without a neighbour."""
    Y_amk: torch.Tensor
    """(natoms, (lmax+1)², k) spherical harmonics of the direction from the atom to the neighbour."""
    neighbor_ak: torch.Tensor
    """(natoms, k) index of the neighbour, int64."""

    @classmethod
    def of(cls, vector_akv: torch.Tensor, neighbor_ak: torch.Tensor, cutoff: float, radial: int, lmax: int) -> Edges:
        """From vectors to the neighbours, Å."""
        r_ak = vector_akv.norm(dim=2)
        Y_akm = solid_harmonics(vector_akv / r_ak[:, :, None], lmax)
        return cls(bessel(r_ak, cutoff, radial), Y_akm.transpose(1, 2), neighbor_ak)

    def rows(self, atoms: slice | torch.Tensor) -> Edges:
        """Those of some atoms."""
        return Edges(self.R_akn[atoms], self.Y_amk[atoms], self.neighbor_ak[atoms])

    @classmethod
    def join(cls, parts: Sequence[Edges]) -> Edges:
        """Those of some atoms after those of others."""
        if len(parts) == 1:
            return parts[0]
        return cls(
            *(torch.cat(tensors) for tensors in zip(*((e.R_akn, e.Y_amk, e.neighbor_ak) for e in parts), strict=True))
        )

    def narrowed(self, rows: slice | torch.Tensor, inner: slice | torch.Tensor) -> Edges:
        """Those of the atoms ``inner``, with their neighbours counted among the atoms ``rows`` that are left."""
        if isinstance(rows, slice):
            return self
        few = self.rows(inner)
        place_a = rows.new_zeros(max(int(x.max()) + 1 if x.numel() else 0 for x in (rows, few.neighbor_ak)))
        place_a[rows] = torch.arange(len(rows), device=rows.device)
        return Edges(few.R_akn, few.Y_amk, place_a[few.neighbor_ak])


class Message(torch.nn.Module):
    """What neighbours tell: Σ_J R_n(r_IJ) Y_lm(r̂_IJ) s_Jc and Σ_J R_n(r_IJ) h_Jclm, then mixed over n and c."""

    def __init__(self, hypers: MessageSizes):
        super().__init__()
        size = hypers.message_channels
        self.channels = size
        self.send = SphericalLinear(hypers.lmax, hypers.channels, size)
        self.scalars = torch.nn.Linear(hypers.channels, size)
        self.mix = SphericalLinear(hypers.lmax, 2 * hypers.radial * size, hypers.channels)
        self.scale = torch.nn.Parameter(torch.tensor(0.3), requires_grad=False)

    def forward(self, h_mac: torch.Tensor, edges: Edges) -> torch.Tensor:
        """Features of all atoms (m, natoms, channels) → what each is told, of the same shape."""
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

    @torch.no_grad()
    def fit_scale(self, h_mac: torch.Tensor, edges: Edges) -> None:
        """Give the scalars that atoms are told the size ``MESSAGE`` (RMS), for features of training atoms."""
        self.scale.mul_(MESSAGE / rms(self(h_mac, edges)[0]))

    def _gather(self, sent_amc: torch.Tensor, scalars_ac: torch.Tensor, edges: Edges) -> torch.Tensor:
        natoms, _, number = edges.R_akn.shape
        turned_aknc = edges.R_akn[:, :, :, None] * scalars_ac[edges.neighbor_ak][:, :, None, :]
        turned_amx = torch.bmm(edges.Y_amk, turned_aknc.flatten(2))
        passed_anx = torch.bmm(edges.R_akn.transpose(1, 2), sent_amc[edges.neighbor_ak].flatten(2))
        passed_anmc = passed_anx.view(natoms, number, -1, self.channels)
        passed_amx = passed_anmc.permute(0, 2, 1, 3).flatten(2)
        both_max = torch.cat([turned_amx, passed_amx], dim=2).permute(1, 0, 2).contiguous()
        return self.mix(both_max * self.scale, [slice(None)])
