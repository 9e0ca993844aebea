"""SeededGPAW: GPAW's calculator, started from a prediction."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from ase import Atoms
from gpaw.dft import Mixer, Parameters
from gpaw.mpi import serial_comm
from gpaw.new.ase_interface import ASECalculator

from ase_deepdensity.level import Level, LevelError
from ase_deepdensity.model import DensityModel
from ase_deepdensity.scf import compatible
from ase_deepdensity.scf.compatible import OnMismatch
from ase_deepdensity.scf.late_text import late_logger
from ase_deepdensity.scf.occupations import NaturalOccupations
from ase_deepdensity.scf.own_start import Orbitals, OwnStart, State
from ase_deepdensity.scf.plausible import described
from ase_deepdensity.scf.protocol import Protocol, SeededLoop, SeedReport, Start
from ase_deepdensity.scf.response import Residual
from ase_deepdensity.scf.seed import ModelSeed, Seed, SeedError, as_seed, grid_of
from ase_deepdensity.state import PAWDensity

if TYPE_CHECKING:
    from gpaw.mpi import MPIComm
    from gpaw.new.builder import DFTComponentsBuilder
    from gpaw.new.calculation import DFT
    from gpaw.new.density import Density
    from gpaw.new.energies import DFTEnergies
    from gpaw.new.ibzwfs import IBZWaveFunctions
    from gpaw.new.potential import Potential


class SeededGPAW(ASECalculator):
    """GPAW, whose new calculations start from a predicted PAW state instead of a superposition of atoms.

    >>> atoms.calc = SeededGPAW('water-pbe-dzp', mode='lcao', basis='dzp', h=0.2, xc='PBE')
    >>> atoms.get_potential_energy()

    Everything else is GPAW's own calculator: ``.dft``, ``.write()``, forces, ``fixed_density`` and so on.  A bad
    seed costs iterations, never the result: it is given up where the first pass shows that it is bad (see
    :mod:`.protocol`).

    Parameters
    ----------
    model
        Name of a shipped model, path of a model file, a model; or a :class:`PAWDensity` of the atoms, to start from.
    on_mismatch
        What to do when the parameters are not those of the model's level of theory: 'error', or 'warn' and go on.
    txt
        Where the log goes, as for GPAW.  A file is opened when a calculation is set up and its first iteration is
        next: what ends in an error before leaves it alone.
    communicator
        As for GPAW.
    protocol
        Figures of the first steps.
    carry
        Let a new geometry start from the prediction plus what the last cycle has added to it.
    parameters
        Of GPAW; none: those of the level of theory.

    Raises
    ------
    LevelError
        Parameters that are not those of the level; the message names each.
    ImportError
        A GPAW that is too old.
    PredictionError
        When a calculation begins: atoms, or for a state a grid, that there is no seed for.
    """

    loop_type: type[SeededLoop] = SeededLoop

    def __init__(
        self,
        model: str | Path | DensityModel | PAWDensity | Seed,
        *,
        on_mismatch: OnMismatch = 'error',
        txt: str | Path | IO[str] | None = '-',
        communicator: MPIComm | None = None,
        protocol: Protocol | None = None,
        carry: bool = True,
        legacy_gpaw: bool = False,
        **parameters: Any,
    ):
        compatible.check_gpaw()
        if legacy_gpaw:
            raise LevelError("seeding needs GPAW's new interface: leave legacy_gpaw out")
        if on_mismatch not in ('error', 'warn'):
            raise ValueError(f"on_mismatch must be 'error' or 'warn', not {on_mismatch!r}")
        self.seed = as_seed(model)
        self.on_mismatch: OnMismatch = on_mismatch
        self.protocol = Protocol() if protocol is None else protocol
        self.carry = carry
        self.seed_report: SeedReport | None = None
        self._predicted: State | None = None
        params = Parameters(**(parameters or physical(self.seed.level)))
        self.seed.meet(compatible.level_of(params))
        self._judge(compatible.parameter_differences(self.seed.level, params))
        log, self._open_log = late_logger(txt, communicator)
        super().__init__(params, log=log)

    def __del__(self) -> None:
        if hasattr(self, 'timer'):  # else it was refused before there was a calculator
            super().__del__()

    def create_new_calculation(self, atoms: Atoms) -> None:
        """GPAW's, whose first density is the seed."""
        self.seed.check(atoms)
        with self._seeding_builder():
            super().create_new_calculation(atoms)
        start = self.dft.scf_loop.start
        if start is not None:  # orbitals that the seed's potential has made are made anew without it, in LCAO forgotten
            lcao = self.dft.ibzwfs.mode == 'lcao'
            start.own.orbitals = Orbitals(self.dft.ibzwfs) if lcao else self._remake_orbitals
        self._open_log()

    def create_new_calculation_from_old(self, atoms: Atoms) -> None:
        """GPAW's, which takes the wave functions along to another cell; the density there is the seed."""
        self.seed.check(atoms)
        with self._seeding_builder():
            super().create_new_calculation_from_old(atoms)
        self._keep_orbitals()

    def _keep_orbitals(self) -> None:
        """As long as a seed is on trial."""
        start = self.dft.scf_loop.start
        if start is not None and not start.untouched:
            start.own.orbitals = Orbitals(self.dft.ibzwfs)

    def calculate_property(self, atoms: Atoms | None, prop: str) -> Any:
        """GPAW's; forces are those of the self-consistent state also where the density is only nearly converged.

        What is left of the residual changes them in first order, unlike the energy.  That is taken off with the
        model's derivative, as in :mod:`.response`; nothing is done to a seed that was refused, nor where the model
        has no derivative.
        """
        if prop == 'forces' and isinstance(self.seed, ModelSeed):
            super().calculate_property(atoms, 'energy')
            accepted = self.seed_report is not None and self.seed_report.accepted
            if 'forces' not in self.dft.results and accepted and self.seed.has_derivative:
                with self.timer('Forces'):
                    self.dft.results['forces'] = Residual(self.dft).forces(self.seed, self.atoms)
        return super().calculate_property(atoms, prop)

    @contextmanager
    def _seeding_builder(self) -> Iterator[None]:
        """Within it the components of a calculation are built around a seed."""
        params: Any = self.params

        def build(atoms: Atoms, *, comm: MPIComm | None = None, log: Any = None) -> DFTComponentsBuilder:
            builder = type(params).dft_component_builder(params, atoms, comm=comm, log=log)
            self._check(builder)
            self._seed(builder)
            return builder

        params.dft_component_builder = build
        try:
            yield
        finally:
            del params.dft_component_builder

    def _check(self, builder: DFTComponentsBuilder) -> None:
        compatible.check_electrons(builder, self.seed.level, self.seed.name)
        self._judge(compatible.differences(self.seed.level, builder))
        self.seed.check_grid(grid_of(builder.grid.new(comm=serial_comm)))

    def _judge(self, differences: list[str]) -> None:
        compatible.judge(differences, self.seed.name, self.on_mismatch)

    def _seed(self, builder: DFTComponentsBuilder) -> None:
        """Let the builder make a loop that knows of seeds, and a potential calculator that begins with one."""
        create_loop, create_pot_calc = builder.create_scf_loop, builder.create_potential_calculator
        create_orbitals = builder.create_ibz_wave_functions
        self._builder = builder
        self._occupations = NaturalOccupations(builder.setups)
        loops: list[SeededLoop] = []

        def seeded_loop() -> SeededLoop:
            loops.append(self.loop_type.of(create_loop()))
            return loops[-1]

        def seeding_pot_calc() -> Any:
            pot_calc = create_pot_calc()
            self._seed_before(pot_calc, loops[-1], builder.atoms)
            return pot_calc

        def orbitals(basis: Any, potential: Potential) -> Any:
            """In the potential of the seed; where that makes none, in GPAW's own."""
            del builder.create_ibz_wave_functions
            start = loops[-1].start
            if start is None or start.untouched:
                return create_orbitals(basis, potential)
            try:
                return create_orbitals(basis, potential)
            except Exception as error:
                self._rescue(start, error)
                return create_orbitals(basis, start.own.potential()[0])

        builder.create_scf_loop = seeded_loop  # type: ignore[method-assign]
        builder.create_potential_calculator = seeding_pot_calc  # type: ignore[method-assign]
        builder.create_ibz_wave_functions = orbitals  # type: ignore[method-assign]

    def _remake_orbitals(self, ibzwfs: IBZWaveFunctions[Any], potential: Potential) -> None:
        """As GPAW makes them for a new calculation, and an eigensolver that does not know the old ones."""
        builder, density, loop = self._builder, self.dft.density, self.dft.scf_loop
        fresh = builder.create_ibz_wave_functions(builder.create_basis_set(), potential)
        ibzwfs._wfs_u[:], ibzwfs.fermi_levels = fresh._wfs_u, None
        loop.eigensolver = builder.create_eigensolver(loop.hamiltonian)
        if ibzwfs._wfs_u[0].has_eigs:
            ibzwfs.calculate_occs(loop.occ_calc, density.nvalence - density.charge + self.dft.pot_calc.charge)

    def _rescue(self, start: Start, error: Exception) -> None:
        """Give a seed up whose first potential, or what was made of it, ended in an error.

        Not under MPI, where other ranks may be waiting for this one.
        """
        if self.comm.size > 1:
            raise error
        start.refuse(described(error))

    def _seed_before(
        self, pot_calc: Any, loop: SeededLoop, atoms: Atoms, dft: DFT | None = None, carried: State | None = None
    ) -> None:
        """Let the density be replaced by a seed at the moment when its potential is calculated.

        Parameters
        ----------
        dft
            The calculation whose atoms are moved; default: a new one.
        """
        original = pot_calc.calculate

        def calculate_from_seed(density: Density, *args: Any, **kwargs: Any) -> Any:
            del pot_calc.calculate

            def own_potential() -> tuple[Potential, DFTEnergies]:
                """As GPAW calculates it from a density without a history."""
                if dft is not None:
                    return pot_calc.calculate(density, dft.ibzwfs)[:2]
                comm = self._builder.communicators['D']
                return pot_calc.calculate_without_orbitals(density, kpt_band_comm=comm)[:2]

            start = self._start(density, atoms, pot_calc.charge, OwnStart(State.of(density), own_potential), carried)
            loop.start = start
            try:
                return original(density, *args, **kwargs)
            except Exception as error:
                if start.untouched:
                    raise
                self._rescue(start, error)
                start.own.density.put(density)
                return original(density, *args, **kwargs)

        pot_calc.calculate = calculate_from_seed

    def move_atoms(self, atoms: Atoms) -> None:
        """GPAW's, in which the moved density is replaced by a seed."""
        self.seed.check(atoms)
        dft = self.dft
        carried = self._correction(dft.density) if self.carry else None
        self._seed_before(dft.pot_calc, dft.scf_loop, atoms, dft, carried)
        try:
            super().move_atoms(atoms)
        finally:
            dft.pot_calc.__dict__.pop('calculate', None)
        self._keep_orbitals()

    def _start(
        self, density: Density, atoms: Atoms, background_charge: float, own: OwnStart, carried: State | None
    ) -> Start:
        """Put the seed, and what the last cycle has corrected, into GPAW's density, with the calculation's symmetry.

        Where that is no density of atoms, GPAW's own stays.
        """
        begin = time.perf_counter()
        report = self.seed_report = SeedReport(self.seed.name)
        chosen = 'mixer' in self._builder.params._non_defaults
        start = Start(report, own, None if chosen else self._make_mixer, self._occupations, self.protocol)
        try:
            self._fill(density, atoms, background_charge, own.density, carried)
        except SeedError as error:
            start.refuse(str(error))
            start.untouched = True
            own.density.put(density)
        report.seconds = time.perf_counter() - begin
        self.log(
            f'\nSeed: ñ and D of the {self.seed.name}{" and the last correction" if carried is not None else ""}, '
            f'level of theory {self.seed.level.name or "unnamed"}, in {report.seconds:.3f} s\n'
            + (f"seed refused: {report.reason}; GPAW's own start is taken\n" if start.untouched else '')
        )
        return start

    def _fill(
        self, density: Density, atoms: Atoms, background_charge: float, own: State, carried: State | None
    ) -> None:
        """The seed as GPAW's density.

        Raises
        ------
        SeedError
            On all ranks, where there is no seed or where it is no density.
        """
        self._predicted = None
        self.seed.fill(density, atoms, self._builder.communicators['D'])
        integral = _integral(density)
        density.normalize(background_charge)
        factor = _integral(density) / integral if integral else float('inf')
        if violation := self.protocol.bounds.violation(density, own, factor, self._occupations):
            raise SeedError(violation)
        symmetries = self._builder.ibz.symmetries
        if len(symmetries) > 1:  # not before the verdict, from which it would hide much
            density.symmetrize(symmetries)
            density.normalize(background_charge)
        self._predicted = State.of(density)
        if carried is not None:
            carried.add_to(density)
            density.normalize(background_charge)

    def _correction(self, density: Density) -> State | None:
        """What the cycle that has just ended has added to the prediction."""
        if self._predicted is None or not self.dft.results:
            return None
        return State.of(density).minus(self._predicted)

    def _make_mixer(self, beta: float) -> Any:
        builder, density = self._builder, self.dft.density
        mixer = Mixer.from_param({'name': 'pulay', 'beta': beta, 'nmaxold': 10})
        return mixer.build(
            desc=builder.grid,
            atomdist=density.D_asii.layout.atomdist,
            setups=builder.setups,
            relpos_ac=self.dft.relpos_ac,
            world=builder.communicators['w'],
            ncomponents=builder.ncomponents,
            xp=builder.xp,
        )


def _integral(density: Density) -> float:
    """∫ ñ dr."""
    return float(density.nt_sR[: density.ndensities].integrate().sum())


def physical(level: Level) -> dict[str, Any]:
    """GPAW's keywords for a level of theory, convergence included, without what belongs to other atoms or machines."""
    return level.general().keywords()
