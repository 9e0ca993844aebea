"""Densities at any points of several systems, in one flat list: plain torch, differentiable, on any device."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import torch

from ase_deepdensity.basis import SplineBasis
from ase_deepdensity.harmonics import solid_harmonics
from ase_deepdensity.network.contract import Coefficient, Contribution, Output
from ase_deepdensity.network.radial import splines
from ase_deepdensity.network.system import System

MAX_PAIRS = 2**21
"""Distances between atoms and points that are held at once."""


@dataclass(frozen=True, eq=False)
class Points:
    """Points in the cells of some systems, those of one system after those of the other."""

    position_pv: torch.Tensor
    """(points, 3) Å, float64."""
    system_p: torch.Tensor
    """(points,) index of the system, int64, ascending."""
    wraps_tc: torch.Tensor
    """(nsystems, 3) are there periodic images along each lattice vector?"""

    def to(self, device: torch.device | str) -> Points:
        """The same elsewhere."""
        return Points(self.position_pv.to(device), self.system_p.to(device), self.wraps_tc.to(device))


def density_at_points(output: Output, system: System, points: Points, basis: SplineBasis) -> torch.Tensor:
    """What a network says of a system, at points of it: (members, 1 or 2, points) electrons/Å³.

    Differentiable in the output, and in the positions of atoms and points.
    """
    return output.density(_AtPoints(system, points, basis))


@dataclass(frozen=True, eq=False)
class Pairs:
    """Atoms and points near them; one pair for each periodic image."""

    atom_q: torch.Tensor
    """(pairs,) index of the atom, int64, ascending."""
    point_q: torch.Tensor
    """(pairs,) index of the point, int64."""
    vector_qv: torch.Tensor
    """(pairs, 3) from the atom to the point, Å, float64."""


@dataclass
class _AtPoints:
    """A :class:`.contract.Writer`."""

    system: System
    where: Points
    basis: SplineBasis

    def expansion(self, c_lanm: Coefficient) -> torch.Tensor:
        c_anL = torch.cat(
            [c_anm * torch.from_numpy(self.basis.norm_n(l)[:, None]).to(c_anm) for l, c_anm in enumerate(c_lanm)], 2
        )
        point_ak, vector_akv = self._by_atom
        vector_akv = vector_akv.to(c_anL)
        radial_akL = torch.bmm(splines(self.basis, vector_akv.norm(dim=2)), c_anL)
        value_ak = (radial_akL * solid_harmonics(vector_akv, self.basis.lmax)).sum(2)
        density_p = value_ak.new_zeros(len(self.where.position_pv) + 1)
        return density_p.index_add(0, point_ak.flatten(), value_ak.flatten())[:-1]

    def points(self, contribution: Contribution, cutoff: float) -> torch.Tensor:
        near = pairs(self.system, self.where, cutoff)
        value_esq = contribution(near.atom_q, near.vector_qv.to(self.system.vector_akv.dtype))
        density_esp = value_esq.new_zeros(*value_esq.shape[:2], len(self.where.position_pv))
        return density_esp.index_add(2, near.point_q, value_esq)

    @cached_property
    def _by_atom(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Padded lists for each atom: points (natoms, k), one past the last for padding, and vectors (natoms, k, 3)."""
        near, natoms = pairs(self.system, self.where, self.basis.cutoff), self.system.natoms
        number_a = near.atom_q.bincount(minlength=natoms)
        k_q = torch.arange(len(near.atom_q), device=number_a.device) - (number_a.cumsum(0) - number_a)[near.atom_q]
        width = int(number_a.max()) if natoms else 0
        point_ak = number_a.new_full((natoms, width), len(self.where.position_pv))
        point_ak[near.atom_q, k_q] = near.point_q
        far_v = near.vector_qv.new_tensor([0.0, 0.0, self.basis.cutoff])
        return point_ak, far_v.expand(natoms, width, 3).index_put((near.atom_q, k_q), near.vector_qv)


def pairs(system: System, points: Points, cutoff: float) -> Pairs:
    """All pairs of an atom and a point of the same system within ``cutoff`` (Å), periodic images included."""
    found = list[tuple[torch.Tensor, torch.Tensor, torch.Tensor]]()
    last_t = points.system_p.bincount(minlength=system.nsystems).cumsum(0).tolist()
    with torch.no_grad():
        for t, (first, last) in enumerate(zip([0, *last_t], last_t, strict=False)):
            if last > first:
                found += _pairs_of_system(system, points, t, slice(first, last), cutoff)
    atom_q, point_q, image_qv = (torch.cat(parts) for parts in zip(*found, strict=True))
    order_q = atom_q.argsort(stable=True)
    atom_q, point_q, image_qv = atom_q[order_q], point_q[order_q], image_qv[order_q]
    return Pairs(atom_q, point_q, points.position_pv[point_q] - system.position_av[atom_q] + image_qv)


def _pairs_of_system(
    system: System, points: Points, t: int, mine: slice, cutoff: float
) -> Iterator[tuple[torch.Tensor, torch.Tensor, torch.Tensor]]:
    """Atoms, points and what brings the point to the image that is near, Å; some atoms at a time."""
    cell_cv, wraps_c, atoms = system.cell_tcv[t], points.wraps_tc[t], system.slices[t]
    inverse_vc = torch.linalg.inv(cell_cv)
    reach_c = torch.where(wraps_c, cutoff * inverse_vc.norm(dim=0) + 0.5, 0.0).long()  # in lattice vectors
    shift_nc = torch.cartesian_prod(*(torch.arange(-n, n + 1, device=cell_cv.device) for n in reach_c.tolist()))
    number = max(1, MAX_PAIRS // (mine.stop - mine.start))
    for start in range(atoms.start, atoms.stop, number):
        some = slice(start, min(start + number, atoms.stop))
        away_apv = points.position_pv[mine] - system.position_av[some, None]
        home_apv = torch.where(wraps_c, -(away_apv @ inverse_vc).round(), 0.0) @ cell_cv
        for shift_v in shift_nc.to(cell_cv) @ cell_cv:
            image_apv = home_apv + shift_v
            a_q, p_q = torch.nonzero((away_apv + image_apv).square().sum(2) < cutoff**2, as_tuple=True)
            yield a_q + start, p_q + mine.start, image_apv[a_q, p_q]
