"""Real spherical harmonics in GPAW's order and sign (l=1: y, z, x; l=2: xy, yz, 3z²−r², zx, x²−y²)."""

from __future__ import annotations

import torch
from e3nn import o3


def solid_harmonics(vectors: torch.Tensor, lmax: int) -> torch.Tensor:
    """rˡ Y_lm(r̂) for all l ≤ lmax: (..., 3) → (..., (lmax+1)²), normalised to ∫ Y² = 1 on the sphere.

    e3nn's harmonics of (y, z, x) are GPAW's of (x, y, z).
    """
    return o3.spherical_harmonics(
        list(range(lmax + 1)), vectors[..., [1, 2, 0]], normalize=False, normalization='integral'
    )
