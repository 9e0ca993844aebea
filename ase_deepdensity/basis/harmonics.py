"""Real spherical harmonics in GPAW's order and sign (l=1: y, z, x; l=2: xy, yz, 3z²−r², zx, x²−y²)."""

from __future__ import annotations

from math import factorial, pi, sqrt

import torch


def solid_harmonics(vectors: torch.Tensor, lmax: int) -> torch.Tensor:
    """rˡ Y_lm(r̂) for all l ≤ lmax: (..., 3) → (..., (lmax+1)²), normalised to ∫ Y² = 1 on the sphere.

    Polynomials, by the recursions (doi:10.1063/5.0156307)

        c_m + i s_m = (x + iy)^m,
        Q_mm = (2m−1)!!,   Q_lm = [(2l−1) z Q_(l−1)m − (l+m−1) r² Q_(l−2)m] / (l−m),
        rˡ Y_l±m = √((2l+1)/(2π) · (l−m)!/(l+m)!) Q_lm {c_m, s_m},   without the √2 for m = 0.

    (e3nn has the same for the axes (y, z, x); its import takes seconds, and every prediction passes here.)
    """
    x, y, z = vectors.unbind(-1)
    r2 = x * x + y * y + z * z
    Y_L: list[torch.Tensor] = [torch.empty(0)] * (lmax + 1) ** 2
    c, s = torch.ones_like(x), torch.zeros_like(x)
    Q_mm = 1.0
    for m in range(lmax + 1):
        if m > 0:
            c, s = x * c - y * s, x * s + y * c
            Q_mm *= 2 * m - 1
        Q, Q_before = torch.full_like(x, Q_mm), torch.zeros_like(x)
        for l in range(m, lmax + 1):
            if l > m:
                Q, Q_before = ((2 * l - 1) * z * Q - (l + m - 1) * r2 * Q_before) / (l - m), Q
            norm = sqrt((2 * l + 1) / (4 * pi) * (2 if m else 1) * factorial(l - m) / factorial(l + m))
            Y_L[l * l + l + m] = norm * Q * c
            if m > 0:
                Y_L[l * l + l - m] = norm * Q * s
    return torch.stack(Y_L, dim=-1)
