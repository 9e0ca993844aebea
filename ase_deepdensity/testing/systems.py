"""What networks are tried on, and what they say of it in a form that can be compared."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from ase import Atoms

from ase_deepdensity.basis import SplineBasis
from ase_deepdensity.basis.harmonics import solid_harmonics
from ase_deepdensity.basis.splines import splines
from ase_deepdensity.network.contract import Contribution, DensityNetwork
from ase_deepdensity.network.system import System, build_system

VECTORS = np.random.default_rng(9).normal(size=(12, 3))
"""From each atom to where the density that it contributes is looked at, Å."""
KPTS = np.array([[0.25, 0, 0.1], [-0.25, 0, 0.1]])
"""Scaled k-points, for networks that are told about them; time reversal brings two more."""


def element(number: int, l_j: Sequence[int]) -> Any:
    """A free atom to describe an element with: right in form, made up in its figures."""
    ni = sum(2 * l + 1 for l in l_j)
    return SimpleNamespace(
        nvalence=float(number % 18),
        l_j=tuple(l_j),
        f_j=tuple(1.0 / (1 + j) for j in range(len(l_j))),
        eps_j=tuple(-0.7 * number - l for l in l_j),
        D_ii=np.eye(ni),
        nt=_Decay(number),
    )


@dataclass
class _Decay:
    number: int
    cutoff: float = 4.0

    def __call__(self, r: np.ndarray) -> np.ndarray:
        return np.exp(-(self.number**0.5) * r)


def system_of(network: DensityNetwork, atoms: Atoms, position_av: torch.Tensor | None = None) -> System:
    """For a network: k-points ``atoms.info['kpts']`` or ``KPTS``, an electron per proton, ``atoms.info['charge']``."""
    waves = None
    if network.sees_kpoints:
        waves = network.waves(atoms.cell.array, atoms.info.get('kpts', KPTS), float(atoms.numbers.sum()))
    return build_system(
        atoms.numbers,
        atoms.positions if position_av is None else position_av,
        atoms.cell.array,
        atoms.pbc,
        network.cutoff,
        charge=atoms.info.get('charge', 0.0),
        magmom_a=atoms.get_initial_magnetic_moments(),
        waves=waves,
    )


def meeting(distance: float) -> Atoms:
    """Three atoms, the third ``distance`` away from the first."""
    return Atoms('OHO', [[0, 0, 0], [0, 0.9, -0.3], [0, 0, distance]], cell=[20] * 3)


def box(natoms: int = 9, seed: int = 0) -> Atoms:
    """Atoms at random in a small skewed cell, none too near to another, elements mixed."""
    rng = np.random.default_rng(seed)
    cell = np.array([[4.5, 0.3, 0.0], [-0.8, 4.2, 0.4], [0.5, 0.9, 4.8]])
    atoms = Atoms(cell=cell, pbc=True)
    while len(atoms) < natoms:
        more = atoms + Atoms('OHH'[len(atoms) % 3], [rng.random(3) @ cell])
        if len(more) == 1 or more.get_all_distances(mic=True)[-1, :-1].min() > 0.9:
            atoms = more
    return atoms


def magnetic_box() -> Atoms:
    """The same with moments of both signs."""
    atoms = box()
    atoms.set_initial_magnetic_moments(np.random.default_rng(2).normal(size=len(atoms)))
    return atoms


def wigner(rotation_vv: np.ndarray, l: int) -> np.ndarray:
    """(2l+1, 2l+1) matrix with Y_m(R r) = Σ_n W_mn Y_n(r)."""
    points_pv = torch.from_numpy(np.random.default_rng(1).normal(size=(50, 3)))
    Y_pm = solid_harmonics(points_pv, l)[:, l * l :].numpy()
    turned_pm = solid_harmonics(points_pv @ torch.from_numpy(rotation_vv.T), l)[:, l * l :].numpy()
    W_mm: np.ndarray = np.linalg.lstsq(Y_pm, turned_pm, rcond=None)[0].T
    return W_mm


@dataclass
class Said:
    """What a network says of each atom, in the order of the atoms."""

    rho_esap: torch.Tensor
    """(members, 1 or 2, natoms, points) each atom's own contribution."""
    D_aesii: list[torch.Tensor]
    """For each atom (members, 1 or 2, ni, ni)."""
    invariants_ac: torch.Tensor

    def tensors(self) -> list[torch.Tensor]:
        return [self.rho_esap, *self.D_aesii, self.invariants_ac]

    def of(self, atoms_a: Sequence[int]) -> Said:
        """Of some atoms, in this order."""
        return Said(self.rho_esap[:, :, atoms_a], [self.D_aesii[a] for a in atoms_a], self.invariants_ac[atoms_a])


@dataclass
class AtVectors:
    """:class:`.Places` of each atom by itself: its own contribution at the same vectors from it."""

    basis: SplineBasis
    natoms: int
    r_pv: torch.Tensor

    def expansion(self, c_lesanm: list[torch.Tensor]) -> torch.Tensor:
        Y_pL, B_pn = solid_harmonics(self.r_pv, self.basis.lmax), splines(self.basis, self.r_pv.norm(dim=1))
        rho_lesap = []
        for l, c_esanm in enumerate(c_lesanm):
            norm_n = torch.from_numpy(self.basis.norm_n(l)).to(B_pn)
            Y_pm = Y_pL[:, l * l : (l + 1) ** 2]
            rho_lesap.append(torch.einsum('pm, pn, n, esanm -> esap', Y_pm, B_pn, norm_n, c_esanm))
        return torch.stack(rho_lesap).sum(0)

    def pointwise(self, contribution: Contribution, cutoff: float) -> torch.Tensor:
        assert cutoff <= self.basis.cutoff
        a_p = torch.arange(self.natoms, device=self.r_pv.device).repeat_interleave(len(self.r_pv))
        return contribution(a_p, self.r_pv.repeat(self.natoms, 1)).unflatten(2, (self.natoms, -1))
