"""The spoilt files of docs/benchmarks/corruptions.py, for tests."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

_spec = importlib.util.spec_from_file_location(
    'corruptions', Path(__file__).parents[1] / 'docs' / 'benchmarks' / 'corruptions.py'
)
corruptions = importlib.util.module_from_spec(_spec)
sys.modules[_spec.name] = corruptions  # where dataclasses look
_spec.loader.exec_module(corruptions)
