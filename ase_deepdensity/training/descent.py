"""The way of the weights: AdamW, its learning rate, and the running average of the weights that is the model."""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from typing import Any

import torch
from torch.optim.lr_scheduler import LambdaLR
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from ase_deepdensity.network.contract import DensityNetwork
from ase_deepdensity.training.clock import Clock
from ase_deepdensity.training.config import TrainingConfig
from ase_deepdensity.training.ranks import ALONE, Ranks

FLOOR = 0.003
"""What is left of the learning rate at the end."""

FORGETTING = 20
"""Steps after which the running average may forget the first weights."""


def relative_rate(step: int, warmup: int, fraction: float) -> float:
    """The learning rate in units of the highest: a parabola up in ``warmup`` steps, then half a cosine down to 0.3 %.

    ``fraction``: of the training that is over.
    """
    rising = min(1.0, (step + 1) / warmup) ** 2
    return rising * (FLOOR + (1 - FLOOR) * 0.5 * (1 + math.cos(math.pi * fraction)))


def averaged(weights: torch.nn.ParameterList, decay: float) -> AveragedModel:
    """An exponential moving average of weights, with a decay of min(``decay``, n / (n + 20)) after n steps."""

    def average(averages: Sequence[torch.Tensor], weights: Sequence[torch.Tensor], steps: torch.Tensor | int) -> None:
        n = float(steps)
        get_ema_multi_avg_fn(min(decay, n / (n + FORGETTING)))(averages, weights, steps)

    return AveragedModel(weights, multi_avg_fn=average)


def _trained(network: torch.nn.Module) -> list[torch.nn.Parameter]:
    return [weight for weight in network.parameters() if weight.requires_grad]


class Descent:
    """Takes the weights of a network down a loss.

    Parameters
    ----------
    network
        Whose weights change in place; its buffers must not change any more.
    clock
        Tells the scheduler how much of the training is over.
    trained
        The weights that change; default: all.  The others are frozen.
    ranks
        Who has parts of a loss, which add up.

    Attributes
    ----------
    averaged_network
        The same network with the running average of the weights.
    """

    def __init__(
        self,
        network: DensityNetwork,
        config: TrainingConfig,
        clock: Clock,
        trained: Sequence[torch.nn.Parameter] | None = None,
        ranks: Ranks = ALONE,
    ):
        self.network, self.clip, self.ranks = network, config.clip, ranks
        if trained is not None:
            network.requires_grad_(False)
            for weight in trained:
                weight.requires_grad_(True)
        self._weights = torch.nn.ParameterList(_trained(network))  # to go through modules takes longer than the sums
        self.optimizer = torch.optim.AdamW(
            self._weights, lr=config.learning_rate, betas=(0.9, 0.98), weight_decay=config.weight_decay
        )
        self.scheduler = LambdaLR(self.optimizer, lambda step: relative_rate(step, config.warmup, clock.fraction(step)))
        self.average = averaged(self._weights, config.averaging)
        self.averaged_network = copy.deepcopy(network)
        for weight, average in zip(_trained(self.averaged_network), self.average.module.parameters(), strict=True):
            weight.data = average.data  # the same memory from now on

    @property
    def rate(self) -> float:
        """The learning rate of the next step."""
        return float(self.optimizer.param_groups[0]['lr'])

    def differentiate(self, loss: torch.Tensor) -> torch.Tensor:
        """Take the gradient of a loss and clip it; returns the norm that it had."""
        self.optimizer.zero_grad()
        loss.backward()
        self.ranks.sum_gradients(list(self._weights))
        return torch.nn.utils.clip_grad_norm_(self._weights, self.clip)

    def advance(self) -> None:
        """Move the weights along the gradient, and their average and the learning rate with them."""
        self.optimizer.step()
        self.average.update_parameters(self._weights)
        self.scheduler.step()

    def state_dict(self) -> dict[str, dict[str, Any]]:
        """All that :meth:`load_state_dict` needs to go on; its tensors change with the next step."""
        return {
            'network': self.network.state_dict(),
            'average': self.average.state_dict(),
            'optimizer': self.optimizer.state_dict(),
            'scheduler': self.scheduler.state_dict(),
        }

    def load_state_dict(self, state: dict[str, dict[str, Any]]) -> None:
        """Go on where another one was."""
        self.network.load_state_dict(state['network'])
        self.averaged_network.load_state_dict(state['network'])  # for what does not change
        self.average.load_state_dict(state['average'])
        self.optimizer.load_state_dict(state['optimizer'])
        self.scheduler.load_state_dict(state['scheduler'])
