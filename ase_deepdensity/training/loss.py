"""What a training minimises: sums over points and atoms, means over the members of an ensemble."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import torch

from ase_deepdensity.network.contract import Matrices

SMALLEST_SPREAD = 1e-3
"""Of density matrices around their mean, in units of its RMS: differences below it count as noise."""


def charbonnier(error: torch.Tensor, smoothing: float) -> torch.Tensor:
    """√(x² + δ²) − δ: |x| with a round bottom."""
    return (error.square() + smoothing**2).sqrt() - smoothing


def density_loss(
    error_esp: torch.Tensor, weight_p: torch.Tensor, smoothing: float, magnetisation_weight: float = 1.0
) -> torch.Tensor:
    """Σ_p w (charbonnier of the error of the total, and weight times that of the magnetisation); mean over members."""
    loss_sp = charbonnier(error_esp, smoothing).sum(0)
    return ((_weights(loss_sp, magnetisation_weight) @ loss_sp) * weight_p).sum() / len(error_esp)


def absolute_error(error_esp: torch.Tensor, weight_p: torch.Tensor) -> torch.Tensor:
    """Σ_p w (|error of spin up| + |error of spin down|), which is |total| + |magnetisation| at most; mean over members.

    |a + b| / 2 + |a − b| / 2 is the larger of |a| and |b|.
    """
    return (error_esp.abs().amax(1) * weight_p).sum() / len(error_esp)


def matrix_squares(
    D_zesaii: Matrices, D_zsaii: Matrices, mean_zii: Mapping[int, torch.Tensor], species: Sequence[int]
) -> torch.Tensor:
    """Σ (D − D_ref)², Σ (D_ref − mean)² and the number of matrix elements: (nspecies, 2, 3), total and magnetisation.

    Parameters
    ----------
    D_zesaii
        Predicted, (members, 1 or 2, natoms, ni, ni) by atomic number.
    D_zsaii
        What they should be, (1 or 2, natoms, ni, ni).
    mean_zii
        (ni, ni) of the total, the model's; that of a magnetisation is zero, as all moments could be the other way.
    species
        Atomic numbers in the order of the first axis.
    """
    rows_z = [
        _squares(D_zesaii[Z], D_zsaii[Z], mean_zii[Z]) if Z in D_zsaii else mean_zii[Z].new_zeros(2, 3) for Z in species
    ]
    return torch.stack(rows_z)


def _squares(D_esaii: torch.Tensor, ref_saii: torch.Tensor, mean_ii: torch.Tensor) -> torch.Tensor:
    """(2, 3) of one element; zeros for a magnetisation that neither side has."""
    ncomponents = max(D_esaii.shape[1], len(ref_saii))
    error_esaii = difference(D_esaii, ref_saii)
    mean_sii = padded(mean_ii[None], ncomponents)
    spread_saii = padded(ref_saii, ncomponents) - mean_sii[:, None]
    number_s = spread_saii.new_full((ncomponents,), spread_saii[0].numel())
    squares = error_esaii.square().mean(0).sum((1, 2, 3)), spread_saii.square().sum((1, 2, 3)), number_s
    return padded(torch.stack(squares, 1), 2)


def difference(x_es: torch.Tensor, target_s: torch.Tensor) -> torch.Tensor:
    """(members, components, ...) of all members; a magnetisation that only one side has is zero on the other."""
    ncomponents = max(x_es.shape[1], len(target_s))
    return torch.stack([padded(x_s, ncomponents) for x_s in x_es]) - padded(target_s, ncomponents)


def padded(x_s: torch.Tensor, ncomponents: int) -> torch.Tensor:
    """With the magnetisation zero where there is none: (ncomponents, ...)."""
    return torch.cat([x_s, x_s.new_zeros(ncomponents - len(x_s), *x_s.shape[1:])]) if len(x_s) < ncomponents else x_s


def mean_spreads(
    D_tzsaii: Iterable[Matrices], mean_zii: Mapping[int, torch.Tensor], species: Sequence[int]
) -> torch.Tensor:
    """⟨(D_ref − mean)²⟩ over the matrix elements of all snapshots: (nspecies, 2), 1 where there are none.

    A step divides by this, not by the spread in its own few snapshots, which can be next to nothing.
    """
    squares_tzsx = [
        matrix_squares({Z: D_saii[None] for Z, D_saii in D_zsaii.items()}, D_zsaii, mean_zii, species)
        for D_zsaii in D_tzsaii
    ]
    squares_zsx = torch.stack(squares_tzsx).sum(0)
    least_z = torch.stack(
        [SMALLEST_SPREAD**2 * mean_zii[Z].square().sum() / max(mean_zii[Z].numel(), 1) for Z in species]
    )
    spread_zs = torch.maximum(squares_zsx[..., 1] / squares_zsx[..., 2].clamp(min=1), least_z[:, None])
    return torch.where(spread_zs > 0, spread_zs, 1.0)


def matrix_loss(squares_zsx: torch.Tensor, spread_zs: torch.Tensor, magnetisation_weight: float = 1.0) -> torch.Tensor:
    """RMS(D − D_ref) / √spread, mean over what occurs of species and components; a zero if nothing has a matrix.

    Those of the magnetisation are multiplied by their weight.
    """
    occurring = squares_zsx[..., 2] > 0
    if not occurring.any():
        return squares_zsx.new_zeros(())
    mean_i = squares_zsx[occurring][:, 0] / squares_zsx[occurring][:, 2]
    weight_zs = _weights(spread_zs[0], magnetisation_weight).expand_as(spread_zs)
    return (weight_zs[occurring] * (mean_i / spread_zs[occurring] + 1e-12).sqrt()).mean()


def _weights(x_s: torch.Tensor, magnetisation_weight: float) -> torch.Tensor:
    """(components,) 1 for the total, and that of the magnetisation; ``x_s``: anything with that first axis."""
    return x_s.new_tensor([1.0, magnetisation_weight][: len(x_s)])


def total_matrix_error(squares_tzsx: Iterable[torch.Tensor]) -> float:
    """ε_D of all elements and steps together, from :func:`matrix_squares`; 0 where there is nothing."""
    error2, spread2, _ = torch.stack(list(squares_tzsx)).double().sum((0, 1, 2)).tolist()
    return float((error2 / spread2) ** 0.5) if spread2 > 0 else 0.0
