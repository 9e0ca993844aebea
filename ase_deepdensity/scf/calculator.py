"""SeededGPAW: GPAW's calculator, started from a prediction."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from ase import Atoms
from gpaw.dft import Mixer, Parameters
from gpaw.new.ase_interface import ASECalculator

from ase_deepdensity.level import LevelError
from ase_deepdensity.model import DensityModel
from ase_deepdensity.scf import compatible
from ase_deepdensity.scf.compatible import OnMismatch
from ase_deepdensity.scf.late_text import late_logger
from ase_deepdensity.scf.protocol import Protocol, SeededLoop, SeedReport, Start, State
from ase_deepdensity.scf.seed import Seed, as_seed
from ase_deepdensity.state import PAWDensity

if TYPE_CHECKING:
    from gpaw.core import UGArray
    from gpaw.mpi import MPIComm
    from gpaw.new.builder import DFTComponentsBuilder
    from gpaw.new.density import Density


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
        Where the log goes, as for GPAW.  A file is opened when a calculation begins, so that one that is refused
        leaves it alone.
    communicator
        As for GPAW.
    protocol
        Figures of the first steps.
    parameters
        Of GPAW; none: those of the level of theory.

    Raises
    ------
    LevelError
        Parameters that are not those of the level; the message names each.
    ImportError
        A GPAW that is too old.
    """

    def __init__(
        self,
        model: str | Path | DensityModel | PAWDensity | Seed,
        *,
        on_mismatch: OnMismatch = 'error',
        txt: str | Path | IO[str] | None = '-',
        communicator: MPIComm | None = None,
        protocol: Protocol | None = None,
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
        self.seed_report: SeedReport | None = None
        params = Parameters(**(parameters or self.seed.level.keywords()))
        self._judge(compatible.parameter_differences(self.seed.level, params))
        log, self._open_log = late_logger(txt, communicator)
        super().__init__(params, log=log)

    def create_new_calculation(self, atoms: Atoms) -> None:
        """GPAW's, in which the builder's first density is the seed."""
        self.seed.check(atoms)
        with self._seeding_builder():
            super().create_new_calculation(atoms)

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
        self._open_log()

    def _judge(self, differences: list[str]) -> None:
        compatible.judge(differences, self.seed.name, self.on_mismatch)

    def _seed(self, builder: DFTComponentsBuilder) -> None:
        """Let the builder make a seeded density, and a loop that knows of it."""
        superposition, create_loop = builder.density_from_superposition, builder.create_scf_loop
        loops: list[SeededLoop] = []

        def density_from_seed(basis_set: Any) -> Density:
            density = superposition(basis_set)
            density.normalize(0.0)
            default = State.of(density)
            self.fill(density, builder)
            loops[-1].start = self._start(default, builder)
            return density

        def seeded_loop() -> SeededLoop:
            loops.append(SeededLoop.of(create_loop()))
            return loops[-1]

        builder.density_from_superposition = density_from_seed
        builder.create_scf_loop = seeded_loop

    def fill(self, density: Density, builder: DFTComponentsBuilder) -> None:
        """Put the seed into GPAW's density, with the symmetry of the calculation."""
        start = time.perf_counter()
        self.seed.fill(density, builder.atoms, builder.communicators['D'])
        if len(builder.ibz.symmetries) > 1:
            density.symmetrize(builder.ibz.symmetries)
        self.seed_report = SeedReport(self.seed.name, time.perf_counter() - start)
        self.log(
            f'\nSeed: ñ and D of the {self.seed.name}, level of theory {self.seed.level.name or "unnamed"}, '
            f'in {self.seed_report.seconds:.3f} s\n'
        )

    def _start(self, default: State, builder: DFTComponentsBuilder) -> Start:
        assert self.seed_report is not None

        def make_mixer(beta: float) -> Any:
            own = builder.params.mixer
            try:
                builder.params.mixer = Mixer.from_param({'name': 'pulay', 'beta': beta})
                return builder.create_mixer()
            finally:
                builder.params.mixer = own

        chosen = 'mixer' in builder.params._non_defaults
        return Start(self.seed_report, default, None if chosen else make_mixer, self.protocol)
