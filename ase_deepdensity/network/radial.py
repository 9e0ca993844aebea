"""Radial functions: of the distance between atoms, and from an atom."""

from __future__ import annotations

import math

import torch

from ase_deepdensity.basis import SplineBasis


def bessel(r: torch.Tensor, cutoff: float, number: int) -> torch.Tensor:
    """√(2/r_c) sin(nπr/r_c)/r · envelope, n = 1 … ``number``: (...) → (..., number).

    The envelope is :func:`switch` (doi:10.48550/arXiv.2003.03123 for the Bessel basis).  Distances beyond the cutoff
    give zero.
    """
    x = (r / cutoff).clamp(max=1.0)
    n = torch.arange(1, number + 1, dtype=r.dtype, device=r.device)
    waves = torch.sinc(n * x[..., None]) * n * math.pi / cutoff
    return (2 / cutoff) ** 0.5 * waves * switch(r, cutoff)[..., None]


def switch(r: torch.Tensor, cutoff: float) -> torch.Tensor:
    """1 − 10x³ + 15x⁴ − 6x⁵, x = r/r_c: ends at the cutoff with two zero derivatives."""
    x = (r / cutoff).clamp(max=1.0)
    return 1 - x**3 * (10 - 15 * x + 6 * x**2)


def splines(basis: SplineBasis, r: torch.Tensor) -> torch.Tensor:
    """B_n at distances: (...) → (..., number), as :meth:`.SplineBasis.splines`."""
    x = r[..., None] / basis.spacing - torch.arange(basis.number).to(r)
    mirror = _cubic(r / basis.spacing + 1)
    first_n = torch.nn.functional.one_hot(torch.tensor(1), basis.number).to(r)
    return _cubic(x) + mirror[..., None] * first_n


def _cubic(x: torch.Tensor) -> torch.Tensor:
    """The cubic B-spline of unit spacing, centred at 0: [(2−|x|)₊³ − 4 (1−|x|)₊³] / 6."""
    return ((2 - x.abs()).clamp(min=0) ** 3 - 4 * (1 - x.abs()).clamp(min=0) ** 3) / 6
