"""SeededGPAW: GPAW's calculator, started from a prediction."""

from __future__ import annotations

import time
from collections.abc import Generator
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import numpy as np
from ase import Atoms
from gpaw.dft import Parameters
from gpaw.mpi import serial_comm
from gpaw.new.ase_interface import ASECalculator
from gpaw.new.scf import SCFContext

from ase_deepdensity.checks import CHARGE
from ase_deepdensity.choice import Choice
from ase_deepdensity.codes.gpaw import seams
from ase_deepdensity.codes.gpaw.datasets import setups
from ase_deepdensity.codes.gpaw.state import assumed_moments
from ase_deepdensity.level import Level, LevelError
from ase_deepdensity.model import DensityModel
from ase_deepdensity.scf import compatible
from ase_deepdensity.scf.bounds import described
from ase_deepdensity.scf.compatible import OnMismatch
from ase_deepdensity.scf.learning import Learning
from ase_deepdensity.scf.loop import SeededLoop
from ase_deepdensity.scf.protocol import Protocol, SeedReport, Start
from ase_deepdensity.scf.response import Residual
from ase_deepdensity.scf.seed import ChosenSeed, ModelSeed, Seed, as_seed, grid_of, with_moments
from ase_deepdensity.scf.start import Starter
from ase_deepdensity.state import PAWDensity
from ase_deepdensity.training.learn import Learner, LearnError

if TYPE_CHECKING:
    from gpaw.mpi import MPIComm
    from gpaw.new.builder import DFTComponentsBuilder
    from gpaw.new.ibzwfs import IBZWaveFunctions
    from gpaw.new.potential import Potential


class SeededGPAW(ASECalculator):
    """GPAW, whose new calculations start from a predicted PAW state instead of a superposition of atoms.

    >>> atoms.calc = SeededGPAW(mode='lcao', basis='dzp', h=0.2, xc='PBE')
    >>> atoms.get_potential_energy()

    Everything else is GPAW's own calculator: ``.dft``, ``.write()``, forces, ``fixed_density`` and so on.  A bad
    seed costs iterations, never the result: it is given up where the first pass shows that it is bad (see
    :mod:`.protocol`).

    Spin-polarised calculations (``spinpol``, ``magmoms``, ``hund``, initial moments of the atoms) are seeded, too: a
    model that is told moments predicts both spins, from one that is not comes the total, with the magnetisation that
    GPAW starts with.

    Parameters
    ----------
    model
        Name of a shipped model, path of a model file, a model; or a :class:`PAWDensity` of the atoms or GPAW's
        file of a finished calculation of them, ``.gpw``, to start from.  Default: the shipped model that knows the
        atoms best (:func:`.choose`), which the log names; another one when the elements change.
    on_mismatch
        What to do when the PAW datasets are not those that the seed is for: 'error', or 'warn' and try it.  Any other
        difference from the seed's level of theory is a line in the log.
    txt
        Where the log goes, as for GPAW.  A file is opened when a calculation is set up and its first iteration is
        next: what ends in an error before leaves it alone.
    communicator
        As for GPAW.
    protocol
        Figures of the first steps.
    carry
        Let a new geometry start from the prediction plus what the last cycle has added to it.
    learn
        Let the model learn each converged state before the next one is predicted, in at most
        :data:`.learning.SHARE` of the time of the cycles; see :attr:`learned`.  The given model is not changed.
    parameters
        Of GPAW; none: those of the level of theory, and the charge of the state.

    Raises
    ------
    LevelError
        Datasets with other projectors or electrons than the seed's; the message names each.  Meta-GGAs, moments in all
        directions, GPUs.
    ImportError
        A GPAW that is too old.
    PredictionError
        When a calculation begins: atoms, or for a state a grid, that there is no seed for.
    """

    loop_type: type[SeededLoop] = SeededLoop
    _choice: Choice | None

    def __init__(
        self,
        model: str | Path | DensityModel | PAWDensity | Seed | None = None,
        *,
        on_mismatch: OnMismatch = 'error',
        txt: str | Path | IO[str] | None = '-',
        communicator: MPIComm | None = None,
        protocol: Protocol | None = None,
        carry: bool = True,
        learn: bool = False,
        legacy_gpaw: bool = False,
        **parameters: Any,
    ):
        compatible.check_gpaw()
        if legacy_gpaw:
            raise LevelError("seeding needs GPAW's new interface: leave legacy_gpaw out")
        if on_mismatch not in ('error', 'warn'):
            raise ValueError(f"on_mismatch must be 'error' or 'warn', not {on_mismatch!r}")
        self.seed = as_seed(model, compatible.level_of(Parameters(**parameters)) if parameters else None)
        self.on_mismatch: OnMismatch = on_mismatch
        self.protocol = Protocol() if protocol is None else protocol
        self.carry = carry
        self._follows_seed, self._choice = not parameters, None
        params = Parameters(**(parameters or self._parameters_of_seed()))
        if not isinstance(self.seed, ChosenSeed):  # it has no atoms yet
            self._use_charge(params)
            self.seed.use_kpoints(compatible.level_of(params))
            compatible.report_datasets(
                compatible.setup_differences(self.seed.level, params), self.seed.name, on_mismatch
            )
        log, self._open_log = seams.deferred_logger(txt, communicator)
        super().__init__(params, log=log)
        self._starter = Starter(self.seed, self.protocol, self.log)
        self._learning = self._begin_to_learn() if learn else None
        self._judged: tuple[int, Residual] | None = None

    def __del__(self) -> None:
        if hasattr(self, 'timer'):  # else it was refused before there was a calculator
            super().__del__()

    @property
    def seed_report(self) -> SeedReport | None:
        """How the last start went; None: there was none."""
        return self._starter.report

    @property
    def learned(self) -> Learning:
        """What was learned: ``.save('mine.safetensors')``, ``.model``, ``.steps``.

        Raises
        ------
        LearnError
            A calculator without ``learn=True``.
        """
        if self._learning is None:
            raise LearnError('this calculator does not learn: SeededGPAW(…, learn=True)')
        return self._learning

    def _begin_to_learn(self) -> Learning:
        if not isinstance(self.seed, ModelSeed):
            raise ValueError(f'learn=True needs a model, not the {self.seed.name}')
        if not isinstance(self.seed, ChosenSeed):
            Learner(self.seed.model)  # it refuses a network that cannot learn
        return Learning(self.seed, self.log, self.comm)

    def iconverge(self, atoms: Atoms | None, *, need_wfs: bool = False) -> Generator[SCFContext]:
        """GPAW's; what comes of it is learned, where that is asked for."""
        begin, calculated = time.perf_counter(), False
        for context in super().iconverge(atoms, need_wfs=need_wfs):
            calculated = True
            yield context
        if not calculated or self._learning is None or self.dft.scf_loop.kept:
            return
        if self._learning.take(self, time.perf_counter() - begin):
            self._starter.predict_again(self.dft, self.atoms)
        self.log.fd.flush()

    def create_new_calculation(self, atoms: Atoms) -> None:
        """GPAW's, whose first density is the seed.

        Where what is made of that ends in an error, GPAW's default start is taken instead.  One that has just been set
        up for the same atoms stays: in LCAO, GPAW asks for it twice.
        """
        if self._is_set_up(atoms):
            return
        self._check(atoms)
        self._starter.start = None
        self._starter.forget()
        try:
            with seams.altered_builders(self.params, self._prepare):
                super().create_new_calculation(atoms)
        except Exception as error:
            if not self._starter.refuse(error):
                raise
            self.log(f"\nseed refused: {described(error)}; GPAW's own start is taken\n")
            with seams.altered_builders(self.params, self._starter.use):
                super().create_new_calculation(atoms)
            self._starter.start = None
        start = self._start_of_loop()
        if start is not None:  # orbitals that the seed's potential has made are made anew without it, in LCAO forgotten
            lcao = self.dft.ibzwfs.mode == 'lcao'
            start.default.orbitals = seams.Orbitals(self.dft.ibzwfs) if lcao else self._remake_orbitals
        self._open_log()

    def create_new_calculation_from_old(self, atoms: Atoms) -> None:
        """GPAW's, which takes the wave functions along to another cell; the density there is the seed."""
        self._check(atoms)
        self._starter.forget()
        with seams.altered_builders(self.params, self._prepare):
            super().create_new_calculation_from_old(atoms)
        self._start_of_loop()
        self._starter.keep_orbitals(self.dft)

    def move_atoms(self, atoms: Atoms) -> None:
        """GPAW's, in which the moved density is replaced by a seed."""
        self._check(atoms)
        dft, self._judged = self.dft, None
        if self.carry:
            self._starter.remember(dft, self.atoms)
        call_off = self._starter.seed_next_potential(dft.pot_calc, atoms, dft)
        try:
            super().move_atoms(atoms)
        finally:
            call_off()
        dft.scf_loop.start = self._starter.start
        self._starter.keep_orbitals(dft, moved=self.carry)

    def _parameters_of_seed(self) -> dict[str, Any]:
        return physical(self.seed.level) | {'charge': self.seed.charge or None}

    def _check(self, atoms: Atoms) -> None:
        """Refuse atoms that there is no seed for; say which model was chosen, if it is a new one."""
        self.seed.check(self._with_moments(atoms))
        if self._learning is not None:
            self._learning.recall()
        if not isinstance(self.seed, ChosenSeed) or self.seed.choice is self._choice:
            return
        self._choice = self.seed.choice
        if self._follows_seed:
            self.params = Parameters(**self._parameters_of_seed())
        self._use_charge(self.params)
        self.log(f'\nModel: {self._choice}')
        if self._follows_seed:
            self.log(f"Parameters of the model's level of theory:\n{self.params}")

    def _use_charge(self, params: Parameters) -> None:
        """Of the calculation, for the seed."""
        self.seed.use_charge(float(params.charge))

    def _with_moments(self, atoms: Atoms) -> Atoms:
        """A copy with the moments that GPAW will begin with."""
        datasets = setups(compatible.level_of(self.params), atoms.numbers) if self.params.hund else None
        return with_moments(atoms, assumed_moments(atoms, self.params, datasets))

    def _is_set_up(self, atoms: Atoms) -> bool:
        """Is there a calculation of these atoms that has not begun?"""
        if not self.initialized or not seams.is_unused(self.dft) or self.atoms != atoms:
            return False
        return np.array_equal(self.atoms.get_initial_magnetic_moments(), atoms.get_initial_magnetic_moments())

    def _prepare(self, builder: DFTComponentsBuilder) -> None:
        """Check the components of a calculation, and let its first density be the seed."""
        compatible.check_electrons(builder)
        datasets = compatible.setup_differences(self.seed.level, self.params)
        datasets += compatible.dataset_differences(self.seed.types_of(builder.atoms), builder)
        compatible.report_datasets(datasets, self.seed.name, self.on_mismatch)
        if differences := compatible.differences(self.seed.level, builder):
            self.log(f'\nSeed of another level of theory (seed against calculation): {"; ".join(differences)}')
        charge = float(builder.params.charge)
        if abs(charge - self.seed.charge) > CHARGE:
            self.log(f'\nSeed of another charge: {self.seed.charge:g} against {charge:g} |e|; its ñ is scaled')
        self.seed.check_grid(grid_of(builder.grid.new(comm=serial_comm)))
        self._starter.use(builder)
        seams.on_potential_calculator(
            builder, lambda pot_calc: self._starter.seed_next_potential(pot_calc, builder.atoms)
        )

    def _start_of_loop(self) -> Start | None:
        """Give the new calculation a loop that knows of seeds."""
        self._judged = None
        loop = self.dft.scf_loop = self.loop_type.of(self.dft.scf_loop)
        loop.start, loop.energy_error = self._starter.start, self._energy_error
        return loop.start

    def _energy_error(self, context: SCFContext) -> float:
        """What the residual changes of the energy, by an estimate, eV."""
        self.dft.potential = context.potential
        residual = Residual(self.dft)
        self._judged = context.niter, residual
        return residual.energy_error()

    def _remake_orbitals(self, ibzwfs: IBZWaveFunctions[Any], potential: Potential) -> None:
        """As GPAW makes them for a new calculation."""
        seams.remake_orbitals(self.dft, self._starter.builder, potential)

    def calculate_property(self, atoms: Atoms | None, prop: str) -> Any:
        """GPAW's; forces are those of the self-consistent state also where the density is only nearly converged.

        What is left of the residual changes them in first order, unlike the energy.  That is taken off with the
        model's derivative, as in :mod:`.response`; nothing is done to a seed that was refused, nor where the model
        has no derivative.
        """
        if prop == 'forces' and isinstance(self.seed, ModelSeed):
            super().calculate_property(atoms, 'energy')
            accepted = self.seed_report is not None and self.seed_report.accepted
            if 'forces' not in self.dft.results and accepted and self._has_derivative():
                niter, residual = self._judged or (0, None)
                with self.timer('Forces'):
                    if residual is None or niter != self.get_number_of_iterations():
                        residual = Residual(self.dft)
                    self.dft.results['forces'] = residual.forces(self.seed, self._starter.told(self.atoms))
        return super().calculate_property(atoms, prop)

    def _has_derivative(self) -> bool:
        """Can what the calculation began with be differentiated?  Not where its magnetisation is of GPAW's start."""
        return isinstance(self.seed, ModelSeed) and self.seed.has_derivative and self._starter.complete


def physical(level: Level) -> dict[str, Any]:
    """GPAW's keywords for a level of theory, convergence included, without what belongs to other atoms or machines."""
    return level.general().keywords()
