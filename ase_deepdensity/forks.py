"""A process made by fork has none of its parent's threads."""

from __future__ import annotations

import sys


def one_torch_thread() -> None:
    """Let torch work on one thread; for a child right after a fork.

    OpenMP there still believes in the threads of its parent, and waits for them for ever as soon as torch shares out
    work.  On one thread torch never asks OpenMP.  PyTorch's own data loaders do the same in their workers.
    """
    torch = sys.modules.get('torch')
    if torch is not None and hasattr(torch, 'set_num_threads'):  # not if torch was being imported just then
        torch.set_num_threads(1)
