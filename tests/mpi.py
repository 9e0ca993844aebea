"""Python under ``mpiexec``."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

needs_mpiexec = pytest.mark.skipif(shutil.which('mpiexec') is None, reason='mpiexec is not installed')


def on_ranks(
    ranks: int, arguments: Sequence[str], folder: Path, timeout: float = 600
) -> subprocess.CompletedProcess[str]:
    """Run Python with these arguments on so many ranks, one thread each."""
    version = subprocess.run(['mpiexec', '--version'], capture_output=True, text=True).stdout
    options = ['--allow-run-as-root', '--oversubscribe'] if 'Open' in version else []
    environment = {k: v for k, v in os.environ.items() if not k.startswith(('OMPI_', 'PMI', 'GPAW_MPI'))}
    return subprocess.run(
        ['mpiexec', *options, '-n', str(ranks), sys.executable, *arguments],
        cwd=folder,
        env=environment | {'OMP_NUM_THREADS': '1', 'PYTHONPATH': os.pathsep.join([os.getcwd(), *sys.path])},
        capture_output=True,
        text=True,
        timeout=timeout,
    )
