"""Machine-learned PAW electron densities for ASE and GPAW.

Names are imported when first used, so that ``import ase_deepdensity`` itself is quick.
"""

from __future__ import annotations

import importlib
import os
from typing import TYPE_CHECKING, Any

from ase_deepdensity.forks import one_torch_thread

if TYPE_CHECKING:
    from ase_deepdensity.calculator import DeepDensity
    from ase_deepdensity.dataset import Dataset
    from ase_deepdensity.grid import Grid
    from ase_deepdensity.level import Level
    from ase_deepdensity.model import DensityModel
    from ase_deepdensity.model_files import shipped_models
    from ase_deepdensity.scf.calculator import SeededGPAW
    from ase_deepdensity.scf.one_pass import OnePassGPAW
    from ase_deepdensity.state import PAWDensity

__all__ = [
    'Dataset',
    'DeepDensity',
    'DensityModel',
    'Grid',
    'Level',
    'OnePassGPAW',
    'PAWDensity',
    'SeededGPAW',
    '__version__',
    'shipped_models',
]
__version__ = '0.1.0'

_HOMES = {
    'Dataset': 'dataset',
    'DeepDensity': 'calculator',
    'DensityModel': 'model',
    'Grid': 'grid',
    'Level': 'level',
    'OnePassGPAW': 'scf.one_pass',
    'PAWDensity': 'state',
    'SeededGPAW': 'scf.calculator',
    'shipped_models': 'model_files',
}

os.register_at_fork(after_in_child=one_torch_thread)


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f'module {__name__!r} has no attribute {name!r}')
    return getattr(importlib.import_module(f'{__name__}.{_HOMES[name]}'), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
