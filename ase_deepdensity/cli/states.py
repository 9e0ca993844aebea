"""Densities that a command is given: files of them, or geometries and a model."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ase_deepdensity.state import PAWDensity

DENSITIES = '.h5', '.hdf5', '.gpw'


def is_density(source: str) -> bool:
    """Does a file hold a density, by its name?"""
    return Path(source).suffix in DENSITIES


def read_density_file(source: str) -> PAWDensity:
    """Of a file of ours or of GPAW's."""
    if not Path(source).is_file():
        raise ValueError(f'{source}: no such file')
    if Path(source).suffix == '.gpw':
        from ase_deepdensity.codes.gpaw.state import state_of_file

        return state_of_file(source)
    from ase_deepdensity.dataset.density_file import read_density

    return read_density(source)


def states(source: str, model: str | None, *, extrapolate: bool = False) -> Iterator[PAWDensity]:
    """The density of a file, or those that a model predicts for all frames of one, one after the other.

    Raises
    ------
    ValueError
        A model for a file that holds a density, or none for one that holds geometries; files that cannot be read.
    """
    if is_density(source):
        if model is not None:
            raise ValueError(f'{source} holds a density: {model} can predict nothing there')
        yield read_density_file(source)
        return
    if model is None:
        raise ValueError(f'{source} must be a density (FILE.h5, FILE.gpw), or a model must follow it that predicts one')
    from ase_deepdensity.model_files import model_path

    path = model_path(model)
    from ase_deepdensity.batches import naming_frame
    from ase_deepdensity.frames import read_frames
    from ase_deepdensity.model import DensityModel
    from ase_deepdensity.predict import Predictor

    frames = read_frames([source])
    predictor = Predictor(DensityModel.load(path), extrapolate=extrapolate)
    for i, atoms in enumerate(frames):
        with naming_frame(i, frames):
            state = predictor.predict(atoms)
        yield state
