"""Torch devices."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext

import torch


def default_device(name: str) -> AbstractContextManager[object]:
    """Make new tensors there, whatever ``torch.set_default_device`` has said; costs nothing where that is the case."""
    return nullcontext() if torch.get_default_device().type == name else torch.device(name)
