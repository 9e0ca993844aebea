"""How uncertain atomic density matrices and the dipole are, by the posterior of the last layer.

As of the density (:mod:`.radial_variance`), whose size around each atom the expected error E_a fixes,
k_a = E_a / ∫ √v_a dr, the outputs y_om = s_o z_m·w_o of an atom have the variance k_a² s_o² u_L².  For the couplings b
that its matrix is a sum of, with T_bm what they are coefficients of,

    Var D_ij = k_a² Σ_L u_L² Σ_b s_b² Σ_m T_bmij²,

u_L that of the features of natural parity for those of the other one, too, and of the largest L that there is for what
is beyond it.  The dipole is linear in the charges q_a and dipoles p_a that outputs add to atoms, by functions of the
density and by compensation charges; what is missing in ∫ñ is made up for where electrons are, so that places count from
their centre R̄, here that of the valence electrons at their atoms:

    μ = −Σ_a [(R_a − R̄) q_a + p_a],      q_a = Σ_o t_o y_ao (L = 0),      p_am = Σ_o t_o y_aom (L = 1).

The atoms of an element share their weights w, so that their errors add up with their signs, and where symmetry forbids
a dipole it has no error.  With F as in :mod:`.error_bars` and one k for all atoms, Σ_a E_a / Σ_a ∫ √v_a dr,

    Cov μ_v μ_w = k² Σ_L f_L² Σ_Z Σ_o (s_o t_o)² x_v·x_w,      x_v = F Σ_a Σ_m g_avm z_am,

g_avm = (R_a − R̄)_v for L = 0 and 1 where m is v for L = 1.  The factors f of charges and dipoles are measured.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import pi, sqrt

import numpy as np
import torch
from ase.units import Bohr

from ase_deepdensity.basis import SplineBasis
from ase_deepdensity.network.contract import DensityNetwork
from ase_deepdensity.network.radial_variance import RadialVariance
from ase_deepdensity.network.readout import Features
from ase_deepdensity.network.system import System
from ase_deepdensity.paw import AtomType

XYZ = [2, 0, 1]
"""Where x, y, z are among the m of L = 1, which are y, z, x."""


class Posterior:
    """Variances of what a network says.

    Parameters
    ----------
    network
        With a linear last layer.
    basis
        Of its densities.
    atom_types
        By atomic number.
    """

    def __init__(self, network: DensityNetwork, basis: SplineBasis, atom_types: Mapping[int, AtomType]):
        self.network, self.atom_types = network, atom_types
        self.radial = RadialVariance(network, basis)
        self._layer = network.last_layer()
        self._matrix_zlii: dict[int, np.ndarray] = {}
        self._moment_zl: dict[tuple[int, int], float] = {}

    def matrices(self, number_a: np.ndarray, rigidity_al: np.ndarray, scale_a: np.ndarray) -> list[np.ndarray]:
        """For each atom (ni, ni) σ of its density matrix, both spins together.

        Parameters
        ----------
        number_a
            (natoms,) atomic numbers.
        rigidity_al
            (natoms, lmax+1) u².
        scale_a
            (natoms,) k, of :meth:`.RadialVariance.scales`.
        """
        sigma_aii: list[np.ndarray] = [np.empty(0)] * len(number_a)
        for Z in np.unique(number_a).tolist():
            of_Z = np.flatnonzero(number_a == Z)
            variance_aii = np.einsum('al, lij -> aij', rigidity_al[of_Z], self._of_element(Z, rigidity_al.shape[1]))
            for a, sigma_ii in zip(of_Z.tolist(), scale_a[of_Z, None, None] * np.sqrt(variance_aii), strict=True):
                sigma_aii[a] = sigma_ii
        return sigma_aii

    def _of_element(self, number: int, nl: int) -> np.ndarray:
        """(lmax+1, ni, ni) Σ_b s_b² Σ_m T_bmij², what u²_L is multiplied with."""
        if number not in self._matrix_zlii:
            ni = self.atom_types[number].ni
            square_lii = np.zeros((nl, ni, ni))
            for (Z, L, _), readout in self._layer.readouts.items():
                if Z == number:
                    scale_b = readout.scale_o[readout.functions :].double().cpu()
                    T_bmii = readout.T_bmii.double().cpu()
                    square_lii[min(L, nl - 1)] += torch.einsum('b, bmij -> ij', scale_b**2, T_bmii**2).numpy()
            self._matrix_zlii[number] = square_lii
        return self._matrix_zlii[number]

    def dipole(self, whitened: Features, system: System, position_av: np.ndarray) -> np.ndarray:
        """(2, 3, 3) covariance of the dipole moment that charges and dipoles of atoms bring, (e·Å)², at f = k = 1.

        Parameters
        ----------
        whitened
            Of :meth:`.ErrorBars.whitened`.
        position_av
            (natoms, 3) Å, those that the dipole moment is made with.
        """
        valence_a = np.array([self.atom_types[Z].nvalence for Z in system.number_a.tolist()])
        from_centre_av = position_av - valence_a @ position_av / valence_a.sum()
        covariance_xvv = np.zeros((2, 3, 3))
        for (Z, L, _), z_mac in whitened.items():
            if L == 0:
                x_vc = from_centre_av[system.atoms_of(Z).cpu().numpy()].T @ z_mac[0].double().numpy()
            elif L == 1:
                x_vc = z_mac[XYZ].double().sum(1).numpy()
            else:
                continue
            covariance_xvv[L] += self._moments(Z, L) * (x_vc @ x_vc.T)
        return covariance_xvv

    def _moments(self, number: int, L: int) -> float:
        """Σ_o (s_o t_o)² of the charges (L = 0, e²) or dipoles (L = 1, (e·Å)²) that the outputs add to an atom."""
        if (number, L) not in self._moment_zl:
            self._moment_zl[number, L] = self._moments_of(number, L)
        return self._moment_zl[number, L]

    def _moments_of(self, number: int, L: int) -> float:
        readout, r_g = self._layer.readouts[number, L, False], self.radial.r_g
        factor = sqrt(4 * pi / (2 * L + 1))
        smooth_o = factor * np.trapezoid(r_g[:, None] ** (L + 2) * self.radial.radial_lgo[L], r_g, axis=0)
        T_bii = readout.T_bmii[:, 0].double().cpu().numpy()
        Delta_iiL = self.atom_types[number].Delta_iiL[:, :, L * L :]  # of the first m: all are alike, and may be none
        inside_b = factor * Bohr**L * np.einsum('bij, ijL -> b', T_bii, Delta_iiL[:, :, :1])
        scale_o = readout.scale_o.double().cpu().numpy()
        return float(np.sum((scale_o * np.concatenate([smooth_o[: readout.functions], inside_b])) ** 2))
