"""How wrong a prediction is likely to be, before anybody knows the truth."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from ase import Atoms

from ase_deepdensity.atoms_coefficients import AtomsCoefficients
from ase_deepdensity.checks import PredictionError
from ase_deepdensity.network.contract import Coefficients
from ase_deepdensity.network.error_bars import Seen
from ase_deepdensity.network.readout import Features
from ase_deepdensity.network.system import System
from ase_deepdensity.network_runner import MOST_IN_BLOCK, NetworkRunner


@dataclass(frozen=True)
class ExpectedError:
    """Of the normalised pseudo density of some atoms."""

    error_a: np.ndarray
    """(natoms,) expected ∫ |ñ − ñ_true| dr over the points that are nearest to each atom, electrons."""
    electrons: float
    """∫ ñ dr."""
    spread: float
    """σ of ln NMAE, from whole systems that were held out of training: errors differ by factors."""

    @property
    def nmae(self) -> float:
        """Expected normalised mean absolute error of ñ, %."""
        return 100 * float(self.error_a.sum()) / self.electrons

    def within(self, nsigma: float = 1.0) -> tuple[float, float]:
        """The NMAE, %, is between these in two of three cases; with 2 σ in 19 of 20."""
        factor = float(np.exp(nsigma * self.spread))
        return self.nmae / factor, self.nmae * factor

    def __str__(self) -> str:
        low, high = self.within()
        return f'NMAE {self.nmae:.2g} % expected, {low:.2g} to {high:.2g} % in two of three cases'


def expected_error(runner: NetworkRunner, coefficients: AtomsCoefficients, electrons: float) -> ExpectedError:
    """From the signs of :mod:`ase_deepdensity.network.error_bars`.

    Raises
    ------
    PredictionError
        A model without error bars, or more atoms than its network is shown at once.
    """
    model, atoms = runner.model, coefficients.atoms
    if model.error_bars is None:
        raise PredictionError(
            f'{model.name} has no error bars; its training data give them: deepdensity uncertainty MODEL DATASET'
        )
    if len(atoms) > MOST_IN_BLOCK:
        raise PredictionError(f'error bars are for at most {MOST_IN_BLOCK} atoms, not {len(atoms)}')
    assert isinstance(coefficients.output, Coefficients)
    with torch.no_grad():
        system, features = coefficients.seen or _seen_again(runner, atoms)
        unfamiliar_a = torch.from_numpy(coefficients.unfamiliar_a)
        seen = Seen(system, features, coefficients.output, unfamiliar_a)
        error_a = model.error_bars(runner.network, seen)
    return ExpectedError(error_a.double().numpy(), electrons, model.error_bars.spread)


def _seen_again(runner: NetworkRunner, atoms: Atoms) -> tuple[System, Features]:
    """Where it was not kept: the network runs once more."""
    system = runner.system([atoms])
    return system, runner.network.features(system)
