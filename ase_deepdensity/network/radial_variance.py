"""How uncertain a density is at each distance from an atom, by the posterior of the last layer.

Outputs y_om = s_o z_m·w_o share the covariance of their features, so that their posterior variance is s_o² u_L² for all
m (u as in :mod:`.error_bars`), and with the rule Σ_m |Y_Lm|² = (2L+1)/4π the variance of the density is a sum of
functions of the distance from atoms, where these are independent of each other:

    Var ñ(r) = Σ_a v_a(|r − R_a|),    v_a(r) = Σ_L u²_aL (2L+1)/4π Σ_o s_o² R_oL(r)²,

R_oL the orthonormal radial functions of the outputs.  v_a is written in splines of a quarter of their spacing.
"""

from __future__ import annotations

from functools import cached_property
from math import pi

import numpy as np
import torch

from ase_deepdensity.basis import SplineBasis
from ase_deepdensity.basis.splines import MAX_NUMBER
from ase_deepdensity.network.contract import DensityNetwork
from ase_deepdensity.network.readout import LastLayer

FINENESS = 20
"""Distances for each spacing of the splines."""


class RadialVariance:
    """The functions v of the atoms of a network.

    Parameters
    ----------
    network
        With a linear last layer.
    basis
        Of its densities.
    """

    def __init__(self, network: DensityNetwork, basis: SplineBasis):
        self.network, self.basis = network, basis
        self.fine = SplineBasis(basis.cutoff, min(4 * basis.number + 3, MAX_NUMBER), 0)
        """What v is written in."""
        self.r_g = np.linspace(0, basis.cutoff, FINENESS * (basis.number + 1) + 1)
        self._known: dict[int, np.ndarray] = {}

    def coefficients(self, number_a: np.ndarray, rigidity_al: np.ndarray, integral_a: np.ndarray) -> torch.Tensor:
        """v_a, each times what makes ∫ √v_a dr = ``integral_a``: (natoms, n, 1) coefficients of :attr:`fine`.

        Parameters
        ----------
        number_a
            (natoms,) atomic numbers.
        rigidity_al
            (natoms, lmax+1) u².
        integral_a
            (natoms,) electrons.
        """
        v_ag = self._values(number_a, rigidity_al)
        v_ag *= self.scales(number_a, rigidity_al, integral_a)[:, None] ** 2
        return torch.from_numpy(v_ag @ self._fit_gn)[:, :, None]

    def scales(self, number_a: np.ndarray, rigidity_al: np.ndarray, integral_a: np.ndarray) -> np.ndarray:
        """(natoms,) factors of √v_a with which ∫ √v_a dr = ``integral_a``."""
        return integral_a / self.integrals(number_a, rigidity_al)

    def integrals(self, number_a: np.ndarray, rigidity_al: np.ndarray) -> np.ndarray:
        """(natoms,) ∫ √v_a dr, as it is."""
        root_ag = np.sqrt(self._values(number_a, rigidity_al))
        root_a = 4 * pi * np.trapezoid(self.r_g**2 * root_ag, self.r_g, axis=1)
        integral_a: np.ndarray = np.maximum(root_a, 1e-30)
        return integral_a

    def _values(self, number_a: np.ndarray, rigidity_al: np.ndarray) -> np.ndarray:
        """(natoms, distances) v_a as it is, at :attr:`r_g`."""
        return np.array([u_l @ self.of_element(Z) for Z, u_l in zip(number_a.tolist(), rigidity_al, strict=True)])

    def of_element(self, number: int) -> np.ndarray:
        """(lmax+1, distances) what u²_L is multiplied with, at :attr:`r_g`."""
        if number not in self._known:
            v_lg = []
            for l, R_go in enumerate(self.radial_lgo):
                readout = self._layer.readouts[number, l, False]
                square_go = (2 * l + 1) / (4 * pi) * R_go**2
                v_lg.append(square_go @ readout.scale_o[: readout.functions].double().cpu().numpy() ** 2)
            self._known[number] = np.array(v_lg)
        return self._known[number]

    @cached_property
    def _layer(self) -> LastLayer:
        return self.network.last_layer()

    @cached_property
    def radial_lgo(self) -> list[np.ndarray]:
        """For each L R_oL, Å^(−3/2): (distances, outputs)."""
        B_gn, R_lgo = self.basis.splines(self.r_g), []
        for l in range(self.basis.lmax + 1):
            W_no = getattr(self._layer.functions, f'W{l}_nk').double().cpu().numpy()
            R_lgo.append((self.r_g[:, None] ** l * B_gn * self.basis.norm_n(l)) @ W_no)
        return R_lgo

    @cached_property
    def _fit_gn(self) -> np.ndarray:
        """(distances, number) least squares: coefficients of normalised functions with l = 0 from values."""
        function_gn = self.fine.splines(self.r_g) * self.fine.norm_n(0) / (4 * pi) ** 0.5
        weight_g = self.r_g + 0.1 * self.fine.spacing
        return (np.linalg.pinv(function_gn * weight_g[:, None]) * weight_g).T
