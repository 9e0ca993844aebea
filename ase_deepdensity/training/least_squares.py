"""Least-squares coefficients of known densities: they set the scales of a network's outputs."""

from __future__ import annotations

from collections.abc import Callable

import torch

from ase_deepdensity.network.contract import Coefficient, Coefficients
from ase_deepdensity.training.samples import GridSampler, Sample


def fit_coefficients(
    sample: Sample, sampler: GridSampler, expand: Callable[[Coefficient], Coefficient], sizes: list[int], iterations: int = 15
) -> Coefficient:
    """Orthonormal coefficients y, for each l (natoms, k, 2l+1), that approximate the sample's target.

    Few conjugate-gradient steps on ‖A y − target‖² (CGLS, doi:10.6028/jres.049.044): stopping early keeps what the
    grid hardly fixes small.  ``expand`` turns y into coefficients of the basis; ``sizes`` are the k of each l.
    """
    y = _zeros(sample, sizes)
    residual_R = sample.target_R.clone()
    gradient = _transpose(sample, sampler, expand, sizes, residual_R)
    direction, square = gradient, _dot(gradient, gradient)
    for _ in range(iterations):
        with torch.no_grad():
            image_R, _, _ = sampler(sample, written(expand(direction)), 1)
            step = square / image_R.square().sum()
            y = [a + step * b for a, b in zip(y, direction, strict=True)]
            residual_R = residual_R - step * image_R
        gradient = _transpose(sample, sampler, expand, sizes, residual_R)
        square, old = _dot(gradient, gradient), square
        direction = [a + square / old * b for a, b in zip(gradient, direction, strict=True)]
    return y


def written(c_lanm: Coefficient) -> Coefficients:
    """Coefficients of the basis as the output of a network that says nothing else."""
    return Coefficients({}, torch.zeros(0), [c_anm[None, None] for c_anm in c_lanm])


def _transpose(
    sample: Sample,
    sampler: GridSampler,
    expand: Callable[[Coefficient], Coefficient],
    sizes: list[int],
    residual_R: torch.Tensor,
) -> Coefficient:
    """Aᵀ residual, by automatic differentiation of A."""
    with torch.enable_grad():
        y = [block.requires_grad_() for block in _zeros(sample, sizes)]
        density_R, _, _ = sampler(sample, written(expand(y)), 1)
        return list(torch.autograd.grad((density_R * residual_R).sum(), y))


def _zeros(sample: Sample, sizes: list[int]) -> Coefficient:
    return [torch.zeros(sample.natoms, k, 2 * l + 1, device=sample.target_R.device) for l, k in enumerate(sizes)]


def _dot(a: Coefficient, b: Coefficient) -> torch.Tensor:
    return torch.stack([(x * y).sum() for x, y in zip(a, b, strict=True)]).sum()
