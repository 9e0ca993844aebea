"""Radial functions of the distance between atoms."""

from __future__ import annotations

import math

import torch


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
