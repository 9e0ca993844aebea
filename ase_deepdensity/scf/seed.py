"""Where a calculation starts: what a model predicts, or a state that is known, put into GPAW's density."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from ase import Atoms
from ase.units import Bohr

from ase_deepdensity.arguments import formula
from ase_deepdensity.atoms_coefficients import atomic_matrices
from ase_deepdensity.checks import MAX_UNFAMILIAR, PredictionError
from ase_deepdensity.choice import USUAL, Choice, choose, kind
from ase_deepdensity.collocation.slab_walk import reaching_block_a
from ase_deepdensity.grid import Grid
from ase_deepdensity.level import Level
from ase_deepdensity.model import DensityModel
from ase_deepdensity.paw import AtomType
from ase_deepdensity.scf.bounds import agreed, described, may_be_refused
from ase_deepdensity.spin import spins
from ase_deepdensity.state import PAWDensity

if TYPE_CHECKING:
    from gpaw.core import UGDesc
    from gpaw.mpi import MPIComm
    from gpaw.new.density import Density

    from ase_deepdensity.atoms_coefficients import AtomsCoefficients
    from ase_deepdensity.expected_error import ExpectedError

HUGE = 1e8
"""In GPAW's units: above it no value of ñ or D means anything."""


class SeedError(RuntimeError):
    """A seed that could not be evaluated."""


class Seed(ABC):
    """A guess of the PAW state of any atoms, whose initial magnetic moments are those of the calculation."""

    level: Level
    """The level of theory that it belongs to."""
    name: str
    """For people."""
    charge: float
    """Total charge of what it is a guess for, |e|: for another one, ñ is scaled."""

    @abstractmethod
    def check(self, atoms: Atoms) -> None:
        """Refuse atoms that there is no guess for.

        Raises
        ------
        PredictionError
            For the reason that the message tells.
        """

    @abstractmethod
    def types_of(self, atoms: Atoms) -> Sequence[AtomType]:
        """For each atom the PAW dataset that the density matrices are for."""

    @abstractmethod
    def use_kpoints(self, level: Level) -> None:
        """Take on the k-points of a calculation, if there is a guess for those, too."""

    def use_charge(self, charge: float) -> None:  # noqa: B027
        """Take on the charge of a calculation, |e|, if there is a guess for that, too."""

    def check_grid(self, grid: Grid) -> None:  # noqa: B027
        """Refuse a whole grid that there is no guess on.

        Raises
        ------
        PredictionError
            The message tells the differences.
        """

    @abstractmethod
    def evaluate(self, atoms: Atoms, grid: Grid) -> tuple[np.ndarray, list[np.ndarray]]:
        """ñ on a block of the grid (nspins, n0, n1, n2), electrons/Å³, and D of all atoms; not normalised.

        One component may be given for two spins: it is the total, and there is nothing to say of the magnetisation.
        """

    def expected_error(self, atoms: Atoms) -> ExpectedError | None:
        """How wrong ñ is likely to be; None: there is no telling."""
        return None

    def evaluate_part(self, atoms: Atoms, grid: Grid, some_a: np.ndarray) -> tuple[np.ndarray, dict[int, np.ndarray]]:
        """The same with D of the atoms ``some_a`` alone: what a rank needs."""
        nt_sR, D_asii = self.evaluate(atoms, grid)
        return nt_sR, {a: np.asarray(D_asii[a]) for a in some_a.tolist()}

    def fill(self, density: Density, atoms: Atoms, comm: MPIComm) -> bool:
        """Overwrite ñ and D of GPAW's density, each rank its own block and atoms; D symmetric, neither normalised.

        Of a guess that knows only the total, two spins get the magnetisation that they had.  Returns whether the
        guess is all that there is now.

        Parameters
        ----------
        comm
            The ranks that hold the same block: those of other k-points and bands.

        Raises
        ------
        SeedError
            On all ranks, where one of them could not evaluate the seed, for whatever reason, or got values that are
            not finite; then nothing is changed.
        """
        try:
            nt_sR, D_asii = self._block(density, atoms)
            complete = len(nt_sR) >= density.ncomponents
            nt_sR = of_spins(nt_sR, density.nt_sR.data)
            D_asii = {a: of_spins(D_sii, density.D_asii[a]) for a, D_sii in D_asii.items()}
            problem = ''
        except Exception as error:  # a model may fail in any way, and GPAW has a start of its own
            if not may_be_refused(error):
                raise
            problem = described(error)
        if problem := agreed(problem, density.nt_sR.desc.comm, comm):
            raise SeedError(problem)
        density.nt_sR.data[:] = nt_sR
        for a, D_sii in D_asii.items():
            density.D_asii[a][:] = D_sii
        comm.broadcast(density.nt_sR.data, 0)  # the same on all, to the last bit
        comm.broadcast(density.D_asii.data, 0)
        return complete

    def _block(self, density: Density, atoms: Atoms) -> tuple[np.ndarray, dict[int, np.ndarray]]:
        """ñ of this rank in GPAW's units and D of its atoms, checked."""
        some_a = np.array(list(density.D_asii.keys()), int)
        nt_sR, mine = self.evaluate_part(atoms, grid_of(density.nt_sR.desc), some_a)
        nt_sR = nt_sR * Bohr**3
        if wrong := sum(int((~(abs(x) < HUGE)).sum()) for x in (nt_sR, *mine.values())):
            raise PredictionError(f'{wrong} values are not finite or above {HUGE:g}')
        for a, D_sii in mine.items():
            if D_sii.shape[1:] != density.D_asii[a].shape[1:] or len(D_sii) != len(nt_sR):
                shapes = f'{(len(nt_sR), *density.D_asii[a].shape[1:])}, not {D_sii.shape}'
                raise PredictionError(f'the density matrix of atom {a} must have the shape {shapes}')
        return nt_sR, {a: (D_sii + D_sii.swapaxes(1, 2)) / 2 for a, D_sii in mine.items()}


def of_spins(x_s: np.ndarray, start_s: np.ndarray) -> np.ndarray:
    """Components, (1 or 2, ...), for as many spins as ``start_s`` has.

    Two become their sum for one; one is shared out to two, whose difference stays that of ``start_s``.
    """
    if len(x_s) == len(start_s):
        return x_s
    total = x_s.sum(axis=0)
    return total[np.newaxis] if len(start_s) == 1 else spins(np.stack([total, start_s[0] - start_s[1]]), 2)


def with_moments(atoms: Atoms, moment_a: np.ndarray | None) -> Atoms:
    """A copy with these initial magnetic moments, μB; None: without any."""
    atoms = atoms.copy()
    atoms.set_initial_magnetic_moments(moment_a)
    return atoms


class ModelSeed(Seed):
    """What a model predicts: of the total only, if it is not told magnetic moments; at its charge, if of no other.

    Parameters
    ----------
    model
        Name of a shipped model, path of a model file, or a model.
    """

    def __init__(self, model: str | Path | DensityModel):
        self._take(model if isinstance(model, DensityModel) else DensityModel.load(model))

    def _take(self, model: DensityModel) -> None:
        from ase_deepdensity.predict import Predictor

        self.predictor = Predictor(model)
        self.model = model
        self.level, self.name, self.charge = self.model.level, f'model {self.model.name}', self.model.charge
        self._coefficients: AtomsCoefficients | None = None

    def use_charge(self, charge: float) -> None:
        if self.model.network.sees_charge:
            self.charge, self._coefficients = charge, None

    def update(self, model: DensityModel) -> None:
        """Go on with other weights of the same network."""
        self.model = model
        self.predictor.update(model)
        self._coefficients = None

    @property
    def has_derivative(self) -> bool:
        """Can the density be differentiated?  See :meth:`.Predictor.vjp`."""
        return self.model.network.expands

    def check(self, atoms: Atoms) -> None:
        from ase_deepdensity.checks import check_atoms

        check_atoms(self._told(atoms), self.model)

    def types_of(self, atoms: Atoms) -> Sequence[AtomType]:
        return self.model.types_of(atoms)

    def use_kpoints(self, level: Level) -> None:
        self.level = self.predictor.level = self.model.at(level)
        self._coefficients = None

    def coefficients(self, atoms: Atoms) -> AtomsCoefficients:
        """What the network says; kept for a second question about the same atoms."""
        atoms = self._told(atoms)
        if self._coefficients is None or not _same(self._coefficients.atoms, atoms):
            self._coefficients = self.predictor.coefficients(atoms)
        return self._coefficients

    def expected_error(self, atoms: Atoms) -> ExpectedError | None:
        """By the model's error bars, if it has any and its network is shown so many atoms at once."""
        from ase_deepdensity.network_runner import MOST_IN_BLOCK

        if self.model.error_bars is None or len(atoms) > MOST_IN_BLOCK:
            return None
        return self.predictor.expected_error(self.coefficients(atoms))

    @property
    def sees_magnetic_moments(self) -> bool:
        """Does it predict a magnetisation?"""
        return self.model.network.sees_magnetic_moments

    def _told(self, atoms: Atoms) -> Atoms:
        told = atoms.copy() if self.sees_magnetic_moments else with_moments(atoms, None)
        told.info['charge'] = self.charge
        return told

    def evaluate(self, atoms: Atoms, grid: Grid) -> tuple[np.ndarray, list[np.ndarray]]:
        coefficients = self.coefficients(atoms)
        component_sR = self.predictor.evaluate_components(coefficients, grid)
        return spins(component_sR, coefficients.nspins), coefficients.D_asii()

    def evaluate_part(self, atoms: Atoms, grid: Grid, some_a: np.ndarray) -> tuple[np.ndarray, dict[int, np.ndarray]]:
        """The network is asked about these atoms and those that reach the block; what it says is not kept."""
        if grid.is_whole or self.model.network.steps is None:
            return super().evaluate_part(atoms, grid, some_a)
        told = self._told(atoms)
        near_a = reaching_block_a(grid, told.positions, self.model.longest_cutoff)
        near_a[some_a] = True
        asked_a = np.flatnonzero(near_a)
        if not len(asked_a):
            asked_a = np.array([0])  # that tells shapes and adds nothing
        coefficients, finite_a = self.predictor.coefficients_of_some(told, asked_a)
        unfamiliar_a, all_finite_a = np.zeros(len(told), np.float32), np.ones(len(told), bool)
        unfamiliar_a[asked_a], all_finite_a[asked_a] = coefficients.unfamiliar_a, finite_a
        about = coefficients.about(told, unfamiliar_a)
        self.predictor.check_environments(about, all_finite_a)
        D_bsii = atomic_matrices(coefficients.output, coefficients.atoms.numbers, about.nspins)
        D_asii = {a: D_bsii[b] for b, a in enumerate(asked_a.tolist())}
        component_sR = self.predictor.evaluate_components(coefficients, grid)
        return spins(component_sR, about.nspins), {a: D_asii[a] for a in some_a.tolist()}


class ChosenSeed(ModelSeed):
    """What the shipped model predicts that knows the atoms best, see :func:`.choose`; before there are atoms, nothing.

    Parameters
    ----------
    level
        Of the calculation; None: that of the model.
    """

    def __init__(self, level: Level | None):
        self._wanted, self._kind, self.choice = level, None, None
        self.level, self.name, self.charge = level or Level.load(USUAL), 'model that is to be chosen', 0.0

    choice: Choice | None
    """The last one."""
    _kind: object

    @property
    def has_derivative(self) -> bool:
        """As all shipped models have one, before there is a choice, too."""
        return self.choice is None or super().has_derivative

    def check(self, atoms: Atoms) -> None:
        """Choose, if it has not been done for atoms of this kind; it refuses what :func:`.choose` does."""
        if self.choice is None or self._kind != kind(atoms):
            choice = self._choose(_neutral(atoms))
            self._take(choice.model)
            if self._wanted is not None:
                self.use_kpoints(self._wanted)
            self.choice, self._kind = choice, kind(atoms)
        super().check(atoms)

    def _choose(self, atoms: Atoms) -> Choice:
        """Where no model is told of the moments of these atoms, or it is not familiar with them, one of the total."""
        if not atoms.get_initial_magnetic_moments().any():
            return choose(atoms, self._wanted)
        paired = with_moments(atoms, None)
        try:
            choice = choose(atoms, self._wanted)
        except PredictionError:
            return choose(paired, self._wanted)
        if choice.distance <= MAX_UNFAMILIAR:
            return choice
        other = choose(paired, self._wanted)
        return other if other.distance <= MAX_UNFAMILIAR else choice

    def use_kpoints(self, level: Level) -> None:
        if self.choice is not None:
            super().use_kpoints(level)


def _neutral(atoms: Atoms) -> Atoms:
    """A copy without a charge, which no shipped model is told of."""
    atoms = atoms.copy()
    atoms.info['charge'] = 0.0
    return atoms


class StateSeed(Seed):
    """A state that is known already, of the same atoms: a converged one, or one read from a file."""

    def __init__(self, state: PAWDensity):
        self.state = state
        self.level, self.name, self.charge = state.level, 'given state', state.charge

    def check(self, atoms: Atoms) -> None:
        mine = self.state.atoms
        if len(mine) != len(atoms) or (mine.numbers != atoms.numbers).any():
            raise PredictionError(f'the given state is of {formula(mine)}, not of {formula(atoms)}')
        if not np.allclose(mine.positions, atoms.positions, rtol=0, atol=1e-6):
            raise PredictionError('the given state is of other positions of the atoms')

    def types_of(self, atoms: Atoms) -> Sequence[AtomType]:
        return self.state.types()

    def use_kpoints(self, level: Level) -> None:
        """The state has its own k-points."""

    def check_grid(self, grid: Grid) -> None:
        if differences := self.state.grid.differences(grid):
            raise PredictionError(
                f'the given state is on another grid ({", ".join(differences)}): {self.state.grid.size_c.tolist()} '
                f'intervals against {grid.size_c.tolist()}'
            )

    def evaluate(self, atoms: Atoms, grid: Grid) -> tuple[np.ndarray, list[np.ndarray]]:
        whole = grid.new(start_c=None, stop_c=None)
        self.check_grid(whole)
        ends = zip(grid.start_c - whole.start_c, grid.stop_c - whole.start_c, strict=True)
        return self.state.nt_sR[:, *(slice(*both) for both in ends)], list(self.state.D_asii)


def as_seed(start: str | Path | DensityModel | PAWDensity | Seed | None, level: Level | None) -> Seed:
    """A model, a state, or a finished calculation (a ``.gpw`` file) as a seed.

    None: a model that is chosen for a calculation at ``level`` (None: its own).
    """
    if start is None:
        return ChosenSeed(level)
    if isinstance(start, Seed):
        return start
    if isinstance(start, str | Path) and Path(start).suffix == '.gpw':
        return StateSeed(PAWDensity.from_gpw(start))
    return StateSeed(start) if isinstance(start, PAWDensity) else ModelSeed(start)


def _same(atoms: Atoms, others: Atoms) -> bool:
    """To a network."""
    moments = (each.get_initial_magnetic_moments() for each in (atoms, others))
    return bool(atoms == others) and np.array_equal(*moments)


def grid_of(desc: UGDesc) -> Grid:
    """This rank's block of GPAW's grid."""
    return Grid(desc.cell_cv * Bohr, desc.size_c, desc.pbc_c, desc.zerobc_c, desc.start_c, desc.end_c)
