"""Errors of a network on whole grids, as ``deepdensity evaluate`` gives them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch

from ase_deepdensity.analysis.compare import epsilon_D, magnetisation_nmae, matrix_squares, nmae
from ase_deepdensity.atoms_coefficients import atomic_matrices
from ase_deepdensity.collocation.density import DensityEvaluator
from ase_deepdensity.network.contract import DensityNetwork
from ase_deepdensity.spin import spins
from ase_deepdensity.state import PAWDensity
from ase_deepdensity.training.batch import cosets
from ase_deepdensity.training.data import Sample, Target, TrainingData
from ase_deepdensity.training.loss import padded
from ase_deepdensity.training.ranks import ALONE, Ranks
from ase_deepdensity.training.step import density_at


@dataclass(frozen=True)
class Score:
    """Errors of a network on some snapshots."""

    nmae: float
    """Σ|ñ − ñ_ref| / Σ ñ_ref of normalised densities, %, mean over snapshots; infinite if one cannot be normalised."""
    matrix_error: float
    """ε_D of all elements together, see :func:`.density_matrix_error`; 0 where atoms have no matrices."""
    magnetisation_nmae: float = 0.0
    """Σ|m − m_ref| / Σ|m_ref| of normalised densities, %, mean over snapshots with a magnetisation; 0 without any."""


@dataclass(frozen=True)
class Errors:
    """Of one snapshot."""

    nmae: float
    """%; infinite if the density cannot be normalised."""
    magnetisation_nmae: float | None
    """%, None without a magnetisation."""
    squares: dict[str, tuple[float, float]]
    """By element, see :func:`.analysis.compare.matrix_squares`."""


def score(
    network: DensityNetwork,
    data: TrainingData,
    evaluate: DensityEvaluator,
    device: torch.device,
    ranks: Ranks = ALONE,
) -> Score:
    """Errors of the mean over a network's members on all snapshots, of which each rank takes its share."""
    mine = ranks.mine([sample.system.natoms for sample in data])
    errors_rt = ranks.gather([errors_of(network, data, t, evaluate, device) for t in mine])
    errors_t = [errors for errors_t in errors_rt for errors in errors_t]
    if any(errors is None for errors in errors_t):
        return Score(float('inf'), float('inf'))
    finite_t = [errors for errors in errors_t if errors is not None]
    squares: dict[str, tuple[float, float]] = defaultdict(lambda: (0.0, 0.0))
    for errors in finite_t:
        for symbol, (error2, spread2) in errors.squares.items():
            squares[symbol] = squares[symbol][0] + error2, squares[symbol][1] + spread2
    magnetic = [errors.magnetisation_nmae for errors in finite_t if errors.magnetisation_nmae is not None]
    total = epsilon_D(squares)['total'] if any(spread2 for _, spread2 in squares.values()) else 0.0
    nmae = float(np.mean([errors.nmae for errors in finite_t]))
    return Score(nmae, total, float(np.mean(magnetic)) if magnetic else 0.0)


@torch.no_grad()
def errors_of(
    network: DensityNetwork, data: TrainingData, t: int, evaluate: DensityEvaluator, device: torch.device
) -> Errors | None:
    """Errors on a snapshot; None: the network says what is not finite."""
    reference = data.reference(t)
    state = predicted(network, data[t], reference, data.target_of(reference), evaluate, device)
    if state is None:
        return None
    squares = matrix_squares([state], [reference], spin_means(network, reference.nspins))
    if state.integral() <= 0:
        return Errors(float('inf'), None, squares)
    scaled = state.normalized()
    return Errors(nmae(scaled, reference), magnetisation_nmae(scaled, reference), squares)


def predicted(
    network: DensityNetwork,
    sample: Sample,
    reference: PAWDensity,
    target: Target,
    evaluate: DensityEvaluator,
    device: torch.device,
) -> PAWDensity | None:
    """What a network says of a snapshot, on its whole grid, not normalised: its reference plus the error.

    None: it says what is not finite.
    """
    batch = cosets([sample], [target], network.cutoff, 1).to(device)
    output = network(batch.system).mean()
    density_sp = density_at(output, batch, evaluate)[0]
    if not (density_sp.isfinite().all() and output.finite_a(batch.system).all()):
        return None
    ncomponents = max(len(density_sp), reference.nspins)
    error_sp = padded(density_sp, ncomponents) - padded(batch.target_sp, ncomponents)
    error_sR = error_sp.double().cpu().numpy().reshape(ncomponents, *reference.grid.shape)
    D_asii = atomic_matrices(output, reference.atoms.numbers, reference.nspins)
    return reference.new(nt_sR=reference.nt_sR + spins(error_sR, reference.nspins), D_asii=D_asii)


def spin_means(network: DensityNetwork, nspins: int) -> Mapping[int, np.ndarray]:
    """(nspins, ni, ni) mean matrix of each element in the training data of a network."""
    return {Z: spins(mean_ii.double().cpu().numpy()[None], nspins) for Z, mean_ii in network.mean_zii.items()}
