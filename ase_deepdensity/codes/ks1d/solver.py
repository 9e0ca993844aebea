"""One-dimensional Kohn–Sham: insulators, metals and their mixtures, small enough to know everything about.

    H = −½ d²/dx² + V,   V(x) = ∫ K(x−y) (ρ(y) + m(y)) dy,   K̂(k) = 4π / (ε (k² + κ²)),  K̂(0) = 0
    m(x) = −Σ_I Z_I exp(−(x−R_I)²/(2σ_I²)) / √(2πσ_I²),  all periodic images
    ρ(x) = Σ_i f_i |ψ_i(x)|²,  one electron per orbital,  f of Fermi and Dirac
    E    = Σ_i f_i ε_i + ½ ∫ (m − ρ) V dx

(the model of doi:10.1016/j.jcp.2021.110523).  Plane waves up to a cutoff; the grid holds their products exactly, so
that the cutoff is the only approximation.  :class:`.KohnSham1D` is the ASE calculator.

Everything here that has no unit in its description is in atomic units; ASE's units are used at the surface: in
:mod:`.calculator` and :mod:`.parameters`.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from math import pi, sqrt

import numpy as np
from ase.calculators.calculator import SCFError
from scipy.linalg import eigh
from scipy.optimize import brentq

from ase_deepdensity.codes.ks1d.anderson import Anderson

EMPTY = 1e-10
"""Occupation that the highest orbital may have."""
MIXING = 0.8
"""Part of a residual that is mixed in where nothing screens it."""


@dataclass(frozen=True)
class Ground:
    """A self-consistent ground state, in atomic units; densities on the grid x_g = g · length / len(n_g)."""

    n_g: np.ndarray
    """(points,) electrons/bohr."""
    energy: float
    """Hartree."""
    free_energy: float
    """Energy minus temperature times entropy: what the forces are the derivative of."""
    forces_a: np.ndarray
    """(natoms,) along the chain, hartree/bohr."""
    eigenvalue_n: np.ndarray
    """(number,) of the lowest orbitals, hartree."""
    occupation_n: np.ndarray
    """(number,) electrons in each."""
    niter: int
    """Iterations."""
    error: float
    """∫ |n_out − n_in| per electron."""


@dataclass(frozen=True)
class System:
    """Ions in a periodic cell, in atomic units.

    Functions are held as Fourier coefficients f(x) = Σ_k f_k exp(ikx), k ≥ 0: arrays f_k of points // 2 + 1.
    """

    x_a: np.ndarray
    """(natoms,) positions, bohr."""
    charge_a: np.ndarray
    """(natoms,) charges, electrons."""
    width_a: np.ndarray
    """(natoms,) σ of the Gaussian charges, bohr."""
    length: float
    """Of the cell, bohr."""
    waves: int
    """m: the basis is 1, √2 cos(Gx), √2 sin(Gx) over √length, with m values of G."""
    points: int
    """Of the grid: at least 4m + 1."""
    temperature: float
    """Of the electrons, hartree."""
    epsilon: float
    """Dielectric constant of the interaction."""
    kappa: float
    """Inverse range of the interaction, bohr⁻¹."""

    @property
    def electrons(self) -> float:
        """Number of electrons in the cell."""
        return float(self.charge_a.sum())

    @cached_property
    def k_k(self) -> np.ndarray:
        """(points // 2 + 1,) wave numbers, bohr⁻¹."""
        return 2 * pi * np.arange(self.points // 2 + 1) / self.length

    @cached_property
    def ions_ak(self) -> np.ndarray:
        """(natoms, points // 2 + 1) m_k of each ion, electrons/bohr: negative, as it lacks electrons."""
        phase_ak = np.exp(-1j * np.outer(self.x_a, self.k_k))
        return -self.charge_a[:, None] / self.length * np.exp(-0.5 * np.outer(self.width_a, self.k_k) ** 2) * phase_ak

    @cached_property
    def interaction_k(self) -> np.ndarray:
        """(points // 2 + 1,) of two charges, 4π / ε(k² + κ²), 0 for k = 0."""
        K_k = 4 * pi / (self.epsilon * (self.k_k**2 + self.kappa**2))
        K_k[0] = 0.0
        return K_k

    def fourier(self, f_g: np.ndarray) -> np.ndarray:
        """Values (points,) on the grid → Fourier coefficients (points // 2 + 1,)."""
        return np.fft.rfft(f_g) / self.points

    def grid(self, f_k: np.ndarray) -> np.ndarray:
        """Fourier coefficients, along the first axis → values on the grid."""
        return np.fft.irfft(f_k, self.points, axis=0) * self.points

    def integral(self, f_k: np.ndarray, g_k: np.ndarray) -> np.ndarray:
        """∫ f g dx of Fourier coefficients (…, points // 2 + 1), over the last axis, of any unit times bohr."""
        product_k = (f_k.conj() * g_k).real
        return self.length * (2 * product_k.sum(-1) - product_k[..., 0])

    def orbitals(self, V_k: np.ndarray, number: int) -> tuple[np.ndarray, np.ndarray]:
        """The lowest ``number`` eigenvalues, hartree, and the orbitals on the grid (points, number), bohr^(−1/2)."""
        eigenvalue_n, C_bn = eigh(
            hamiltonian(V_k, self.waves, self.length),
            subset_by_index=(0, number - 1), driver='evr', overwrite_a=True, check_finite=False,
        )  # fmt: skip
        psi_kn = np.zeros((len(self.k_k), number), complex)
        psi_kn[0] = C_bn[0]
        psi_kn[1 : self.waves + 1] = (C_bn[1 : self.waves + 1] - 1j * C_bn[self.waves + 1 :]) / sqrt(2)
        return eigenvalue_n, self.grid(psi_kn) / sqrt(self.length)


def hamiltonian(V_k: np.ndarray, waves: int, length: float) -> np.ndarray:
    """−½ d²/dx² + V in the basis 1, √2 cos(Gx), √2 sin(Gx), each over √length: (2m + 1, 2m + 1), hartree.

    ``V_k``: (2m + 1,) or more, hartree; ``waves``: m; ``length``: bohr.

    ⟨cos G|V|cos G'⟩ = c(G−G') + c(G+G'),  ⟨sin G|V|sin G'⟩ = c(G−G') − c(G+G'),
    ⟨cos G|V|sin G'⟩ = s(G'−G) + s(G+G'),  with V_k = c(k) − i s(k), s(−k) = −s(k)
    """
    j = np.arange(1, waves + 1)
    c_k, s_k = V_k.real, -V_k.imag
    difference, total = j - j[:, None], j + j[:, None]
    c_minus, s_minus = c_k[abs(difference)], np.sign(difference) * s_k[abs(difference)]
    cosine_sine = s_minus + s_k[total]
    edge = np.concatenate([c_k[:1], sqrt(2) * c_k[j], sqrt(2) * s_k[j]])
    H = np.empty((2 * waves + 1, 2 * waves + 1))
    H[0], H[:, 0] = edge, edge
    H[1 : waves + 1, 1 : waves + 1] = c_minus + c_k[total]
    H[waves + 1 :, waves + 1 :] = c_minus - c_k[total]
    H[1 : waves + 1, waves + 1 :] = cosine_sine
    H[waves + 1 :, 1 : waves + 1] = cosine_sine.T
    G_b = 2 * pi / length * np.concatenate([[0], j, j])
    H[np.diag_indices_from(H)] += G_b**2 / 2
    return H


def occupations(eigenvalue_n: np.ndarray, electrons: float, temperature: float) -> np.ndarray:
    """Fermi–Dirac occupations f_n (number,) that add up to ``electrons``, one at most per orbital; ε_n in hartree."""

    def occupy(mu: float) -> np.ndarray:
        return 0.5 * (1 - np.tanh((eigenvalue_n - mu) / (2 * temperature)))

    if len(eigenvalue_n) == electrons:
        return np.ones(len(eigenvalue_n))
    margin = 100 * temperature
    return occupy(
        brentq(lambda mu: occupy(mu).sum() - electrons, eigenvalue_n[0] - margin, eigenvalue_n[-1] + margin, xtol=1e-14)
    )


def entropy(occupation_n: np.ndarray) -> float:
    """−Σ f ln f + (1 − f) ln(1 − f)."""
    f_n = np.clip(occupation_n, 1e-300, 1 - 1e-16)
    return float(-(f_n * np.log(f_n) + (1 - f_n) * np.log1p(-f_n)).sum())


def screening(system: System, gap: float) -> np.ndarray:
    """1/ε(k) of a homogeneous system with this density and this gap: Kerker's preconditioner, and more.

    The susceptibility is D k²/(k² + k_g²), with the density of states D = 1/(π k_F) of free electrons and k_g² from
    D/k_g² = n/gap².  Without a gap it is D and ε Kerker's 1 + q²/(k² + κ²) (doi:10.1103/PhysRevB.23.3082); with one
    ε stays finite: what would be cautious for an insulator is slow.
    """
    density = system.electrons / system.length
    D = 1 / (pi**2 * density)
    k2_k = system.k_k**2
    gap2 = max(gap, system.temperature) ** 2
    return 1 / (1 + system.interaction_k * D * k2_k / (k2_k + D * gap2 / density))


def solve(system: System, *, convergence: float = 1e-8, maxiter: int = 200, kerker: bool = True) -> Ground:
    """The self-consistent ground state.

    Parameters
    ----------
    convergence
        Largest ∫ |n_out − n_in| per electron.
    kerker
        Divide residuals by the dielectric function (:func:`screening`); without, charge sloshes in long cells.

    Raises
    ------
    SCFError
        Not converged after ``maxiter`` iterations, or more electrons than plane waves.
    """
    electrons, most = system.electrons, 2 * system.waves + 1
    if electrons > most:
        raise SCFError(f'{most} plane waves cannot hold {electrons:g} electrons: raise ecut')
    ions_k = system.ions_ak.sum(0)
    n_k = -ions_k
    filter_k = np.ones_like(system.k_k)
    mix = Anderson(lambda residual_g: MIXING * system.grid(filter_k * system.fourier(residual_g)))
    number = min(most, int(1.1 * electrons) + 10)
    for niter in range(1, maxiter + 1):
        V_k = system.interaction_k * (n_k + ions_k)
        eigenvalue_n, psi_gn = system.orbitals(V_k, number)
        f_n = occupations(eigenvalue_n, electrons, system.temperature)
        if f_n[-1] > EMPTY and number < most:
            number = min(most, number + 10 + int(0.1 * electrons))
            continue
        n_g, out_g = system.grid(n_k), psi_gn**2 @ f_n
        error = float(abs(out_g - n_g).mean()) * system.length / electrons
        if error <= convergence:
            return _ground(system, n_k, V_k, out_g, eigenvalue_n, f_n, niter, error)
        if kerker:
            homo = round(electrons) - 1
            filter_k[:] = screening(system, float(eigenvalue_n[min(homo + 1, number - 1)] - eigenvalue_n[homo]))
        n_k = system.fourier(mix(n_g, out_g - n_g))
    raise SCFError(f'not converged after {maxiter} iterations: {error:.1e} electrons per electron move')


def _ground(
    system: System,
    n_k: np.ndarray,
    V_k: np.ndarray,
    out_g: np.ndarray,
    eigenvalue_n: np.ndarray,
    f_n: np.ndarray,
    niter: int,
    error: float,
) -> Ground:
    """Energies (of n_in, whose error is of second order) and forces −∂A/∂R = −∫ (∂m/∂R) V dx."""
    ions_k = system.ions_ak.sum(0)
    energy = float(f_n @ eigenvalue_n + 0.5 * system.integral(ions_k - n_k, V_k))
    forces_a = -system.integral(-1j * system.k_k * system.ions_ak, V_k)
    free = energy - system.temperature * entropy(f_n)
    return Ground(out_g, energy, free, forces_a, eigenvalue_n, f_n, niter, error)
