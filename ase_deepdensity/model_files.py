"""Where models are: found by name or path without opening them, which needs torch."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open

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


def read_header(path: Path) -> dict[str, Any]:
    """What a model file says of itself: architecture, level, card; neither weights nor their checks.

    Raises
    ------
    ModelError
        Not a model file.
    """
    try:
        with safe_open(path, framework='numpy') as file:
            header: dict[str, Any] = json.loads((file.metadata() or {})['header'])
    except (SafetensorError, OSError, KeyError, ValueError) as error:
        raise ModelError(f'{path}: not a model file, or a truncated one ({error})') from None
    return header
