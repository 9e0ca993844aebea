"""What PAW adds to ñ near an atom: partial waves and core of a dataset."""

from __future__ import annotations

from dataclasses import dataclass
from math import pi, sqrt
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from ase.units import Bohr

from ase_deepdensity.basis.harmonics import solid_harmonics

if TYPE_CHECKING:
    from gpaw.setup import Setup


@dataclass(frozen=True, eq=False)
class Waves:
    """Of one dataset."""

    rcut: float
    """Beyond it partial waves and pseudo partial waves are the same, Å."""
    l_j: tuple[int, ...]
    """Angular momenta of the partial waves."""
    phi_j: list[Any]
    """GPAW's splines of φ/r^l, in atomic units."""
    phit_j: list[Any]
    """The same of φ̃/r^l."""
    core: Any
    """GPAW's spline of √(4π) (n_c − ñ_c), or with the core left out of −√(4π) ñ_c."""
    core_electrons: float
    """∫ of what ``core`` is."""
    reach: float
    """Beyond it nothing is added, Å."""

    @classmethod
    def of(cls, setup: Setup, *, skip_core: bool = False) -> Waves:
        """Of a dataset of GPAW's."""
        rcut = max(setup.rcut_j)
        phi_j, phit_j = setup.get_partial_waves()[:2]
        core_g = -setup.data.nct_g if skip_core else setup.data.nc_g - setup.data.nct_g
        return cls(
            rcut=rcut * Bohr,
            l_j=tuple(int(l) for l in setup.l_j),
            phi_j=phi_j,
            phit_j=phit_j,
            core=setup.data.rgd.spline(core_g, 2 * rcut, points=1000),
            core_electrons=float(-setup.Nct if skip_core else setup.Nc - setup.Nct),
            reach=(2 if skip_core else 1) * rcut * Bohr,
        )

    def core_density(self, r_p: np.ndarray) -> np.ndarray:
        """n_c − ñ_c (or −ñ_c) at distances r (Å), electrons/Å³."""
        n_p: np.ndarray = self.core.map(r_p / Bohr) * (Bohr**-3 / sqrt(4 * pi))
        return n_p

    def density(self, D_sii: np.ndarray, vector_pv: np.ndarray) -> np.ndarray:
        """Σ_ij D_ij (φ_i φ_j − φ̃_i φ̃_j) at vectors (npoints, 3) from the atom, Å: (nspins, npoints), electrons/Å³."""
        vector_pv = vector_pv / Bohr
        r_p = np.linalg.norm(vector_pv, axis=1)
        Y_pL = solid_harmonics(torch.from_numpy(vector_pv), max(self.l_j)).numpy()
        phi_pi, phit_pi = self._waves(self.phi_j, r_p, Y_pL), self._waves(self.phit_j, r_p, Y_pL)
        n_sp = np.empty((len(D_sii), len(r_p)))
        for n_p, D_ii in zip(n_sp, D_sii, strict=True):
            n_p[:] = (phi_pi @ D_ii * phi_pi).sum(axis=1) - (phit_pi @ D_ii * phit_pi).sum(axis=1)
        return n_sp * Bohr**-3

    def mean_density(self, D_ii: np.ndarray, r_p: np.ndarray) -> np.ndarray:
        """The mean of :meth:`density` over all directions at distances r (Å), electrons/Å³.

        Σ_jk Σ_m D_jm,km (φ_j φ_k − φ̃_j φ̃_k) / 4π,  j and k of the same l
        """
        r_p = r_p / Bohr
        first_j = np.cumsum([0, *(2 * l + 1 for l in self.l_j)])
        n_p = np.zeros(len(r_p))
        for j, l in enumerate(self.l_j):
            for k in np.flatnonzero(np.array(self.l_j) == l):
                D = np.trace(D_ii[first_j[j] : first_j[j + 1], first_j[k] : first_j[k + 1]])
                change_p = self.phi_j[j].map(r_p) * self.phi_j[k].map(r_p)
                change_p -= self.phit_j[j].map(r_p) * self.phit_j[k].map(r_p)
                n_p += D / (4 * pi) * change_p * r_p ** (2 * l)
        return n_p * Bohr**-3

    def _waves(self, spline_j: list[Any], r_p: np.ndarray, Y_pL: np.ndarray) -> np.ndarray:
        """(npoints, ni)"""
        return np.concatenate(
            [
                spline.map(r_p)[:, np.newaxis] * Y_pL[:, l**2 : (l + 1) ** 2]
                for spline, l in zip(spline_j, self.l_j, strict=True)
            ],
            axis=1,
        )
