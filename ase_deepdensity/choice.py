"""Which shipped model knows some atoms best, for whoever names none."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from ase import Atoms
from ase.data import chemical_symbols

from ase_deepdensity.checks import MAX_UNFAMILIAR, PredictionError, as_prediction_error
from ase_deepdensity.geometry import total_charge
from ase_deepdensity.level import Level
from ase_deepdensity.model import DensityModel
from ase_deepdensity.model_content import read_header
from ase_deepdensity.model_files import model_path, shipped_models
from ase_deepdensity.predict import Predictor

USUAL = 'pw400'
"""The level that decides between models that are equally good, where nobody asks for another."""
ALIKE = 1.5
"""Distances from the training data of different models that differ by less tell nothing."""


@dataclass(frozen=True)
class Choice:
    """A model, and why it was chosen."""

    model: DensityModel
    distance: float
    """Of the strangest atom from its training data, see :class:`.EnvironmentDistance`; infinite: no finite output."""
    candidates: tuple[str, ...]
    """Names of the shipped models that know all elements of the atoms."""

    def __str__(self) -> str:
        known = 'familiar' if self.distance <= MAX_UNFAMILIAR else 'not familiar'
        others = [name for name in self.candidates if name != self.model.name]
        why = f'chosen before {" and ".join(others)}' if others else 'the only shipped model that knows these elements'
        return (
            f'{self.model.name}, {why}; the strangest atom is at {self.distance:.2f} from its training data '
            f'({known}: the limit is {MAX_UNFAMILIAR})'
        )


def choose(atoms: Atoms | Sequence[Atoms], level: Level | None = None) -> Choice:
    """The shipped model that knows some atoms best; every file in the folder of models takes part.

    Models must know all elements.  Those that are told magnetic moments have learned from spin-polarised calculations:
    they are for atoms with moments, and for others only where no other model knows the elements.  Of those that are
    left, and to which the environments of all atoms are familiar (closer than :data:`.MAX_UNFAMILIAR`), it is the one
    of the fewest elements, since it has seen the most of them, and then the one whose level of theory is the nearest.
    If there are none, the least far off are left, up to a factor of :data:`ALIKE`, and the level decides.

    Parameters
    ----------
    atoms
        Some atoms, or several frames that are to have the same model.
    level
        Of the calculation whose density is wanted.  Default: :data:`USUAL`.

    Raises
    ------
    PredictionError
        No model knows all elements, and what :func:`.check_atoms` refuses for all that do.
    """
    frames = [atoms] if isinstance(atoms, Atoms) else list(atoms)
    level = Level.load(USUAL) if level is None else level
    names = _of_spin(_knowing(frames), frames)
    choices, errors = list[Choice](), list[PredictionError]()
    for name in names:
        model = DensityModel.load(name)
        try:
            choices.append(Choice(model, _distance(model, frames), tuple(names)))
        except PredictionError as error:  # a charge, moments: another model may be told of them
            errors.append(error)
    if not choices:
        raise errors[0]
    familiar = [choice for choice in choices if choice.distance <= MAX_UNFAMILIAR]
    least = min(choice.distance for choice in choices)
    alike = familiar or [choice for choice in choices if choice.distance <= ALIKE * least]
    return min(alike, key=lambda choice: _rank(choice, level, by_elements=bool(familiar)))


def kind(atoms: Atoms) -> tuple[frozenset[int], float, bool]:
    """What a choice is made for: elements, charge (|e|), moments or none; atoms of another kind get another choice."""
    with as_prediction_error():
        charge = total_charge(atoms)
    return frozenset(atoms.numbers.tolist()), charge, _is_magnetic(atoms)


def _knowing(frames: Sequence[Atoms]) -> list[str]:
    """Names of the shipped models that know all elements; only the beginnings of their files are read."""
    wanted = {number for atoms in frames for number in atoms.numbers.tolist()}
    lacking = {name: sorted(wanted - _species(name)) for name in shipped_models()}
    names = [name for name, numbers in lacking.items() if not numbers]
    if not names:
        lists = '; '.join(f'{name} lacks {_symbols(numbers)}' for name, numbers in lacking.items())
        raise PredictionError(
            f'no shipped model knows {_symbols(sorted(wanted))}{" together" if len(wanted) > 1 else ""} ({lists}); '
            'name a model file of your own, see "make a model of my own" in docs/howto.md'
        )
    return names


def _of_spin(names: list[str], frames: Sequence[Atoms]) -> list[str]:
    """Without the models for magnetic atoms, where no atom is magnetic and there are others."""
    if any(_is_magnetic(atoms) for atoms in frames):
        return names
    return [name for name in names if not _architecture(name)['hypers'].get('magnetic')] or names


def _is_magnetic(atoms: Atoms) -> bool:
    return bool(atoms.get_initial_magnetic_moments().any())


def _architecture(name: str) -> dict[str, Any]:
    architecture: dict[str, Any] = read_header(model_path(name))['architecture']
    return architecture


def _species(name: str) -> set[int]:
    return set(_architecture(name)['species'])


def _symbols(numbers: Sequence[int]) -> str:
    return ', '.join(chemical_symbols[number] for number in numbers)


def _distance(model: DensityModel, frames: Sequence[Atoms]) -> float:
    """Of the strangest atom from the model's training data."""
    predictor = Predictor(model)
    worst = float(np.max([predictor.unfamiliar(atoms).max() for atoms in frames]))
    return worst if np.isfinite(worst) else np.inf


def _rank(choice: Choice, level: Level, by_elements: bool) -> tuple[Any, ...]:
    """The lowest is the best."""
    model = choice.model
    nspecies = len(model.species) if by_elements else 0
    return nspecies, len(level.differences(model.level)), choice.distance, model.name
