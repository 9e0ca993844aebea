"""DeepDensity: predicted densities with the interface of an ASE calculator."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from threading import RLock, local
from typing import TYPE_CHECKING, Any, overload

import numpy as np
from ase import Atoms
from ase.calculators.calculator import Calculator, CalculatorSetupError, Parameters, all_changes

from ase_deepdensity.analysis.all_electron import all_electron_density
from ase_deepdensity.analysis.dipole import dipole_moment
from ase_deepdensity.analysis.hirshfeld import hirshfeld_charges
from ase_deepdensity.analysis.potential import electrostatic_potential
from ase_deepdensity.analysis.pseudo import pseudo_density
from ase_deepdensity.arguments import formula
from ase_deepdensity.batches import naming_frame
from ase_deepdensity.checks import PredictionError
from ase_deepdensity.choice import choose, kind
from ase_deepdensity.expected_error import ExpectedError
from ase_deepdensity.grid import Grid
from ase_deepdensity.launchers import mpi_rank
from ase_deepdensity.model import DensityModel
from ase_deepdensity.network_runner import checked_device
from ase_deepdensity.predict import Predictor
from ase_deepdensity.state import PAWDensity

if TYPE_CHECKING:
    import torch


class DeepDensity(Calculator):
    """The PAW density of any atoms, from a trained model.

    >>> atoms.calc = DeepDensity()               # or the name of a model, or of its file
    >>> atoms.get_dipole_moment()                # e·Å; depends on the cell where matter reaches across its boundary
    >>> atoms.calc.get_all_electron_density()    # electrons/Å³
    >>> atoms.get_charges()                      # Hirshfeld's, |e|
    >>> density = atoms.calc.predict()           # all of it: a PAWDensity

    A calculator speaks of *its* atoms as they are now: those it was attached to (``atoms.calc = calc``) or was last
    given (``calc.predict(atoms)``).  It works anew when elements, positions, cell, boundary conditions, charges or
    magnetic moments have changed.  Several threads may use one calculator, in turn: to each it speaks of the atoms that
    this thread has given.

    Parameters
    ----------
    model
        Name of a shipped model, path of a model file, or a model.  Default: the shipped one that knows the atoms best
        (:func:`.choose`), which a line on the standard output names; another one when elements, charge, or whether
        there are magnetic moments change, but not where atoms only move.
    gpts
        (3,) numbers of grid intervals along the lattice vectors.
    h
        Grid spacing, Å.  Default, without ``gpts`` too: the grid that GPAW would choose at the model's level of theory.
    kpts
        k-points of the calculation whose density is wanted, as GPAW takes them, for a metal's model that is told about
        them.  Default: those of the model's level of theory.
    device
        Where to compute, as torch names it: 'cpu' (the default), 'cuda'.
    extrapolate
        Predict with a warning even where the prediction means nothing.  Default: a :class:`.PredictionError`.

    Raises
    ------
    ModelError
        Neither a shipped model nor a file of one; ``kpts`` for a model that is not told about them.
    LevelError
        ``kpts`` that GPAW would refuse.
    CalculatorSetupError
        Both ``gpts`` and ``h``, or values that are no grid.
    """

    implemented_properties = ['dipole', 'charges', 'magmom', 'magmoms']
    default_parameters = {'gpts': None, 'h': None, 'kpts': None, 'device': None, 'extrapolate': False}
    discard_results_on_any_change = True

    def __init__(
        self,
        model: str | Path | DensityModel | None = None,
        gpts: Sequence[int] | None = None,
        h: float | None = None,
        kpts: Any = None,
        device: str | torch.device | None = None,
        extrapolate: bool = False,
    ) -> None:
        self._density: PAWDensity | None = None
        self._given: Atoms | None = None  # the caller's own atoms, not a copy
        self._extrapolated = False
        self._given_model: Predictor | None = None
        self._chosen: dict[object, Predictor] = {}  # by kind of atoms
        self._prepare_threads()
        super().__init__(model=model, gpts=gpts, h=h, kpts=kpts, device=device, extrapolate=extrapolate)

    def _prepare_threads(self) -> None:
        self._lock = RLock()
        """Held by the thread that works."""
        self._of_thread = local()
        """``given``: the atoms that this thread has given last."""

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__.copy() | {'_given': self._atoms_given(), '_lock': None, '_of_thread': None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__ |= state
        self._prepare_threads()

    def __copy__(self) -> DeepDensity:
        twin: DeepDensity = object.__new__(type(self))
        own = {'parameters': Parameters(self.parameters), 'results': dict(self.results)}
        twin.__setstate__(self.__getstate__() | own)
        return twin

    def set(self, **kwargs: Any) -> dict[str, Any]:
        """Change parameters; the arguments are those of the class."""
        if unknown := sorted(kwargs.keys() - {'model', *self.default_parameters}):
            *some, last = 'model', *self.default_parameters
            raise CalculatorSetupError(f'DeepDensity has no {", ".join(unknown)}; it has {", ".join(some)} and {last}')
        with self._lock:
            new = {**self.parameters, **kwargs}
            kwargs |= _checked_grid(new['gpts'], new['h'])
            if kwargs.keys() & {'model', 'kpts', 'device'}:
                model = self.model if 'model' not in kwargs and new['model'] is not None else new['model']
                if new['device'] is not None:
                    kwargs['device'] = str(checked_device(new['device']))  # a plain word, for ASE's files
                self._given_model = None if model is None else self._predictor(model, new['kpts'], new['device'])
                self._chosen = {}
                if new['model'] is not None and 'model' in kwargs:
                    kwargs['model'] = model.name if isinstance(model, DensityModel) else str(model)
            changes: dict[str, Any] = super().set(**kwargs)
            return changes

    def reset(self) -> None:
        """Forget all results."""
        super().reset()
        self._density = None

    def set_atoms(self, atoms: Atoms) -> None:
        """What ASE calls at ``atoms.calc = calculator``."""
        self._its_atoms(atoms)

    def __repr__(self) -> str:
        given = self._atoms_given()
        model = self._model_so_far()
        if model is None:
            name, elements = 'DeepDensity(', 'those of the shipped models; the one that knows the atoms best is taken'
        else:
            name, elements = (
                f'DeepDensity({model.name!r}',
                f'{" ".join(model.symbols)}, level {model.level.name or "unnamed"}',
            )
        options = [f', {key}={value!r}' for key, value in self.parameters.items() if key != 'model' and value]
        return '\n'.join(
            [
                f'{name}{"".join(options)})',
                f'  elements   {elements}',
                f'  atoms      {"none yet: atoms.calc = calc" if given is None else formula(given)}',
                '  gives      .predict(), .get_pseudo_density(), .get_all_electron_density(), dipole moments',
            ]
        )

    def _repr_html_(self) -> str:
        """With a picture of the density, if it is known."""
        from ase_deepdensity.plot.cards import density_card, text_card

        with self._lock:
            if self._density is not None:
                return density_card(self._density, repr(self))
        model = self._model_so_far()
        return text_card(repr(self), [] if model is None else model.symbols)

    def _model_so_far(self) -> DensityModel | None:
        """The given one, or one that has been chosen for its atoms; None: nothing has been asked about them yet."""
        given = self._atoms_given()
        if self._given_model is None and (given is None or kind(given) not in self._chosen):
            return None
        return self.model

    @property
    def model(self) -> DensityModel:
        """The trained model: the given one, or that which was chosen for its atoms."""
        return self.predictor.model

    @property
    def predictor(self) -> Predictor:
        """The model at work."""
        return self._given_model or self._predictor_for(self._its_atoms())

    def _predictor_for(self, atoms: Atoms) -> Predictor:
        """Of the given model; or of the one for atoms of this :func:`.kind`, chosen when they first come."""
        if self._given_model is not None:
            return self._given_model
        with self._lock:
            its_kind = kind(atoms)
            if its_kind not in self._chosen:
                choice = choose(atoms)
                same = [predictor for predictor in self._chosen.values() if predictor.model.name == choice.model.name]
                if not same and not mpi_rank():
                    print(f'DeepDensity: {choice}', flush=True)
                kpts, device = self.parameters['kpts'], self.parameters['device']
                self._chosen[its_kind] = same[0] if same else self._predictor(choice.model, kpts, device)
            return self._chosen[its_kind]

    @staticmethod
    def _predictor(model: str | Path | DensityModel, kpts: Any, device: str | None) -> Predictor:
        model = model if isinstance(model, DensityModel) else DensityModel.load(model)
        return Predictor(model, level=None if kpts is None else model.at_kpoints(kpts), device=device)

    @overload
    def predict(
        self, atoms: Atoms | None = None, *, extrapolate: bool | None = None, uncertainty: bool = False
    ) -> PAWDensity: ...

    @overload
    def predict(
        self, atoms: Sequence[Atoms], *, extrapolate: bool | None = None, uncertainty: bool = False
    ) -> list[PAWDensity]: ...

    def predict(
        self,
        atoms: Atoms | Sequence[Atoms] | None = None,
        *,
        extrapolate: bool | None = None,
        uncertainty: bool = False,
    ) -> PAWDensity | list[PAWDensity]:
        """The PAW density of ``atoms``; a copy of the caller's own, so that it may be changed.

        Parameters
        ----------
        atoms
            Some atoms, or a list of them: then a list of densities in the same order, for which the network sees
            several at a time.  The calculator goes on to speak of its own.
        extrapolate
            See the class, whose value is the default.
        uncertainty
            With σ of ñ at each point, :attr:`.PAWDensity.sigma_sR`, see :meth:`.Predictor.with_sigma`; the model
            needs error bars.

        Raises
        ------
        PredictionError
            Elements that the model does not know, overlapping atoms, a flat cell, a grid that is too coarse, a
            prediction that means nothing, …

        Warns
        -----
        UnfamiliarWarning
            Environments unlike the training data.
        """
        if atoms is not None and not isinstance(atoms, Atoms):
            return self._predict_frames(list(atoms), extrapolate, uncertainty)
        if uncertainty:
            return self._predict_frames([self._its_atoms(atoms)], extrapolate, uncertainty)[0]
        density = self._predict(atoms, extrapolate)
        return density.new(nt_sR=density.nt_sR.copy(), D_asii=[D_sii.copy() for D_sii in density.D_asii])

    def _predict_frames(self, frames: list[Atoms], extrapolate: bool | None, uncertainty: bool) -> list[PAWDensity]:
        extrapolate = self.parameters['extrapolate'] if extrapolate is None else extrapolate
        with self._lock:
            predictors, grids = list[Predictor](), list[Grid]()
            for i, atoms in enumerate(frames):
                with naming_frame(i, frames):
                    predictors.append(self._predictor_for(atoms))
                    grids.append(self._grid(atoms))
            if len(set(predictors)) == 1:
                return predictors[0].predict(frames, grids, extrapolate=extrapolate, uncertainty=uncertainty)
            densities = list[PAWDensity]()
            for i, (atoms, predictor) in enumerate(zip(frames, predictors, strict=True)):
                with naming_frame(i, frames):
                    densities.append(
                        predictor.predict(atoms, grids[i], extrapolate=extrapolate, uncertainty=uncertainty)
                    )
            return densities

    def get_pseudo_density(
        self, spin: int | None = None, gridrefinement: int = 1, broadcast: bool = True
    ) -> np.ndarray:
        """Pseudo density with compensation charges, electrons/Å³, as GPAW's method: it holds all valence electrons.

        Points on a boundary that is not periodic are included.  ``predict().nt_sR`` is the density without compensation
        charges.  Every MPI process predicts for itself, so that ``broadcast`` changes nothing.
        """
        return pseudo_density(self._predict(), spin=spin, gridrefinement=gridrefinement)

    def get_spin_density(self, gridrefinement: int = 1) -> np.ndarray:
        """Pseudo density of spin up minus that of spin down, electrons/Å³: its integral is ``get_magnetic_moment()``.

        Zeros of a spin-paired prediction.
        """
        density = self._predict().with_spins(2)
        up_R, down_R = (pseudo_density(density, spin=spin, gridrefinement=gridrefinement) for spin in (0, 1))
        return up_R - down_R

    def get_all_electron_density(
        self, spin: int | None = None, gridrefinement: int = 1, broadcast: bool = True, skip_core: bool = False
    ) -> np.ndarray:
        """All-electron density, electrons/Å³, as GPAW's method; ``broadcast`` changes nothing.

        The shape is ``gridrefinement`` · ``get_number_of_grid_points()``, as that of the pseudo density.
        """
        return all_electron_density(self._predict(), spin=spin, gridrefinement=gridrefinement, skip_core=skip_core)

    def get_electrostatic_potential(self) -> np.ndarray:
        """Electrostatic potential of an electron on a grid twice as fine, eV, as GPAW's method."""
        return electrostatic_potential(self._predict())

    def get_number_of_grid_points(self) -> np.ndarray:
        """(3,) numbers of grid intervals along the lattice vectors."""
        return self._grid(self._its_atoms()).size_c.copy()

    def get_number_of_spins(self) -> int:
        """1: spin-paired; 2 where a model that is told magnetic moments has predicted a magnetisation."""
        return self._predict().nspins

    def get_density_uncertainty(self, atoms: Atoms | None = None) -> ExpectedError:
        """How wrong the pseudo density is likely to be: in all and around each atom.

        Raises
        ------
        PredictionError
            The model has no error bars, see ``deepdensity uncertainty``; atoms that nothing can be predicted for.
        """
        atoms, extrapolate = self._its_atoms(atoms), self.parameters['extrapolate']
        with self._lock:
            predictor = self._predictor_for(atoms)
            return predictor.expected_error(predictor.coefficients(atoms, extrapolate=extrapolate))

    def get_property(self, name: str, atoms: Atoms | None = None, allow_calculation: bool = True) -> Any:
        if name not in self.implemented_properties:
            return super().get_property(name, atoms, allow_calculation)
        with self._lock:
            return super().get_property(name, self._its_atoms(atoms), allow_calculation)

    def calculate(
        self,
        atoms: Atoms | None = None,
        properties: Sequence[str] = ('dipole',),
        system_changes: Sequence[str] = all_changes,
    ) -> None:
        with self._lock:
            density = self._predict(atoms)
            self.results['dipole'] = dipole_moment(density)
            if {'magmom', 'magmoms'} & set(properties):
                self.results |= {'magmom': density.magnetic_moment(), 'magmoms': density.magnetic_moments()}
            if 'charges' in properties:
                self.results['charges'] = hirshfeld_charges(density)

    def check_state(self, atoms: Atoms, tol: float = 1e-15) -> list[str]:
        """What has changed since the last calculation, a charge in ``atoms.info`` included."""
        changes: list[str] = super().check_state(atoms, tol)
        if self.atoms is not None and self.atoms.info.get('charge') != atoms.info.get('charge'):
            changes.append('charge')
        return changes

    def get_spin_polarized(self) -> bool:
        """See :meth:`get_number_of_spins`."""
        return self.get_number_of_spins() == 2

    def _its_atoms(self, atoms: Atoms | None = None) -> Atoms:
        """The atoms to speak of, from now on."""
        if atoms is not None:
            self._given = self._of_thread.given = atoms
        given = self._atoms_given()
        if given is None:
            raise PredictionError('the calculator has no atoms yet: use atoms.calc = calc, or calc.predict(atoms)')
        return given

    def _atoms_given(self) -> Atoms | None:
        """By this thread; if by none, then by any."""
        return getattr(self._of_thread, 'given', self._given)

    def _grid(self, atoms: Atoms) -> Grid:
        return self._predictor_for(atoms).grid(atoms, gpts=self.parameters['gpts'], h=self.parameters['h'])

    def _predict(self, atoms: Atoms | None = None, extrapolate: bool | None = None) -> PAWDensity:
        atoms = self._its_atoms(atoms)
        extrapolate = self.parameters['extrapolate'] if extrapolate is None else extrapolate
        with self._lock:
            if self._density is None or self._extrapolated != extrapolate or self.check_state(atoms):
                self.reset()
                density = self._predictor_for(atoms).predict(atoms, self._grid(atoms), extrapolate=extrapolate)
                self._density, self._extrapolated, self.atoms = density, extrapolate, atoms.copy()
            return self._density


def _checked_grid(gpts: Any, h: Any) -> dict[str, Any]:
    """gpts and h as plain numbers."""
    if gpts is not None and h is not None:
        raise CalculatorSetupError(f'give gpts or h, not both (gpts={gpts}, h={h})')
    if gpts is not None:
        n_c = np.asarray(gpts)
        if n_c.shape != (3,) or n_c.dtype.kind not in 'iu' or (n_c < 1).any():
            raise CalculatorSetupError(f'gpts must be three positive integers, not {gpts!r}')
        gpts = tuple(n_c.tolist())
    if h is not None:
        if isinstance(h, bool) or not isinstance(h, int | float | np.number) or not 0 < h < np.inf:
            raise CalculatorSetupError(f'h must be a positive number of Å, not {h!r}')
        h = float(h)
    return {'gpts': gpts, 'h': h}
