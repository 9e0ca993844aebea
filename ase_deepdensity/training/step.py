"""One step of a training: (network, batch) → losses.  It knows no files, no clock and no other steps."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch

from ase_deepdensity.collocation.density import DensityEvaluator
from ase_deepdensity.collocation.points import Points
from ase_deepdensity.network.contract import DensityNetwork, Output
from ase_deepdensity.training.batch import Batch
from ase_deepdensity.training.config import TrainingConfig
from ase_deepdensity.training.loss import absolute_error, density_loss, difference, matrix_loss, matrix_squares
from ase_deepdensity.training.ranks import ALONE, Ranks


@dataclass(frozen=True)
class Losses:
    """What a step minimises, and the figures that people watch."""

    total: torch.Tensor
    """The loss, a scalar with its gradient."""
    nmae: torch.Tensor
    """Of ñ at the points of the batch, %, mean over snapshots; not normalised, no gradient."""
    squares_zsx: torch.Tensor
    """(nspecies, 2, 3), see :func:`.matrix_squares`; no gradient."""

    def detached(self) -> Losses:
        """The same without the gradient."""
        return replace(self, total=self.total.detach())


class Objective(torch.nn.Module):
    """A network with the loss it is trained on; its ``forward`` is all of a step but the optimiser.

    In a training of several processes (``ranks``) each takes its share of a batch.  The losses are those of the whole
    batch, and the gradients of all ranks add up to its gradient.

    Parameters
    ----------
    spread_zs
        (nspecies, 2) of the training data, see :func:`.mean_spreads`.
    ranks
        Whose shares are one batch.
    """

    spread_zs: torch.Tensor

    def __init__(
        self,
        network: DensityNetwork,
        evaluate: DensityEvaluator,
        spread_zs: torch.Tensor,
        config: TrainingConfig,
        ranks: Ranks = ALONE,
    ):
        super().__init__()
        self.network = network
        self.evaluate, self.ranks = evaluate, ranks
        self.smoothing, self.matrix_weight = config.smoothing, config.matrix_weight
        self.magnetisation_weight = config.magnetisation_weight
        self.register_buffer('spread_zs', spread_zs, persistent=False)

    def forward(self, batch: Batch) -> Losses:
        """The losses of a batch."""
        output: Output = self.network(batch.system)
        density_esp = density_at(output, batch, self.evaluate)
        error_esp = difference(density_esp, batch.target_sp)
        squares_zsx = matrix_squares(output.D_zesaii, batch.D_zsaii, self.network.mean_zii, self.network.species)
        on_points = density_loss(error_esp, batch.weight_p, self.smoothing, self.magnetisation_weight)
        nmae = absolute_error(error_esp.detach(), batch.weight_p)
        sums = self.ranks.sum(torch.cat([torch.stack([on_points, nmae]), squares_zsx.flatten()]))
        squares_zsx = sums[2:].view_as(squares_zsx)
        of_matrices = matrix_loss(squares_zsx, self.spread_zs, self.magnetisation_weight)
        return Losses(sums[0] + self.matrix_weight * of_matrices, sums[1].detach(), squares_zsx.detach())


def density_at(output: Output, batch: Batch, evaluate: DensityEvaluator) -> torch.Tensor:
    """(members, 1 or 2, points) what a network adds to the superposition of atoms, electrons/Å³."""
    system = batch.system
    if isinstance(batch.places, Points):
        return evaluate.at_points(output, system.position_av, system.slices, batch.places)
    parts = []
    for t, coset in enumerate(batch.places):
        position_av = system.position_av[system.slices[t]]
        moved_av = position_av - torch.from_numpy(coset.origin_v).to(position_av)
        parts.append(evaluate(output.of_system(system, t), coset.grid, moved_av).flatten(2))
    return torch.cat(parts, 2)
