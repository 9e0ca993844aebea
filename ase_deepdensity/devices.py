"""Torch devices."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext

import torch


def default_device(name: str) -> AbstractContextManager[object]:
    """Make new tensors there, whatever ``torch.set_default_device`` has said; costs nothing where that is the case."""
    here = torch.empty(0).device  # torch 2.7 has a get_default_device that fails after set_default_device(None)
    return nullcontext() if here.type == name else torch.device(name)
