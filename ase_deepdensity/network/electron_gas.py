"""What the k-points do to a metal: the response of free electrons at a cell's own k-points, as features of atoms.

The density of a metal depends on which states there are at the Fermi level, that is on cell and k-points as a whole,
which no network sees that looks at neighbours.  To first order in what the atoms do to free electrons, the density is

    Σ_J φ(r − R_J),   φ(r) = 1/V Σ_G u(|G|) χ(G) exp(iG·r),

with one smooth function u of each element and the response of free electrons at the k-points k (two spins)

    χ(G) = 2/V Σ_k w_k Σ_p (f_p − f_p+G) / (ε_p − ε_p+G),   p = k + reciprocal lattice vectors,

(J. Lindhard, Dan. Mat. Fys. Medd. 28, 8 (1954)).  What is left of χ when its limit for many k-points and a hot gas,
which is smooth and short-ranged, has been taken away is all that a network of near neighbours misses.  Features are
this field for some functions u, expanded in spherical harmonics around each atom: a network combines them with
what it knows of the neighbours, and they are as exactly symmetric as those.

The first order ends where many atoms scatter in phase: between the states that a reflection of the lattice couples it
opens a gap, and what χ says of them is too much.  Reflections are left out, smoothly in their structure factor.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from scipy.constants import electron_mass, elementary_charge, hbar
from scipy.optimize import brentq
from scipy.special import expit, logit

from ase_deepdensity.basis.harmonics import solid_harmonics
from ase_deepdensity.memory import check_memory

KINETIC = hbar**2 / (2 * electron_mass * elementary_charge) * 1e20
"""ħ²/2m, eV Å²."""
BANDS_u = np.arange(0.75, 4.5, 0.5)
"""Wave vectors, Å⁻¹, at which the functions u have their peaks: hats that fall to zero at the next ones."""
SPACING = 0.5
REFLECTION = 0.2
"""|Σ_J exp(iG·R_J)|² / N² from which on a wave counts as a reflection: 1/N on the average in a liquid, more than 0.3 at
the first reflections of a hot crystal."""
HOT = 2.0
"""eV: electrons of this temperature answer over about 2 Å only."""
EMPTY = 1e-5
"""Occupation below which a state is empty."""
ENERGIES = 400  # in the mean over a Fermi–Dirac distribution
CHUNK, WAVES = 256, 4096  # wave vectors at a time, for χ and for features


@dataclass(frozen=True)
class Waves:
    """Half of the plane waves of a cell (one of ±G), with what features are made of.

    Parameters
    ----------
    G_xv
        (nwaves, 3) wave vectors, Å⁻¹.
    Y_xm
        (nwaves, (lmax+1)²) spherical harmonics of their directions.
    weight_xwu
        (nwaves, nwidths, nfunctions) 2 u χ / V, Å⁻³ per eV Å³, for each width of the Fermi level and each function u.
    """

    G_xv: torch.Tensor
    Y_xm: torch.Tensor
    weight_xwu: torch.Tensor

    @classmethod
    def of(cls, cell_cv: np.ndarray, kpt_Kc: np.ndarray, electrons: float, widths: Sequence[float], lmax: int) -> Waves:
        """For a cell with valence electrons, at all k-points of its Brillouin zone, equally weighted.

        Parameters
        ----------
        cell_cv
            (3, 3) lattice vectors in rows, Å.
        kpt_Kc
            (K, 3) k-points, in units of the reciprocal lattice vectors.
        electrons
            Valence electrons in the cell.
        widths
            Of the Fermi–Dirac distribution, eV: each gives ``len(BANDS_u)`` features.
        """
        cell_cv, kpt_Kc = np.ascontiguousarray(cell_cv, float), np.ascontiguousarray(kpt_Kc, float)
        return _waves(cell_cv.tobytes(), kpt_Kc.tobytes(), float(electrons), tuple(widths), lmax)

    def features(self, R_av: torch.Tensor) -> torch.Tensor:
        """Σ_x weight_xwu cut_x Y_xm Re[i^l Σ_J exp(iG·(R_I − R_J))] of each atom I: (m, natoms, wu), float64.

        ``R_av``: (natoms, 3) positions, Å.
        """
        starts = range(0, len(self.G_xv), WAVES)
        return torch.stack([self._part(R_av.double(), slice(start, start + WAVES)) for start in starts]).sum(0)

    def _part(self, R_av: torch.Tensor, waves: slice) -> torch.Tensor:
        """The sum over some waves."""
        Y_xm = self.Y_xm[waves]
        phase_ax = R_av @ self.G_xv[waves].T
        cos_ax, sin_ax = phase_ax.cos(), phase_ax.sin()
        C_x, S_x = cos_ax.sum(0), sin_ax.sum(0)
        real_ax, imaginary_ax = cos_ax * C_x + sin_ax * S_x, sin_ax * C_x - cos_ax * S_x
        turned = real_ax, -imaginary_ax, -real_ax, imaginary_ax  # Re[i^l z] for l mod 4
        in_phase_x = (C_x**2 + S_x**2) / len(R_av) ** 2
        weight_xc = self.weight_xwu[waves].flatten(1) / (1 + (in_phase_x[:, None] / REFLECTION) ** 3)
        F_mac = []
        for l in range(round(Y_xm.shape[1] ** 0.5)):
            w_xmc = Y_xm[:, l * l : (l + 1) ** 2, None] * weight_xc[:, None, :]
            F_mac.append((turned[l % 4] @ w_xmc.flatten(1)).unflatten(1, w_xmc.shape[1:]).transpose(0, 1))
        return torch.cat(F_mac)


@lru_cache(maxsize=8)
def _waves(cell: bytes, kpts: bytes, electrons: float, widths: tuple[float, ...], lmax: int) -> Waves:
    cell_cv, kpt_Kc = np.frombuffer(cell).reshape(3, 3), np.frombuffer(kpts).reshape(-1, 3)
    volume = abs(np.linalg.det(cell_cv))
    G_xv = _half_sphere(cell_cv, BANDS_u[-1] + SPACING)
    q_x = np.linalg.norm(G_xv, axis=1)
    u_xu = np.maximum(0, 1 - abs(q_x[:, np.newaxis] - BANDS_u) / SPACING)
    hot_x = lindhard(q_x, electrons / volume, HOT)
    chi_wx = [response(cell_cv, kpt_Kc, electrons, width, G_xv) - hot_x for width in widths]
    weight_xwu = np.stack(chi_wx, axis=1)[:, :, np.newaxis] * u_xu[:, np.newaxis] * 2 / volume
    G = torch.from_numpy(G_xv)
    return Waves(G, solid_harmonics(G / G.norm(dim=1, keepdim=True), lmax), torch.from_numpy(weight_xwu))


def response(cell_cv: np.ndarray, kpt_Kc: np.ndarray, electrons: float, width: float, G_xv: np.ndarray) -> np.ndarray:
    """χ(G) of free electrons at given k-points, per eV Å³; ``width`` of the Fermi–Dirac distribution, eV: (x,)."""
    kpt_Kc = np.concatenate([kpt_Kc, -kpt_Kc])  # time reversal
    volume, weight = abs(np.linalg.det(cell_cv)), 2 / len(kpt_Kc)
    level, p_pv = fermi_level(cell_cv, kpt_Kc, electrons, width)
    energy_p = KINETIC * (p_pv**2).sum(1)
    f_p = expit((level - energy_p) / width)
    some = f_p > EMPTY
    p_pv, energy_p, f_p = p_pv[some], energy_p[some], f_p[some]
    chi_x = np.empty(len(G_xv))
    for start in range(0, len(G_xv), CHUNK):
        G_cv = G_xv[start : start + CHUNK]
        step_cp = KINETIC * (2 * G_cv @ p_pv.T + (G_cv**2).sum(1)[:, np.newaxis])
        f_cp = expit((level - energy_p - step_cp) / width)
        near = abs(step_cp) < 1e-4 * width
        slope_cp = np.where(near, -f_p * (1 - f_p) / width, (f_cp - f_p) / np.where(near, 1.0, step_cp))
        both = np.where(f_cp > EMPTY, 1, 2)  # a pair with one empty state is met once, from the other one
        chi_x[start : start + CHUNK] = weight * (slope_cp * both).sum(1)
    return chi_x / volume


def fermi_level(cell_cv: np.ndarray, kpt_Kc: np.ndarray, electrons: float, width: float) -> tuple[float, np.ndarray]:
    """Of free electrons (two spins) at given k-points, eV; and all wave vectors that count, (p, 3), Å⁻¹.

    With few k-points it may be far above that of many: states are counted until those left out are empty.

    Raises
    ------
    ValueError
        No electrons, or a width (eV) of the Fermi–Dirac distribution that is not positive, or values that are not
        finite.
    """
    volume, weight = abs(np.linalg.det(cell_cv)), 2 / len(kpt_Kc)
    if not (0 < electrons < np.inf and 0 < width < np.inf and 0 < volume < np.inf):
        raise ValueError(
            f'a Fermi level needs electrons, a width and a volume above zero, not {electrons} electrons, {width} eV '
            f'and {volume} Å³'
        )
    highest = 1.2 * KINETIC * (3 * np.pi**2 * electrons / volume) ** (2 / 3) + 20 * width
    while True:
        p_pv = _plane_waves(cell_cv, kpt_Kc, np.sqrt(highest / KINETIC))
        energy_p = KINETIC * (p_pv**2).sum(1)

        def missing(mu: float, energy_p: np.ndarray = energy_p) -> float:
            return electrons - weight * float(expit((mu - energy_p) / width).sum())

        if missing(highest + width * float(logit(EMPTY))) <= 0:
            break
        highest *= 1.5
    lowest = min(-20 * width, width * float(np.log(electrons / (weight * len(p_pv)))))  # exp bounds the occupations
    return brentq(missing, lowest, highest), p_pv


def lindhard(q_x: np.ndarray, density: float, width: float) -> np.ndarray:
    """χ(q) of free electrons (per Å³) for many k-points, per eV Å³: the mean over energies of the cold one."""
    fermi = KINETIC * (3 * np.pi**2 * density) ** (2 / 3)
    energy_e = fermi + width * logit((np.arange(ENERGIES) + 0.5) / ENERGIES)
    k_e = np.sqrt(energy_e[energy_e > 0] / KINETIC)
    x_xe = q_x[:, np.newaxis] / (2 * k_e)
    x_xe = np.where(abs(x_xe - 1) < 1e-9, 1 + 1e-9, x_xe)
    F_xe = 0.5 + (1 - x_xe**2) / (4 * x_xe) * np.log(abs((1 + x_xe) / (1 - x_xe)))
    chi_x: np.ndarray = -(k_e * F_xe).sum(1) / (2 * np.pi**2 * KINETIC * ENERGIES)
    return chi_x


def _states(cell_cv: np.ndarray, kpt_Kc: np.ndarray, highest: float) -> tuple[np.ndarray, np.ndarray]:
    """Free electrons up to an energy (eV): wave vectors (p, 3), Å⁻¹, and energies (p,), eV."""
    p_pv = _plane_waves(cell_cv, kpt_Kc, np.sqrt(highest / KINETIC))
    return p_pv, KINETIC * (p_pv**2).sum(1)


def _plane_waves(cell_cv: np.ndarray, kpt_Kc: np.ndarray, longest: float) -> np.ndarray:
    """All k + G up to a length, (p, 3), Å⁻¹."""
    b_cv = 2 * np.pi * np.linalg.inv(cell_cv).T
    most_c = np.ceil(longest * np.linalg.norm(cell_cv, axis=1) / (2 * np.pi)).astype(int) + 1
    check_memory(6 * 8 * float(np.prod(2.0 * most_c + 1)), f'the plane waves of the cell {cell_cv.tolist()} Å')
    N_xc = np.stack(np.meshgrid(*(np.arange(-n, n + 1) for n in most_c), indexing='ij'), axis=-1).reshape(-1, 3)
    p_pv = np.concatenate([(N_xc + kpt_c) @ b_cv for kpt_c in kpt_Kc])
    return p_pv[np.linalg.norm(p_pv, axis=1) < longest]


def _half_sphere(cell_cv: np.ndarray, longest: float) -> np.ndarray:
    """One of each ±G ≠ 0 up to a length, (x, 3), Å⁻¹."""
    G_xv = _plane_waves(cell_cv, np.zeros((1, 3)), longest)
    N_xc = np.round(G_xv @ cell_cv.T / (2 * np.pi)).astype(int)
    first, second, third = N_xc.T
    return G_xv[(first > 0) | ((first == 0) & ((second > 0) | ((second == 0) & (third > 0))))]
