"""Model + Atoms + Grid → PAWDensity: the one engine under the calculator, the seed and the command line."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, overload

import numpy as np
import torch
from ase import Atoms

from ase_deepdensity.atoms_coefficients import AtomsCoefficients
from ase_deepdensity.batches import batch_ends, naming_frame
from ase_deepdensity.checks import (
    PredictionError,
    Tally,
    check_atoms,
    check_density,
    check_environments,
    check_finite,
    check_grid,
    check_size,
    warn_unfamiliar,
    warning_instead,
    warrants_another_warning,
)
from ase_deepdensity.codes import code_of
from ase_deepdensity.collocation.density import DensityEvaluator
from ase_deepdensity.collocation.on_device import FreeAtoms
from ase_deepdensity.devices import default_device
from ase_deepdensity.expected_error import (
    ExpectedError,
    Sigma,
    error_bars_of,
    expected_error,
    expected_error_gradient,
)
from ase_deepdensity.grid import Grid
from ase_deepdensity.level import Level
from ase_deepdensity.model import DensityModel
from ase_deepdensity.network.contract import Coefficients, DensityNetwork
from ase_deepdensity.network.posterior import Posterior
from ase_deepdensity.network_runner import FAR, NetworkRunner, checked_device
from ase_deepdensity.packages import require
from ase_deepdensity.paw import pseudo_electrons_of_sums
from ase_deepdensity.slabs import SLAB_POINTS, PAWBlock, SlabDensity
from ase_deepdensity.spin import component_weights, spins
from ase_deepdensity.state import PAWDensity

if TYPE_CHECKING:
    import dask.array

MOST_ATOMS = 512
"""That the network is shown at once, unless one system has more: it bounds the memory."""


class Predictor:
    """A model ready to work.

    Parameters
    ----------
    level
        Of the calculation whose density is wanted: its k-points are told to models that ask for them.  Default: the
        model's own.
    device
        Where the network runs, and with 'cuda' the grid as well.  Default: 'cpu'.
    dtype
        Precision of network and grid; energies and integrals are float64 in any case.
    extrapolate
        Predict with a warning even where the prediction means nothing (see :func:`.check_environments` and
        :func:`.check_density`).  Default: a :class:`.PredictionError`.
    """

    def __init__(
        self,
        model: DensityModel,
        *,
        level: Level | None = None,
        device: str | torch.device | None = None,
        dtype: torch.dtype = torch.float32,
        extrapolate: bool = False,
    ):
        self.model = model
        self.device = checked_device(device)
        self.dtype = dtype
        self.extrapolate = extrapolate
        self._runner = NetworkRunner(model, model.level if level is None else model.at(level), self.device, dtype)
        self.evaluator = DensityEvaluator(model.architecture.basis, dtype, grids=1)
        self._warned: tuple[Atoms, float] | None = None
        self._posterior: Posterior | None = None
        self._sigma: Sigma | None = None

    @property
    def level(self) -> Level:
        """Of the calculation whose density is wanted; may be set."""
        return self._runner.level

    @level.setter
    def level(self, level: Level) -> None:
        self._runner.level = level

    def update(self, model: DensityModel) -> None:
        """Go on with other weights of the same network."""
        self._runner.update(model)
        self.model, self._posterior, self._sigma = model, None, None

    @property
    def network(self) -> DensityNetwork:
        """A copy of the model's, on the device and in the precision of the work."""
        return self._runner.network

    @overload
    def coefficients(self, atoms: Atoms, *, extrapolate: bool | None = None) -> AtomsCoefficients: ...

    @overload
    def coefficients(
        self, atoms: Sequence[Atoms], *, extrapolate: bool | None = None
    ) -> Iterator[AtomsCoefficients]: ...

    def coefficients(
        self, atoms: Atoms | Sequence[Atoms], *, extrapolate: bool | None = None
    ) -> AtomsCoefficients | Iterator[AtomsCoefficients]:
        """Run the network.

        Parameters
        ----------
        atoms
            Some atoms, or frames: of any sizes and elements.  Those are checked at once, and then seen by the network
            several at a time, as the results are asked for.
        extrapolate
            See the class, whose value is the default.

        Raises
        ------
        PredictionError
            See :func:`.check_atoms` and :func:`.check_environments`; output that is not finite.  It names the frame.

        Warns
        -----
        UnfamiliarWarning
            Environments unlike the training data; once for a trajectory, again where it goes further.
        """
        extrapolate = self.extrapolate if extrapolate is None else extrapolate
        if isinstance(atoms, Atoms):
            return next(self._of_frames([atoms], extrapolate))
        frames = list(atoms)
        return self._of_frames(frames, extrapolate)

    def _of_frames(self, frames: list[Atoms], extrapolate: bool) -> Iterator[AtomsCoefficients]:
        """What the network says of each."""
        for i, atoms in enumerate(frames):
            with naming_frame(i, frames):
                check_atoms(atoms, self.model)
        return self._in_batches(frames, extrapolate)

    def _in_batches(self, frames: list[Atoms], extrapolate: bool) -> Iterator[AtomsCoefficients]:
        start = 0
        for stop in batch_ends([len(atoms) for atoms in frames], MOST_ATOMS):
            batch = self._runner(frames[start:stop], extrapolate)
            for i, (coefficients, finite_a) in enumerate(batch, start=start):
                with naming_frame(i, frames):
                    self.check_environments(coefficients, finite_a)
                yield coefficients
            start = stop

    def coefficients_of_some(self, atoms: Atoms, some_a: np.ndarray) -> tuple[AtomsCoefficients, np.ndarray]:
        """What the network says of some atoms, to which it is shown what they depend on, without any check.

        A network that takes no blocks is shown all.

        Parameters
        ----------
        some_a
            Indices, ascending.

        Returns
        -------
            Of ``atoms[some_a]``, and (of these) for which atoms all is finite.
        """
        return self._runner.of_some(atoms, some_a, self.extrapolate)

    def memory(self, natoms: int) -> float:
        """Bytes that are needed for what the network says of so many atoms, and while it is found, about."""
        return self._runner.memory(natoms)

    def matrix_elements(self, atoms: Atoms) -> int:
        """Numbers in all density matrices of one spin."""
        return sum(len(atom_type.D_ii) ** 2 for atom_type in self.model.types_of(atoms))

    def check_environments(self, coefficients: AtomsCoefficients, finite_a: np.ndarray) -> None:
        """Refuse or warn of what is too far from the training data; with a fallback nothing is.

        Parameters
        ----------
        finite_a
            (natoms,) for which atoms all that the network says is finite.

        Raises
        ------
        PredictionError
            See :func:`.check_environments`.
        """
        check_finite(coefficients.atoms, finite_a, self.model)
        if not self._runner.has_fallback(coefficients.output):
            with warning_instead(coefficients.extrapolate):
                check_environments(coefficients.atoms, coefficients.unfamiliar_a, self.model)
        self._warn(coefficients)

    def unfamiliar(self, atoms: Atoms) -> np.ndarray:
        """(natoms,) distances from the training data, see :class:`.EnvironmentDistance`, without any verdict.

        Raises
        ------
        PredictionError
            See :func:`.check_atoms`.
        """
        check_atoms(atoms, self.model)
        [(coefficients, _)] = self._runner([atoms], extrapolate=True)
        return coefficients.unfamiliar_a

    def _warn(self, coefficients: AtomsCoefficients) -> None:
        """Of strange atoms, unless it has just been done."""
        atoms, unfamiliar_a = coefficients.atoms, coefficients.unfamiliar_a
        worst = float(unfamiliar_a.max())
        if self._warned is not None and not warrants_another_warning(atoms, worst, *self._warned):
            return
        replaced = worst > FAR and self._runner.has_fallback(coefficients.output)
        if warn_unfamiliar(atoms, unfamiliar_a, self.model, replaced):
            self._warned = atoms, worst

    def grid(self, atoms: Atoms, gpts: tuple[int, int, int] | None = None, h: float | None = None) -> Grid:
        """The grid that GPAW would choose at the model's level, or one of ``gpts`` intervals or spacing ``h`` (Å)."""
        check_atoms(atoms, self.model)
        grid = code_of(self.level).grid(self.level, atoms, gpts=gpts, h=h)
        check_grid(grid, atoms)
        return grid

    @overload
    def predict(
        self, atoms: Atoms, grid: Grid | None = None, *, extrapolate: bool | None = None, uncertainty: bool = False
    ) -> PAWDensity: ...

    @overload
    def predict(
        self,
        atoms: Sequence[Atoms],
        grid: Sequence[Grid] | None = None,
        *,
        extrapolate: bool | None = None,
        uncertainty: bool = False,
    ) -> list[PAWDensity]: ...

    def predict(
        self,
        atoms: Atoms | Sequence[Atoms],
        grid: Grid | Sequence[Grid] | None = None,
        *,
        extrapolate: bool | None = None,
        uncertainty: bool = False,
    ) -> PAWDensity | list[PAWDensity]:
        """The PAW density of ``atoms``, normalised by GPAW's rule; of several frames, a list in their order.

        Parameters
        ----------
        grid
            For each its own.  Default: the one that GPAW would choose.
        extrapolate
            See the class, whose value is the default.
        uncertainty
            With :attr:`.PAWDensity.sigma_sR` and the σ of D and the dipole, see :meth:`with_sigma`.

        Raises
        ------
        PredictionError
            Atoms or a grid that nothing can be predicted for, or a prediction that means nothing; with ``uncertainty``
            as :meth:`with_sigma`.  It names the frame.
        """
        frames = [atoms] if isinstance(atoms, Atoms) else list(atoms)
        grids = [grid] if isinstance(grid, Grid) else grid
        if grids is not None and len(grids) != len(frames):
            raise PredictionError(f'{len(frames)} sets of atoms need as many grids, not {len(grids)}')
        densities = self._predict(frames, grids, extrapolate, uncertainty)
        return densities[0] if isinstance(atoms, Atoms) else densities

    def _predict(
        self, frames: list[Atoms], grids: Sequence[Grid] | None, extrapolate: bool | None, uncertainty: bool
    ) -> list[PAWDensity]:
        checked = []
        for i, atoms in enumerate(frames):
            with naming_frame(i, frames):
                grid = self.grid(atoms) if grids is None else grids[i]
                if grids is not None:  # what self.grid does
                    check_atoms(atoms, self.model)
                    check_grid(grid, atoms)
                check_size(grid)
            checked.append(grid)
        densities = []
        extrapolate = self.extrapolate if extrapolate is None else extrapolate
        for i, coefficients in enumerate(self._in_batches(frames, extrapolate)):
            with naming_frame(i, frames):
                density = self.density(coefficients, checked[i])
                densities.append(self.with_sigma(coefficients, density) if uncertainty else density)
        return densities

    def density(self, coefficients: AtomsCoefficients, grid: Grid) -> PAWDensity:
        """The normalised PAW density of known coefficients on a whole grid; with spin if there is a magnetisation.

        Raises
        ------
        PredictionError
            See :func:`.check_density`; a grid that does not fit into memory.
        """
        check_size(grid)
        component_sR = self.evaluate_components(coefficients, grid)
        nt_sR = spins(component_sR, coefficients.nspins)
        nt_sR *= self.check(coefficients, Tally.of(component_sR[0], grid))
        return PAWDensity(
            coefficients.atoms,
            grid,
            nt_sR,
            coefficients.D_asii(),
            self.level,
            coefficients.charge,
            self.model.types_of(coefficients.atoms),
        )

    def check(self, coefficients: AtomsCoefficients, tally: Tally, electrons: float | None = None) -> float:
        """What ñ must be multiplied with for the right number of electrons, if it means anything.

        Parameters
        ----------
        tally
            Of :meth:`evaluate` on the whole grid: the sum of those of its blocks.
        electrons
            What ∫ñ must be.  Default: :meth:`electrons`.

        Raises
        ------
        PredictionError
            See :func:`.check_density`; with ``coefficients.extrapolate`` only for a density without any electrons.

        Warns
        -----
        UnfamiliarWarning
            With ``coefficients.extrapolate``, where it would be an error.
        """
        electrons = self.electrons(coefficients) if electrons is None else electrons
        if not tally.integral > 0:
            raise PredictionError(
                f'{self.model.name}: a pseudo density of {tally.integral:.4g} electrons cannot be normalised'
            )
        with warning_instead(coefficients.extrapolate):
            check_density(coefficients.atoms, tally, electrons, coefficients.unfamiliar_a, self.model)
        return electrons / tally.integral

    def evaluate(self, coefficients: AtomsCoefficients, grid: Grid) -> np.ndarray:
        """ñ on a grid or a block of one, electrons/Å³, as the network says, not normalised: (n0, n1, n2) float64."""
        total_R: np.ndarray = self.evaluate_components(coefficients, grid)[0]
        return total_R

    def evaluate_components(self, coefficients: AtomsCoefficients, grid: Grid) -> np.ndarray:
        """The same with the magnetisation, if there is one: (1 or 2, n0, n1, n2)."""
        free_atoms = FreeAtoms(coefficients.atoms.numbers, self.model.superposition)
        with torch.no_grad(), default_device('cpu'):
            density_sR = self.evaluator.total(
                coefficients.output.mean(), grid, self._positions(coefficients), free_atoms
            )
        component_sR: np.ndarray = density_sR.cpu().numpy()
        return component_sR

    def _positions(self, coefficients: AtomsCoefficients) -> torch.Tensor:
        return torch.from_numpy(coefficients.atoms.positions).to(self.device)

    def spread(self, coefficients: AtomsCoefficients, grid: Grid) -> np.ndarray:
        """Error bar of ñ: its standard deviation over the members of an ensemble, electrons/Å³, (n0, n1, n2) float64.

        Raises
        ------
        PredictionError
            A model of one member.
        """
        if coefficients.members < 2:
            raise PredictionError(f'{self.model.name} is no ensemble: a spread needs at least two members, it has one')
        with torch.no_grad(), default_device('cpu'):
            density_esR = self.evaluator(coefficients.output, grid, self._positions(coefficients))
        spread_R: np.ndarray = density_esR[:, 0].double().std(0).cpu().numpy()
        return spread_R

    def vjp(self, atoms: Atoms, grid: Grid, v_sR: np.ndarray, W_asii: Sequence[np.ndarray]) -> np.ndarray:
        """d/dR of Σ_sR v ñ dv + Σ_a W_a · D_a at fixed v and W, ñ and D not normalised: (natoms, 3), per Å.

        The transpose of the prediction's Jacobian, times a vector: one backward pass through the network, and sums over
        the grid.

        Parameters
        ----------
        grid
            A grid or a block of one.
        v_sR
            (n0, n1, n2) on that grid or (2, n0, n1, n2) for each spin, of any unit per electron.
        W_asii
            For each atom (1 or 2, ni, ni), of the same unit.

        Raises
        ------
        PredictionError
            A network whose density is no expansion in the basis.
        """
        with default_device('cpu'):
            return self._vjp(atoms, grid, v_sR, W_asii)

    def _vjp(self, atoms: Atoms, grid: Grid, v_sR: np.ndarray, W_asii: Sequence[np.ndarray]) -> np.ndarray:
        position_av = torch.tensor(atoms.positions, dtype=torch.float64, requires_grad=True)
        system = self._runner.system([atoms], position_av)
        output = self.network(system)
        if not isinstance(output, Coefficients):
            raise PredictionError(
                f'{self.model.name}: derivatives need a network that expands the density in the basis, '
                f'which {self.model.architecture.network} does not'
            )
        output = self._runner.judged(output, system)[0].mean()
        free_atoms = FreeAtoms(atoms.numbers, self.model.superposition)
        component_sR = self.evaluator.total(output, grid, position_av.to(self.device), free_atoms)
        weight_sR = torch.from_numpy(component_weights(np.asarray(v_sR, float).reshape(-1, *grid.shape)) * grid.dv)
        fixed = [
            _product(D_esaii[0], self._stacked(W_asii, system.atoms_of(Z))) for Z, D_esaii in output.D_zesaii.items()
        ]
        value = _product(component_sR, weight_sR.to(self.device)) + torch.stack(fixed).sum()
        (gradient_av,) = torch.autograd.grad(value, position_av)
        return gradient_av.numpy()

    def _stacked(self, W_asii: Sequence[np.ndarray], atoms_a: torch.Tensor) -> torch.Tensor:
        """Of some atoms, for the total and the magnetisation: (1 or 2, natoms, ni, ni)."""
        W_saii = component_weights(np.stack([W_asii[a] for a in atoms_a.tolist()], axis=1))
        return torch.from_numpy(W_saii).to(self.device, self.dtype)

    def stream(
        self,
        atoms: Atoms,
        grid: Grid | None = None,
        *,
        max_points: int = SLAB_POINTS,
        extrapolate: bool | None = None,
    ) -> Iterator[PAWBlock]:
        """ñ in slabs of at most ``max_points`` grid points (at least one plane), normalised like :meth:`predict`.

        One slab is held at a time, and of the atoms those that reach it are visited.  The factor is known before the
        first slab where a network expands the density in the basis (see :mod:`.lattice_sum`); for others the grid is
        walked twice.

        Raises
        ------
        PredictionError
            As :meth:`predict`, before the first slab; but too much density below zero at the slab where it becomes too
            much.
        """
        grid = self.grid(atoms) if grid is None else grid
        check_grid(grid, atoms)
        check_size(grid, max_points)
        yield from SlabDensity(self, self.coefficients(atoms, extrapolate=extrapolate), grid, max_points)

    def lazy(
        self,
        atoms: Atoms,
        grid: Grid | None = None,
        *,
        max_points: int = SLAB_POINTS,
        extrapolate: bool | None = None,
    ) -> dask.array.Array:
        """ñ as a dask array (1 or 2, n0, n1, n2), electrons/Å³: slices and sums of it compute the slabs they need.

        The network runs at once.  The arguments are those of :meth:`stream`.

        Raises
        ------
        PredictionError
            As :meth:`stream`; density below zero when it is computed.
        MissingPackageError
            dask is not installed.
        """
        require('dask.array', 'large', 'lazy arrays')
        grid = self.grid(atoms) if grid is None else grid
        check_grid(grid, atoms)
        check_size(grid, max_points)
        return SlabDensity(self, self.coefficients(atoms, extrapolate=extrapolate), grid, max_points).lazy()

    def expected_error(self, coefficients: AtomsCoefficients) -> ExpectedError:
        """How wrong the density of known coefficients is likely to be.

        Raises
        ------
        PredictionError
            A model without error bars, or more atoms than its network is shown at once.
        """
        with default_device('cpu'):
            posterior = self._its_posterior(coefficients.atoms)
            return expected_error(self._runner, posterior, coefficients, self.electrons(coefficients))

    def _its_posterior(self, atoms: Atoms) -> Posterior:
        """That of the model's error bars, made once."""
        error_bars_of(self._runner, atoms)
        if self._posterior is None:
            self._posterior = Posterior(self.network, self.model.architecture.basis, self.model.atom_types)
        return self._posterior

    def expected_error_gradient(self, atoms: Atoms) -> np.ndarray:
        """d/dR of the sum of ``expected_error(…).error_a``: (natoms, 3) electrons/Å, where a move makes it larger.

        Raises
        ------
        PredictionError
            As :meth:`expected_error`, and atoms that nothing can be predicted for.
        """
        check_atoms(atoms, self.model)
        with default_device('cpu'):
            return expected_error_gradient(self._runner, atoms)

    def with_sigma(self, coefficients: AtomsCoefficients, density: PAWDensity) -> PAWDensity:
        """The density of these coefficients, on a whole grid, with its σ at each point (see :class:`.Sigma`), and those
        of D and the dipole if they are known (see :mod:`.posterior`).

        Raises
        ------
        PredictionError
            As :meth:`expected_error`; a magnetisation, of which error bars say nothing.
        """
        expected = self.expected_error(coefficients)
        if density.nspins != 1:
            raise PredictionError(
                f'{self.model.name}: there are error bars of the total density only, not of two spins'
            )
        if self._sigma is None:
            self._sigma = Sigma(self._runner, self._its_posterior(coefficients.atoms).radial)
        with default_device('cpu'):
            sigma_R = self._sigma(coefficients, expected, density)
        matrices = expected.sigma_D_aii
        sigma_D_asii = None if matrices is None else [sigma_ii[np.newaxis] for sigma_ii in matrices]
        return density.new(
            sigma_sR=sigma_R[np.newaxis], sigma_D_asii=sigma_D_asii, sigma_dipole_v=expected.sigma_dipole_v
        )

    def electrons(self, coefficients: AtomsCoefficients, some_a: np.ndarray | None = None) -> float:
        """What ∫ñ must be at the predicted D, see :func:`.pseudo_electrons`.

        ``some_a`` (natoms,): of these atoms alone, neutral; default: of all at the charge.
        """
        number_a = coefficients.atoms.numbers
        sums_z = {}
        for Z, D_esaii in coefficients.output.mean().D_zesaii.items():
            D_aii = D_esaii[0, 0]
            if some_a is not None:
                D_aii = D_aii[torch.from_numpy(some_a[number_a == Z]).to(D_aii.device)]
            sums_z[self.model.atom_types[Z]] = len(D_aii), D_aii.sum(0, dtype=torch.float64).cpu().numpy()
        return pseudo_electrons_of_sums(sums_z, coefficients.charge if some_a is None else 0.0)


def _product(component_s: torch.Tensor, weight_s: torch.Tensor) -> torch.Tensor:
    """Σ of components times weights; one that only one side has is zero on the other."""
    shared = min(len(component_s), len(weight_s))
    return (component_s[:shared] * weight_s[:shared]).sum()
