"""Ridge regression for every strength of the ridge at once, where the matrix is only known by what it does."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch

TINY = 1e-6
"""Of the first direction's length: what is left after so many directions is rounding."""


@dataclass(frozen=True, eq=False)
class Krylov:
    """Directions v_i, and a small matrix B, with A V = U B and b = |b| u_0.

    The ridge solution x = V y of min |A x − b|² + λ |x|² is the one of min |B y − |b| e_0|² + λ |y|² (Golub–Kahan
    bidiagonalisation, C. C. Paige, M. A. Saunders, doi:10.1145/355984.355989): one set of directions serves all λ.
    """

    v_ix: torch.Tensor
    """(n, unknowns) orthonormal."""
    B_ji: torch.Tensor
    """(n + 1, n) bidiagonal, float64."""
    norm: float
    """|b|."""

    @classmethod
    def of(
        cls,
        image: Callable[[torch.Tensor], torch.Tensor],
        transpose: Callable[[torch.Tensor], torch.Tensor],
        b_p: torch.Tensor,
        directions: int,
    ) -> Krylov:
        """From x → A x and its transpose, at most so many directions."""
        norm = float(b_p.norm())
        v_x = transpose(b_p / norm if norm else b_p)
        alpha = float(v_x.norm())
        if not alpha:
            return cls(v_x[None][:0], torch.zeros(1, 0, dtype=torch.float64), norm)
        u_p, v_ix, alphas, betas = b_p / norm, [v_x / alpha], [alpha], list[float]()
        while True:
            u_p = image(v_ix[-1]) - alphas[-1] * u_p
            betas.append(float(u_p.norm()))
            if len(v_ix) == directions or betas[-1] < TINY * alpha:
                break
            u_p = u_p / betas[-1]
            v_x = transpose(u_p) - betas[-1] * v_ix[-1]
            basis_ix = torch.stack(v_ix)
            v_x = v_x - basis_ix.T @ (basis_ix @ v_x)  # rounding makes it lose what it should keep
            if float(v_x.norm()) < TINY * alpha:
                break
            alphas.append(float(v_x.norm()))
            v_ix.append(v_x / alphas[-1])
        n = len(v_ix)
        B_ji = torch.zeros(n + 1, n, dtype=torch.float64)
        for i in range(n):
            B_ji[i, i], B_ji[i + 1, i] = alphas[i], betas[i]
        return cls(torch.stack(v_ix), B_ji, norm)

    def coefficients(self, strengths: Sequence[float]) -> torch.Tensor:
        """(strengths, n) y of each λ, float64."""
        n = self.B_ji.shape[1]
        gram_ii, right_i = self.B_ji.T @ self.B_ji, self.norm * self.B_ji[0]
        eye_ii = torch.eye(n, dtype=torch.float64)
        return torch.stack([torch.linalg.solve(gram_ii + strength * eye_ii, right_i) for strength in strengths])
