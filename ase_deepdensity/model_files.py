"""Where models are: found by name or path without opening them, which needs torch."""

from __future__ import annotations

import os
from pathlib import Path

from ase_deepdensity.arguments import did_you_mean

SUFFIX = '.safetensors'
SHIPPED = Path(__file__).parent / 'models'


class ModelError(ValueError):
    """A model that does not exist or a file that is not a whole model."""


def shipped_models() -> list[str]:
    """Names of the models that come with the package."""
    return sorted(path.name.removesuffix(SUFFIX) for path in SHIPPED.glob(f'*{SUFFIX}'))


def model_path(name_or_path: str | Path) -> Path:
    """The file of a shipped model or of a path.

    Raises
    ------
    ModelError
        Neither; the message suggests shipped models and files of models beside the path.
    """
    name = str(name_or_path)
    shipped = shipped_models()
    if name in shipped:
        return SHIPPED / f'{name}{SUFFIX}'
    path = Path(name)
    if os.path.isdir(path) and name:
        raise ModelError(f'{name}: this is a folder; give the name of a model or a model file')
    if '\0' in name or not os.path.isfile(path):
        beside = [] if '\0' in name else [str(file) for file in path.parent.glob(f'*{SUFFIX}') if file.is_file()]
        hint = did_you_mean(name, [*shipped, *beside])
        raise ModelError(f'no model {name!r}: neither a file nor a shipped model ({", ".join(shipped)}){hint}')
    return path
