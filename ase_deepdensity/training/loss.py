"""What a training minimises, and the figures that people watch."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from ase.data import chemical_symbols

from ase_deepdensity.analysis.compare import epsilon_D
from ase_deepdensity.network.contract import DensityNetwork, Matrices, Output
from ase_deepdensity.training.samples import GridSampler, Sample

SMALLEST_SPREAD = 1e-3
"""Of density matrices around their mean, in units of its RMS: differences below it count as noise."""


def charbonnier(error_R: torch.Tensor, smoothing: float) -> torch.Tensor:
    """Σ √(x² + δ²) − δ: |x| with a round bottom."""
    return ((error_R.square() + smoothing**2).sqrt() - smoothing).sum()


def matrix_squares(D_zaii: Matrices, sample: Sample, mean_zii: Matrices) -> torch.Tensor:
    """Σ (D − D_ref)², Σ (D_ref − mean of the element)² and the number of matrix elements: (nspecies, 3).

    Parameters
    ----------
    D_zaii
        Predicted, for each element that occurs (natoms of it, ni, ni).
    mean_zii
        For each element of the model (ni, ni).
    """
    return torch.stack(
        [
            torch.stack(
                [
                    (D_zaii[Z] - sample.D_zaii[Z]).square().sum(),
                    (sample.D_zaii[Z] - mean_ii).square().sum(),
                    mean_ii.new_tensor(sample.D_zaii[Z].numel()),
                ]
            )
            if Z in sample.D_zaii
            else mean_ii.new_zeros(3)
            for Z, mean_ii in mean_zii.items()
        ]
    )


def total_matrices(output: Output) -> Matrices:
    """(natoms, ni, ni) of the total, mean over members, by atomic number."""
    return {Z: D_esaii[:, 0].mean(0) for Z, D_esaii in output.D_zesaii.items()}


def mean_spreads(samples: list[Sample], mean_zii: Matrices) -> torch.Tensor:
    """⟨(D_ref − mean)²⟩ of each species over the matrix elements of all snapshots: (nspecies,), 1 where there are none.

    A step divides by this, not by the spread in its own few snapshots, which can be next to nothing.
    """
    square_zx = torch.stack([matrix_squares(mean_zii, sample, mean_zii) for sample in samples]).sum(0)
    least_z = torch.stack(
        [SMALLEST_SPREAD**2 * mean_ii.square().sum() / max(mean_ii.numel(), 1) for mean_ii in mean_zii.values()]
    )
    spread_z = torch.maximum(square_zx[:, 1] / square_zx[:, 2].clamp(min=1), least_z)
    return torch.where(spread_z > 0, spread_z, 1.0)


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
        output: Output = network(sample.system)
        density_R, target_R, _ = sampler(sample, output, 1)
        error_R = sample.normalized_error(density_R - target_R, total_matrices(output))
        nmae.append(100 * error_R.abs().sum(dtype=torch.float64).item() / sample.electrons)
        squares.append(matrix_squares(total_matrices(output), sample, network.mean_zii))
    return Score(float(np.mean(nmae)), total_matrix_error(network, squares))


def total_matrix_error(network: DensityNetwork, squares_tsx: list[torch.Tensor]) -> float:
    """ε_D of all elements and snapshots together."""
    squares_sx = torch.stack(squares_tsx).double().sum(0).tolist()
    by_symbol = {chemical_symbols[Z]: (x[0], x[1]) for Z, x in zip(network.species, squares_sx, strict=True) if x[2]}
    return epsilon_D(by_symbol)['total'] if by_symbol else 0.0
