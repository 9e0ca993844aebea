"""Least-squares coefficients of known densities: they set the scales of a network's outputs."""

from __future__ import annotations

from collections.abc import Callable

import torch

from ase_deepdensity.collocation.density import DensityEvaluator
from ase_deepdensity.network.contract import Coefficient, Coefficients
from ase_deepdensity.training.batch import Batch
from ase_deepdensity.training.step import density_at

Expand = Callable[[Coefficient], Coefficient]
"""Parameters → coefficients of the basis."""


def fit_coefficients(
    batch: Batch, s: int, evaluate: DensityEvaluator, expand: Expand, sizes: list[int], iterations: int = 15
) -> Coefficient:
    """Orthonormal coefficients y, for each l (natoms, k, 2l+1), that approximate component ``s`` of a batch's target.

    Few conjugate-gradient steps on ‖A y − target‖² (CGLS, doi:10.6028/jres.049.044): stopping early keeps what the
    points hardly fix small.  ``expand`` turns y into coefficients of the basis; ``sizes`` are the k of each l.
    """

    def image(y: Coefficient) -> torch.Tensor:
        return density_at(written(expand(y)), batch, evaluate)[0, 0]

    def zeros() -> Coefficient:
        natoms, device = batch.system.natoms, batch.target_sp.device
        return [torch.zeros(natoms, k, 2 * l + 1, device=device) for l, k in enumerate(sizes)]

    def transpose(residual_p: torch.Tensor) -> Coefficient:
        """Aᵀ residual, by automatic differentiation of A."""
        with torch.enable_grad():
            y = [block.requires_grad_() for block in zeros()]
            return list(torch.autograd.grad((image(y) * residual_p).sum(), y))

    y, residual_p = zeros(), batch.target_sp[s].clone()
    gradient = transpose(residual_p)
    direction, square = gradient, _dot(gradient, gradient)
    for _ in range(iterations):
        if square == 0:  # nothing is left, as of a magnetisation that is zero
            break
        with torch.no_grad():
            image_p = image(direction)
            step = square / image_p.square().sum()
            y = [a + step * b for a, b in zip(y, direction, strict=True)]
            residual_p = residual_p - step * image_p
        gradient = transpose(residual_p)
        square, old = _dot(gradient, gradient), square
        direction = [a + square / old * b for a, b in zip(gradient, direction, strict=True)]
    return y


def written(c_lanm: Coefficient) -> Coefficients:
    """Coefficients of the basis as the output of a network that says nothing else."""
    return Coefficients({}, c_lanm[0].new_zeros(len(c_lanm[0]), 0), [c_anm[None, None] for c_anm in c_lanm])


def _dot(a: Coefficient, b: Coefficient) -> torch.Tensor:
    return torch.stack([(x * y).sum() for x, y in zip(a, b, strict=True)]).sum()
