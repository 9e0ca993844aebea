"""What a training minimises, and the figures that people watch."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from ase.data import chemical_symbols

from ase_deepdensity.analysis.compare import epsilon_D
from ase_deepdensity.network.contract import DensityNetwork, Output
from ase_deepdensity.training.data import GridSampler, Sample

SMALLEST_SPREAD = 1e-3
"""Of density matrices around their mean, in units of its RMS: differences below it count as noise."""


def charbonnier(error_R: torch.Tensor, smoothing: float) -> torch.Tensor:
    """Σ √(x² + δ²) − δ: |x| with a round bottom."""
    return ((error_R.square() + smoothing**2).sqrt() - smoothing).sum()


def matrix_squares(D_saii: list[torch.Tensor], sample: Sample, mean_sii: list[torch.Tensor]) -> torch.Tensor:
    """Σ (D − D_ref)², Σ (D_ref − mean of the element)² and the number of matrix elements: (nspecies, 3).

    Parameters
    ----------
    D_saii
        Predicted, for each species (natoms of it, ni, ni).
    mean_sii
        For each species (ni, ni), the model's.
    """
    return torch.stack(
        [
            torch.stack([(D - D_ref).square().sum(), (D_ref - mean).square().sum(), D.new_tensor(D_ref.numel())])
            if len(D_ref)
            else D.new_zeros(3)
            for D, D_ref, mean in zip(D_saii, sample.D_saii, mean_sii, strict=True)
        ]
    )


def mean_spreads(samples: list[Sample], mean_sii: list[torch.Tensor]) -> torch.Tensor:
    """⟨(D_ref − mean)²⟩ of each species over the matrix elements of all snapshots: (nspecies,), 1 where there are none.

    A step divides by this, not by the spread in its own few snapshots, which can be next to nothing.
    """
    square_sx = torch.stack([matrix_squares(mean_sii, sample, mean_sii) for sample in samples]).sum(0)
    least_s = torch.stack(
        [SMALLEST_SPREAD**2 * mean_ii.square().sum() / max(mean_ii.numel(), 1) for mean_ii in mean_sii]
    )
    spread_s = torch.maximum(square_sx[:, 1] / square_sx[:, 2].clamp(min=1), least_s)
    return torch.where(spread_s > 0, spread_s, 1.0)


def matrix_loss(squares_sx: torch.Tensor, spread_s: torch.Tensor) -> torch.Tensor:
    """RMS(D − D_ref) / √spread, mean over the species that occur; a zero if none has a matrix."""
    occurring = squares_sx[:, 2] > 0
    if not occurring.any():
        return squares_sx.new_zeros(())
    mean_s = squares_sx[occurring, 0] / squares_sx[occurring, 2]
    return (mean_s / spread_s[occurring] + 1e-12).sqrt().mean()


@dataclass(frozen=True)
class Score:
    """Errors of a network on some snapshots, as ``deepdensity evaluate`` gives them."""

    nmae: float
    """Σ|ñ − ñ_ref| / Σ ñ_ref of normalised densities, %, mean over snapshots; infinite if one cannot be normalised."""
    matrix_error: float
    """ε_D of all elements together, see :func:`.density_matrix_error`; 0 where atoms have no matrices."""


@torch.no_grad()
def score(network: DensityNetwork, samples: list[Sample], sampler: GridSampler) -> Score:
    """Errors on whole grids; the samples must have kept their densities."""
    nmae, squares = [], []
    for sample in samples:
        output: Output = network(sample.graph)
        density_R, target_R, _ = sampler(sample, output, 1)
        error_R = sample.normalized_error(density_R - target_R, output.D_saii)
        nmae.append(100 * error_R.abs().sum(dtype=torch.float64).item() / sample.electrons)
        squares.append(matrix_squares(output.D_saii, sample, network.mean_sii))
    return Score(float(np.mean(nmae)), total_matrix_error(network, squares))


def total_matrix_error(network: DensityNetwork, squares_tsx: list[torch.Tensor]) -> float:
    """ε_D of all elements and snapshots together."""
    squares_sx = torch.stack(squares_tsx).double().sum(0).tolist()
    by_symbol = {chemical_symbols[Z]: (x[0], x[1]) for Z, x in zip(network.species, squares_sx, strict=True) if x[2]}
    return epsilon_D(by_symbol)['total'] if by_symbol else 0.0
