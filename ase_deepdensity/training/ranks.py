"""Processes that train one model together, each on its share of the snapshots of a step.

In a script of one's own under ``torchrun``::

    with torchrun_ranks('cpu') as (ranks, device):
        Trainer(dataset, 'm.safetensors', config, device=device, ranks=ranks).run()
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TypeVar

import torch
from torch import distributed

from ase_deepdensity.launchers import torchrun_rank

T = TypeVar('T')


class Ranks:
    """All processes of a training; without ``torchrun`` this one alone.

    Only rank 0 writes files.  What it finds (errors too) is told to the others by :meth:`first`.
    """

    def __init__(self, rank: int = 0, size: int = 1):
        self.rank, self.size = rank, size

    @classmethod
    def of_torch(cls) -> Ranks:
        """Those of ``torch.distributed``, which has been initialised."""
        return cls(distributed.get_rank(), distributed.get_world_size())

    @property
    def is_first(self) -> bool:
        return self.rank == 0

    @property
    def size_here(self) -> int:
        """How many of them share this machine and its memory."""
        return int(os.environ.get('LOCAL_WORLD_SIZE', 1)) if self.size > 1 else 1

    def first(self, work: Callable[[], T]) -> T:
        """What ``work`` gives on rank 0, on all ranks; an exception there is raised on all."""
        if self.size == 1:
            return work()
        told: list[T | Exception | None] = [None]
        if self.is_first:
            try:
                told[0] = work()
            except Exception as error:
                told[0] = error
        with lost_ranks():
            distributed.broadcast_object_list(told)
        if isinstance(told[0], Exception):
            raise told[0]
        return told[0]  # type: ignore[return-value]

    def number_of_first(self, value: float) -> float:
        """The number that rank 0 has."""
        return value if self.size == 1 else self.first(lambda: value)

    def gather(self, mine: T) -> list[T]:
        """What all ranks have."""
        if self.size == 1:
            return [mine]
        all_r: list[T | None] = [None] * self.size
        with lost_ranks():
            distributed.all_gather_object(all_r, mine)
        return all_r  # type: ignore[return-value]

    def same_state(self, module: torch.nn.Module) -> None:
        """Give a module the weights and buffers that it has on rank 0."""
        if self.size > 1:
            with lost_ranks():
                for tensor in module.state_dict().values():
                    distributed.broadcast(tensor, 0)

    def sum(self, part: torch.Tensor) -> torch.Tensor:
        """Sum over ranks, of which a gradient is that of this rank's part, see :meth:`sum_gradients`."""
        if self.size == 1:
            return part
        total = part.detach().clone()
        with lost_ranks():
            distributed.all_reduce(total)
        return part + (total - part.detach())

    def sum_gradients(self, weights: Sequence[torch.nn.Parameter]) -> None:
        """Add up what the ranks have; a weight has no gradient afterwards if it has none on any rank.

        One message for all, as these networks are small: to send some while others are made gains nothing.
        """
        if self.size == 1:
            return
        parts = [torch.zeros_like(weight) if weight.grad is None else weight.grad for weight in weights]
        has_any = parts[0].new_tensor([weight.grad is not None for weight in weights])
        total = torch.cat([has_any, *(part.flatten() for part in parts)])
        with lost_ranks():
            distributed.all_reduce(total)
        has_any, *sums = total.split([len(weights), *(weight.numel() for weight in weights)])
        for weight, has, part in zip(weights, has_any.tolist(), sums, strict=True):
            weight.grad = part.view_as(weight) if has else None

    def mine(self, costs: Sequence[float]) -> list[int]:
        """Which of several pieces of work this rank does: the dearest one goes to who has least to do, and so on."""
        if self.size == 1:
            return list(range(len(costs)))
        load_r, mine = [(0.0, rank) for rank in range(self.size)], list[int]()
        for i in sorted(range(len(costs)), key=lambda i: -costs[i]):
            load, rank = min(load_r)
            load_r[rank] = load + costs[i], rank
            if rank == self.rank:
                mine.append(i)
        return sorted(mine)


ALONE = Ranks()
"""This process, in no company."""


@contextmanager
def torchrun_ranks(device: str) -> Iterator[tuple[Ranks, str]]:
    """The processes that ``torchrun`` started, or this one alone; and the device of this one.

    Parameters
    ----------
    device
        'cpu', where ranks talk by gloo, or 'cuda': one GPU for each rank, by NCCL.
    """
    if torchrun_rank() is None:
        yield ALONE, device
        return
    is_cuda = torch.device(device).type == 'cuda'
    if is_cuda:
        device = f'cuda:{os.environ["LOCAL_RANK"]}'
        torch.cuda.set_device(device)
    distributed.init_process_group('nccl' if is_cuda else 'gloo')
    try:
        yield Ranks.of_torch(), device
    finally:
        distributed.destroy_process_group()


@contextmanager
def lost_ranks() -> Iterator[None]:
    """Within it, what torch raises when another rank has ended is a :class:`ConnectionError`."""
    try:
        yield
    except RuntimeError as error:
        if isinstance(error, distributed.DistError) or 'gloo' in str(error):
            raise ConnectionError('another rank of this training has ended; the same command goes on') from error
        raise
