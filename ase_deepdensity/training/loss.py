"""What a training minimises, and the figures that people watch."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from ase_deepdensity.network.contract import Output
from ase_deepdensity.training.samples import Sample


@dataclass
class Errors:
    """Errors of one snapshot."""

    nmae: float
    """Σ|ñ − ñ_ref| / Σ ñ_ref, %."""
    matrix_squares: torch.Tensor
    """(nspecies, 3) Σ (D − D_ref)², Σ (D_ref − mean of the element)², number of elements."""


def charbonnier(error_R: torch.Tensor, smoothing: float) -> torch.Tensor:
    """Σ √(x² + δ²) − δ: |x| with a round bottom."""
    return ((error_R.square() + smoothing**2).sqrt() - smoothing).sum()


def matrix_squares(output: Output, sample: Sample, mean_sii: list[torch.Tensor]) -> torch.Tensor:
    """(nspecies, 3) squared errors, squared deviations from the mean of the element, and how many."""
    return torch.stack(
        [
            torch.stack([(D - D_ref).square().sum(), (D_ref - mean).square().sum(), D.new_tensor(D.numel())])
            if len(D_ref)
            else D.new_zeros(3)
            for D, D_ref, mean in zip(output.D_saii, sample.D_saii, mean_sii, strict=True)
        ]
    )


def relative_matrix_errors(squares_sx: torch.Tensor) -> torch.Tensor:
    """ε_D of the species that occur: RMS(D − D_ref) / RMS(D_ref − mean); a zero if none has a matrix."""
    occurring = squares_sx[squares_sx[:, 2] > 0]
    if len(occurring) == 0:
        return squares_sx.new_zeros(1)
    return (occurring[:, 0] / occurring[:, 1].clamp(min=1e-12)).sqrt()
