"""How wrong a prediction is likely to be, before anybody knows the truth: in all, around each atom, at each point."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from ase import Atoms

from ase_deepdensity.atoms_coefficients import AtomsCoefficients
from ase_deepdensity.checks import PredictionError
from ase_deepdensity.collocation.density import DensityEvaluator
from ase_deepdensity.network.contract import Coefficients
from ase_deepdensity.network.error_bars import ErrorBars, Seen
from ase_deepdensity.network.posterior import Posterior
from ase_deepdensity.network.radial_variance import RadialVariance
from ase_deepdensity.network.readout import Features
from ase_deepdensity.network.system import System
from ase_deepdensity.network_runner import MOST_IN_BLOCK, NetworkRunner
from ase_deepdensity.state import PAWDensity, relpos_ac

WITH_DENSITY = 1 / 3
"""Exponent of ñ in σ: of 0 (far tails get too much) to 0.5 (small densities too little) the one with which molecules
and crystals that no error bar was made from were nearest to 68 and 95 % of points within 1 and 2 σ."""


@dataclass(frozen=True)
class ExpectedError:
    """Of the normalised pseudo density of some atoms."""

    error_a: np.ndarray
    """(natoms,) expected ∫ |ñ − ñ_true| dr over the points that are nearest to each atom, electrons."""
    electrons: float
    """∫ ñ dr."""
    spread: float
    """σ of ln NMAE, from whole systems that were held out of training: errors differ by factors."""
    sigma_D_aii: list[np.ndarray] | None = None
    """For each atom (ni, ni) σ of the numbers of its density matrix, both spins together; None: not known."""
    dipole_covariance_vv: np.ndarray | None = None
    """(3, 3) covariance of the likely errors of the dipole moment, (e·Å)²; None: not known.  Like the dipole moment it
    is a property of the atoms only where no matter reaches across the boundary of their cell."""

    @property
    def sigma_dipole_v(self) -> np.ndarray | None:
        """(3,) σ of the dipole moment, e·Å; None: not known."""
        if self.dipole_covariance_vv is None:
            return None
        sigma_v: np.ndarray = np.sqrt(np.diag(self.dipole_covariance_vv))
        return sigma_v

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


def expected_error(
    runner: NetworkRunner, posterior: Posterior, coefficients: AtomsCoefficients, electrons: float
) -> ExpectedError:
    """From the signs of :mod:`ase_deepdensity.network.error_bars`; those of D and the dipole from its posterior.

    Raises
    ------
    PredictionError
        A model without error bars, or more atoms than its network is shown at once.
    """
    atoms = coefficients.atoms
    bars = error_bars_of(runner, atoms)
    assert isinstance(coefficients.output, Coefficients)
    with torch.no_grad():
        system, features = coefficients.seen or _seen_again(runner, atoms)
        unfamiliar_a = torch.from_numpy(coefficients.unfamiliar_a)
        seen = Seen(system, features, coefficients.output, unfamiliar_a)
        whitened = bars.whitened(runner.network.species, features)
        rigidity_al = bars.rigidity(whitened, system)
        error_a = bars(runner.network, seen, rigidity_al).double().numpy()
        if not bars.tells_of_matrices:
            return ExpectedError(error_a, electrons, bars.spread)
        known = whitened if bars.tells_of_dipoles else None
        beyond = BeyondDensity.of(posterior, rigidity_al, known, system, atoms, error_a)
    factor_a = bars.matrix_z.double().numpy()[np.searchsorted(runner.network.species, atoms.numbers)]
    sigma_D_aii = [factor * sigma_ii for factor, sigma_ii in zip(factor_a, beyond.sigma_D_aii, strict=True)]
    covariance_vv = beyond.dipole_covariance_vv(bars.dipole_x.double().numpy()) if bars.tells_of_dipoles else None
    return ExpectedError(error_a, electrons, bars.spread, sigma_D_aii, covariance_vv)


@dataclass(frozen=True)
class BeyondDensity:
    """What the posterior says of other things than the density, before it is made as large as errors are."""

    sigma_D_aii: list[np.ndarray]
    """For each atom (ni, ni) σ of its density matrix."""
    dipole_covariance_xvv: np.ndarray
    """(2, 3, 3) of what charges and dipoles of atoms bring to the dipole moment, (e·Å)²."""

    def dipole_covariance_vv(self, factor_x: np.ndarray) -> np.ndarray:
        """(3, 3) with the two factors of :attr:`.ErrorBars.dipole_x`, (e·Å)²."""
        covariance_vv: np.ndarray = np.einsum('x, xvw -> vw', factor_x**2, self.dipole_covariance_xvv)
        return covariance_vv

    @classmethod
    def of(
        cls,
        posterior: Posterior,
        rigidity_al: torch.Tensor,
        whitened: Features | None,
        system: System,
        atoms: Atoms,
        error_a: np.ndarray,
    ) -> BeyondDensity:
        """Of some atoms.

        Parameters
        ----------
        rigidity_al
            Of :meth:`.ErrorBars.rigidity`.
        whitened
            Of :meth:`.ErrorBars.whitened`; None: the dipole does not matter, and its covariance is zero.
        error_a
            (natoms,) expected errors of ñ, electrons.
        """
        u2_al = rigidity_al.double().numpy()
        integral_a = posterior.radial.integrals(atoms.numbers, u2_al)
        covariance_xvv = np.zeros((2, 3, 3))
        if whitened is not None:
            covariance_xvv += posterior.dipole(whitened, system, relpos_ac(atoms) @ atoms.cell.array)
        return cls(
            posterior.matrices(atoms.numbers, u2_al, error_a / integral_a),
            (error_a.sum() / integral_a.sum()) ** 2 * covariance_xvv,
        )


def expected_error_gradient(runner: NetworkRunner, atoms: Atoms) -> np.ndarray:
    """d/dR Σ_a E_a of the expected errors of :func:`expected_error`: (natoms, 3) electrons/Å.

    All signs are differentiated, but for which atoms are neighbours: where one comes or goes, where another neighbour
    becomes the strangest, and where a sign is out of its range, E has a step or a kink.
    """
    bars = error_bars_of(runner, atoms)
    position_av = torch.tensor(atoms.positions, dtype=torch.float64, requires_grad=True)
    system = runner.system([atoms], position_av)
    output, features = runner.network.with_features(system)
    unfamiliar_a = runner.distances(output, system)
    output = runner.judged(output, system)[0]
    assert isinstance(output, Coefficients)
    error_a = bars(runner.network, Seen(system, features, output, unfamiliar_a))
    (gradient_av,) = torch.autograd.grad(error_a.double().sum(), position_av)
    result: np.ndarray = gradient_av.numpy()
    return result


def error_bars_of(runner: NetworkRunner, atoms: Atoms) -> ErrorBars:
    """Those of the model; refuses one without, and more atoms than its network is shown at once."""
    model = runner.model
    if model.error_bars is None:
        raise PredictionError(
            f'{model.name} has no error bars; its training data give them: deepdensity uncertainty MODEL DATASET'
        )
    if len(atoms) > MOST_IN_BLOCK:
        raise PredictionError(f'error bars are for at most {MOST_IN_BLOCK} atoms, not {len(atoms)}')
    return model.error_bars


class Sigma:
    """σ of ñ at points, of the coefficients that a runner's network gives.

    Where the last layer's posterior variance is (:mod:`ase_deepdensity.network.radial_variance`), each atom's part as
    large as the error that is expected around it, and where electrons are: errors are larger where there is more,

        σ ∝ Var^((1−α)/2) ñ^α,    α = :data:`WITH_DENSITY`,    √(2/π) ∫ σ dr = Σ_a E_a,

    as the mean of |x| of a Gaussian is √(2/π) σ.  Beyond the reach of the basis (3 Å) of all atoms it is zero.
    """

    def __init__(self, runner: NetworkRunner, radial: RadialVariance):
        self.runner, self.radial = runner, radial
        self.evaluator = DensityEvaluator(self.radial.fine, runner.dtype, grids=1)

    @torch.no_grad()
    def __call__(self, coefficients: AtomsCoefficients, expected: ExpectedError, density: PAWDensity) -> np.ndarray:
        """(n0, n1, n2) electrons/Å³, float64.

        Parameters
        ----------
        expected
            Of the same coefficients.
        density
            Theirs, on a whole grid.
        """
        runner, bars, atoms = self.runner, self.runner.model.error_bars, coefficients.atoms
        assert bars is not None
        system, features = coefficients.seen or _seen_again(runner, atoms)
        rigidity_al = bars.rigidity(bars.whitened(runner.network.species, features), system).double().numpy()
        c_anm = self.radial.coefficients(atoms.numbers, rigidity_al, expected.error_a)
        output = Coefficients({}, c_anm.new_zeros(len(atoms), 0), [c_anm[None, None].to(runner.device, runner.dtype)])
        position_av = torch.from_numpy(atoms.positions).to(runner.device)
        variance_R = self.evaluator(output, density.grid, position_av)[0, 0].double().cpu().numpy()
        nt_R = density.nt_sR.sum(axis=0)
        sigma_R = variance_R.clip(min=0) ** ((1 - WITH_DENSITY) / 2) * nt_R.clip(min=0) ** WITH_DENSITY
        integral = float(sigma_R.sum()) * density.grid.dv
        of_all = (np.pi / 2) ** 0.5 * float(expected.error_a.sum())
        result: np.ndarray = sigma_R * (of_all / integral if integral else 0.0)
        return result


def _seen_again(runner: NetworkRunner, atoms: Atoms) -> tuple[System, Features]:
    """Where it was not kept: the network runs once more."""
    system = runner.system([atoms])
    return system, runner.network.features(system)
