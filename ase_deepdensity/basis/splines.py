"""The basis in which a model writes what it adds to the superposition of atoms: solid harmonics times cubic B-splines.

    ρ(r) = Σ_I Σ_n Σ_lm  c_I,nlm  N_nl rˡ B_n(r) Y_lm(r̂),      r measured from atom I,   ∫ χ_nlm² = 1

with GPAW's real spherical harmonics (l=1: y, z, x).  B_n is the uniform cubic B-spline centred at n·h, made even at the
nucleus (doi:10.1007/978-1-4612-6333-3).  All radial detail down to the spacing h is there, everywhere alike: plane-wave
densities ring with the wavelength of their cutoff, which Gaussians cannot follow far from a nucleus.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import torch

MAX_L = 4
MAX_CUTOFF = 100.0
"""Å: nothing that belongs to an atom reaches farther."""
MAX_NUMBER = 256
"""Radial functions."""


@dataclass(frozen=True)
class SplineBasis:
    """Radial functions of the expansion, the same at every atom.

    Parameters
    ----------
    cutoff
        Where the last function ends, Å; two derivatives are continuous there.
    number
        Radial functions for each angular momentum.
    lmax
        Highest angular momentum.
    """

    cutoff: float
    number: int
    lmax: int

    def __post_init__(self) -> None:
        if isinstance(self.cutoff, bool) or not 0 < self.cutoff <= MAX_CUTOFF:
            raise ValueError(
                f'the cutoff of a basis must be a positive distance up to {MAX_CUTOFF:g} Å, not {self.cutoff!r}'
            )
        if type(self.number) is not int or not 2 <= self.number <= MAX_NUMBER:
            raise ValueError(f'a basis needs at least two radial functions, at most {MAX_NUMBER}, not {self.number!r}')
        if type(self.lmax) is not int or not 0 <= self.lmax <= MAX_L:
            raise ValueError(f'lmax must be from 0 to {MAX_L}, not {self.lmax!r}')

    @property
    def spacing(self) -> float:
        """h, Å."""
        return self.cutoff / (self.number + 1)

    def splines(self, r_p: np.ndarray) -> np.ndarray:
        """B_n at distances r_p (points,), Å: (points, number)."""
        x_pn = np.asarray(r_p, float)[:, None] / self.spacing - np.arange(self.number)
        B_pn = _cubic(x_pn)
        B_pn[:, 1] += _cubic(x_pn[:, 0] + 1)  # the mirror image of n = 1, the only one that reaches r > 0
        return B_pn

    def overlap_nn(self, l: int) -> np.ndarray:
        """Overlaps of the normalised functions of angular momentum l at one centre, (number, number), dimensionless."""
        norm_n = self.norm_n(l)
        return self._products_nn(l) * norm_n[:, None] * norm_n

    def norm_n(self, l: int) -> np.ndarray:
        """N_nl, (number,), Å^(−l−3/2)."""
        return np.diag(self._products_nn(l)) ** -0.5

    def _products_nn(self, l: int) -> np.ndarray:
        """∫ B_n B_n' r^(2l+2) dr, exact: Gauss–Legendre in each interval of the polynomials of degree 8 + 2l."""
        x_g, weight_g = np.polynomial.legendre.leggauss(5 + l)
        r_p = self.spacing * (np.arange(self.number + 1)[:, None] + (x_g + 1) / 2).ravel()
        weight_p = np.tile(weight_g * self.spacing / 2, self.number + 1) * r_p ** (2 * l + 2)
        B_pn = self.splines(r_p)
        return B_pn.T * weight_p @ B_pn


def splines(basis: SplineBasis, r: torch.Tensor) -> torch.Tensor:
    """B_n at distances, differentiable: (...) → (..., number), as :meth:`SplineBasis.splines`."""
    import torch

    x = r[..., None] / basis.spacing - torch.arange(basis.number).to(r)
    mirror = _cubic_torch(r / basis.spacing + 1)
    first_n = torch.nn.functional.one_hot(torch.tensor(1), basis.number).to(r)
    return _cubic_torch(x) + mirror[..., None] * first_n


def _cubic(x: np.ndarray) -> np.ndarray:
    """The cubic B-spline of unit spacing, centred at 0."""
    x = np.abs(x)
    return np.where(x < 1, (4 + 3 * x**2 * (x - 2)) / 6, np.clip(2 - x, 0, None) ** 3 / 6)


def _cubic_torch(x: torch.Tensor) -> torch.Tensor:
    """The same, [(2−|x|)₊³ − 4 (1−|x|)₊³] / 6."""
    return ((2 - x.abs()).clamp(min=0) ** 3 - 4 * (1 - x.abs()).clamp(min=0) ** 3) / 6
