"""What is not public in GPAW and relied on all the same: underscored names, patched instances, the order of its calls.

Each function says what it relies on, and has a test that says what GPAW must do (``tests/codes/gpaw/test_seams.py``):
a new GPAW that does otherwise is named by that test.  First how a calculation is built, then the loop, orbitals, forces
and stress, and the log.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, TypeVar

import numpy as np
from ase import Atoms
from ase.units import Ha

from ase_deepdensity.spin import components

if TYPE_CHECKING:
    from gpaw.core import UGArray
    from gpaw.core.atom_arrays import AtomArrays
    from gpaw.dft import Parameters
    from gpaw.mpi import MPIComm
    from gpaw.new.ase_interface import ASECalculator
    from gpaw.new.builder import DFTComponentsBuilder
    from gpaw.new.calculation import DFT
    from gpaw.new.density import Density
    from gpaw.new.ibzwfs import IBZWaveFunctions
    from gpaw.new.logger import Logger
    from gpaw.new.potential import Potential
    from gpaw.new.scf import SCFContext, SCFLoop

    Loop = TypeVar('Loop', bound=SCFLoop)


@contextmanager
def altered_builders(params: Parameters, alter: Callable[[DFTComponentsBuilder], None]) -> Iterator[None]:
    """Within it, each builder of components is given to ``alter`` before it builds anything.

    Relied on: a new calculation, and one that takes the wave functions of another along, call
    ``params.dft_component_builder(atoms, log=…, comm=…)`` of the very object that they were given, once.
    """

    def build(*args: Any, **kwargs: Any) -> DFTComponentsBuilder:
        builder: DFTComponentsBuilder = type(params).dft_component_builder(params, *args, **kwargs)
        alter(builder)
        return builder

    params.dft_component_builder = build  # type: ignore[method-assign]
    try:
        yield
    finally:
        del params.dft_component_builder


def on_potential_calculator(builder: DFTComponentsBuilder, act: Callable[[Any], object]) -> None:
    """Let ``act`` have the potential calculator that a builder makes.

    Relied on: ``create_potential_calculator()`` is called once, before the first density has a potential.
    """
    create = builder.create_potential_calculator

    def create_and_act() -> Any:
        pot_calc = create()
        act(pot_calc)
        return pot_calc

    builder.create_potential_calculator = create_and_act  # type: ignore[method-assign]


def on_next_potential(pot_calc: Any, instead: Callable[..., Any]) -> Callable[[], None]:
    """Let the next potential come from ``instead(calculate, density, …)``; returns what calls that off.

    Relied on: each first potential of a calculation, of moved atoms and of another cell comes from
    ``pot_calc.calculate(density, …)``, after the density is complete and normalised, and before orbitals see it.
    """
    return _on_next_call(pot_calc, 'calculate', instead)


def on_next_update(density: Density, instead: Callable[..., None]) -> None:
    """Let the next ``density.update(ibzwfs, …)`` be ``instead(update, ibzwfs, …)``, unless :func:`update_as_usual`.

    Relied on: the loop makes the density of the orbitals by that call, once an iteration.
    """
    _on_next_call(density, 'update', instead)


def update_as_usual(density: Density) -> None:
    """Call :func:`on_next_update` off."""
    density.__dict__.pop('update', None)


def after_creation(calc: ASECalculator, act: Callable[[], None]) -> None:
    """Call ``act`` whenever a new calculation has been set up.

    Relied on: the calculator does that by its own ``create_new_calculation(atoms)``.
    """
    create = calc.create_new_calculation

    def create_and_act(atoms: Atoms) -> None:
        create(atoms)
        act()

    calc.create_new_calculation = create_and_act  # type: ignore[method-assign]


def _on_next_call(owner: Any, name: str, instead: Callable[..., Any]) -> Callable[[], None]:
    """Patch an instance for one call of a method."""
    original = getattr(owner, name)

    def call(*args: Any, **kwargs: Any) -> Any:
        call_off()
        return instead(original, *args, **kwargs)

    def call_off() -> None:
        owner.__dict__.pop(name, None)

    setattr(owner, name, call)
    return call_off


def is_unused(dft: DFT) -> bool:
    """Has nothing been calculated since this was set up?

    Relied on: ``niter`` of the loop is 0 until its first iteration, and there are no results.
    """
    return dft.scf_loop.niter == 0 and not dft.results


def is_given(params: Parameters, keyword: str) -> bool:
    """Has the user chosen this keyword?

    Relied on: ``params._non_defaults`` is the list of keywords that were given.
    """
    return keyword in params._non_defaults


def loop_of_class(cls: type[Loop], loop: SCFLoop) -> Loop:
    """GPAW's loop as one of a subclass.

    Relied on: all that a loop knows stands in its ``__dict__``; after it has yielded an iteration it looks whether
    ``update_density_and_potential`` still holds, and which ``mixer`` it has.
    """
    other = cls.__new__(cls)
    other.__dict__.update(loop.__dict__)
    return other


def set_criteria(loop: SCFLoop, criteria: Mapping[str, Any]) -> None:
    """Change what a loop asks for, also while it runs.

    Relied on: an iteration holds on to the dictionary ``loop.convergence`` itself, and reads it after each step.
    """
    criteria = dict(criteria)
    loop.convergence.clear()
    loop.convergence.update(criteria)


class Met:
    """A criterion that is met; the log shows what it would have shown.

    Relied on: a criterion is called with the iteration and tells whether it is met and what the log shows; the loop
    reads ``calc_last``, ``override_others``, ``description`` and ``tablename``, and calls ``reset()``.
    """

    def __init__(self, criterion: Any):
        self.criterion = criterion
        self.calc_last, self.override_others = criterion.calc_last, criterion.override_others
        self.description, self.tablename = criterion.description, criterion.tablename
        self.reset = criterion.reset

    def __call__(self, context: SCFContext) -> tuple[bool, str]:
        return True, self.criterion(context)[1]


def orbital_error(context: SCFContext) -> float:
    """What the criterion ``eigenstates`` looks at, eV² per electron: of the orbitals before the last step.

    Relied on: ``context.wfs.eigensolver.error`` is that of all electrons, in Ha².
    """
    return float(context.wfs.eigensolver.error * Ha**2 / context.wfs.nvalence)


def energy_tolerance(loop: SCFLoop, context: SCFContext) -> float | None:
    """eV for all electrons; None: no limit is asked for.

    Relied on: the criterion named ``energy`` has ``tol`` and ``relative``, the latter per ``context.wfs.nvalence``.
    """
    criterion: Any = loop.convergence.get('energy')
    if not hasattr(criterion, 'tol'):
        return None
    return float(criterion.tol * (context.wfs.nvalence if criterion.relative else 1.0))


def report_change(context: SCFContext, change: float) -> None:
    """Let an iteration be judged and logged by this change of the density, electrons.

    Relied on: criteria and log read ``context.dens.error`` after the iteration was yielded, unless ``dens.fixed``.
    """
    context.dens.error = change
    context.dens.fixed = False


def density_change(density: Density, nt_sR: np.ndarray, D_asii: AtomArrays, mixer: Any) -> float:
    """GPAW's measure of a change of the density, electrons: with the compensation charges on the grid.

    Of two spins it is that of the total plus that of the magnetisation.

    Relied on: ``mixer.calculate_charge_sloshing(mixer.add_compensation_charge(nt_sR, D_asii, density))`` is what the
    density criterion looks at, with the total and the magnetisation where there are two spins.
    """
    change = mixer.add_compensation_charge(*_components(density, nt_sR, D_asii), density)
    return float(mixer.calculate_charge_sloshing(change))


def create_pulay_mixer(
    builder: DFTComponentsBuilder, density: Density, relpos_ac: np.ndarray, beta: float, nknown: int = 0
) -> Any:
    """Pulay's mixer with a long memory, for a density whose atoms may have gone to other ranks than the builder's.

    ``nknown`` iterations that it will be told of have room besides.

    Relied on: ``Mixer.build`` takes what ``builder.create_mixer`` passes on.
    """
    from gpaw.dft import Mixer

    return Mixer.from_param({'name': 'pulay', 'beta': beta, 'nmaxold': 10 + nknown}).build(
        desc=builder.grid,
        atomdist=density.D_asii.layout.atomdist,
        setups=builder.setups,
        relpos_ac=relpos_ac,
        world=builder.communicators['w'],
        ncomponents=builder.ncomponents,
        xp=builder.xp,
    )


def begin_mixing(mixer: Any, density: Density) -> None:
    """Let Pulay's mixer take the next output for that of this density, whatever it has mixed before.

    Relied on: ``nt_hsX`` has the densities whose residuals are in ``R_hsX``, besides one to come; of two spins they are
    total and magnetisation.
    """
    if mixer.nt_hsX.nold > mixer.R_hsX.nold:
        mixer.nt_hsX.current_indicies.pop()
    mixer.nt_hsX.add(*_components(density, density.nt_sR.data, density.D_asii))


def doubt_last_residual(mixer: Any, density: Density, nt_sR: np.ndarray, D_asii: AtomArrays, share: float) -> None:
    """Let Pulay's mixer take the last residual for one with an error as large as this share of (ñ, D).

    Errors of several residuals are taken to have nothing in common: their squares add up on the diagonal.

    Relied on: ``H_hh`` are the products of the residuals in ``R_hsX`` with the metric, by the order of their coming.
    """
    change_sR = mixer.add_compensation_charge(*_components(density, nt_sR, D_asii), density)
    row, column = (
        x_sR.new(data=x_sR.data[None], dims=(1, *x_sR.dims)) for x_sR in (change_sR, mixer.metric(change_sR))
    )
    last = mixer.R_hsX.nold - 1
    mixer.H_hh[last, last] += share**2 * row.matrix_elements(column).data[0, 0]


def _components(density: Density, nt_sR: np.ndarray, D_asii: AtomArrays) -> tuple[UGArray, AtomArrays]:
    """Total and, with two spins, magnetisation; copies."""
    result_asii = D_asii.new(data=D_asii.data.copy())
    for a, D_sii in D_asii.items():
        result_asii[a][:] = components(D_sii)
    return density.nt_sR.new(data=components(nt_sR)), result_asii


def output_density(density: Density, ibzwfs: IBZWaveFunctions[Any]) -> tuple[np.ndarray, AtomArrays]:
    """ñ and D of the orbitals, symmetric, with the norm that the grid gives them; ``density`` stays what it is.

    Relied on: ``density.update`` does these steps, and normalises in LCAO besides.
    """
    nt_sR, D_asii = density.nt_sR.data.copy(), density.D_asii.copy()
    density.nt_sR.data[:] = 0.0
    density.D_asii.data[:] = 0.0
    ibzwfs.add_to_density(density.nt_sR, density.D_asii)
    density.nt_sR.data[: density.ndensities] += density.nct_R.data
    density.symmetrize(ibzwfs.ibz.symmetries)
    new_sR, new_asii = density.nt_sR.data.copy(), density.D_asii.copy()
    density.nt_sR.data[:] = nt_sR
    density.D_asii.data[:] = D_asii.data
    return new_sR, new_asii


class Orbitals:
    """A copy of orbitals, eigenvalues, occupations and Fermi levels.

    It takes as much memory as the orbitals themselves; in LCAO none, where every step makes them anew.

    Relied on: a step changes ``_eig_n``, ``_occ_n``, ``_P_ani``; the data of ``psit_nX`` and ``orthonormalized``, or
    which array ``C_nM`` is; and ``fermi_levels``.
    """

    def __init__(self, ibzwfs: IBZWaveFunctions[Any]):
        fermi_levels = ibzwfs.fermi_levels
        self.fermi_levels = None if fermi_levels is None else fermi_levels.copy()
        self.kept = [_attributes(wfs) for wfs in ibzwfs]

    def put(self, ibzwfs: IBZWaveFunctions[Any]) -> None:
        """Put them back."""
        ibzwfs.fermi_levels = self.fermi_levels
        for wfs, (attributes, psit_nX) in zip(ibzwfs, self.kept, strict=True):
            wfs.__dict__.update(attributes)
            if psit_nX is not None:
                wfs.psit_nX.data[:] = psit_nX


def _attributes(wfs: Any) -> tuple[dict[str, Any], np.ndarray | None]:
    """What a step changes: small things by their names, and the orbitals on a grid or as plane waves."""
    attributes: dict[str, Any] = {'_eig_n': _copied(wfs._eig_n), '_occ_n': _copied(wfs._occ_n), '_P_ani': None}
    if hasattr(wfs, 'psit_nX'):
        return attributes | {'orthonormalized': wfs.orthonormalized}, wfs.psit_nX.data.copy()
    return attributes | {'C_nM': wfs.C_nM}, None


def _copied(x_n: np.ndarray | None) -> np.ndarray | None:
    return None if x_n is None else x_n.copy()


def add_to_orbitals(wfs: Any, change_nG: np.ndarray) -> None:
    """Change the first orbitals on a grid or as plane waves; GPAW makes them orthogonal again.

    Relied on: ``_P_ani`` holds their projections, if these are known, and ``orthonormalized`` whether they are.
    """
    wfs.psit_nX.data[: len(change_nG)] += change_nG
    wfs._P_ani, wfs.orthonormalized = None, False


def remake_orbitals(dft: DFT, builder: DFTComponentsBuilder, potential: Potential) -> None:
    """The orbitals that a new calculation begins with in this potential, and an eigensolver that has seen no others.

    Relied on: what a new calculation does: ``create_ibz_wave_functions(create_basis_set(), potential)``, and where
    that gives eigenvalues, occupations; ``ibzwfs._wfs_u`` holds the wave functions of this rank.
    """
    ibzwfs, density, loop = dft.ibzwfs, dft.density, dft.scf_loop
    fresh = builder.create_ibz_wave_functions(builder.create_basis_set(), potential)
    ibzwfs._wfs_u[:], ibzwfs.fermi_levels = fresh._wfs_u, None
    loop.eigensolver = builder.create_eigensolver(loop.hamiltonian)
    if ibzwfs._wfs_u[0].has_eigs:
        ibzwfs.calculate_occs(loop.occ_calc, density.nvalence - density.charge + dft.pot_calc.charge)


def forces_at_density(dft: DFT) -> np.ndarray:
    """GPAW's forces for the density as it is, (natoms, 3), Ha/bohr, the same on all ranks.

    Relied on: ``dft._calculate_forces()`` calculates them anew and leaves them in ``dft.results``.
    """
    dft._calculate_forces()
    forces_av: np.ndarray = dft.results['forces'].copy()
    return forces_av


def forces_of_potential(dft: DFT, potential: Potential) -> np.ndarray:
    """−∂E_pot/∂R at the density as it is: compensation charges and local potentials, (natoms, 3), Ha/bohr.

    This rank's part.

    Relied on: ``pot_calc.force_contributions(Q_aL, density, potential)`` gives five parts, of which the first is that
    of the compensation charges on all atoms and the fourth that of the local potentials by atom.
    """
    with _without_cache(dft):
        Q_aL = dft.density.calculate_compensation_charge_coefficients()
        F_av, _, _, Fvbar_av, _ = dft.pot_calc.force_contributions(Q_aL, dft.density, potential)
        F_av = F_av.copy()
    for a, F_1v in Fvbar_av.items():
        F_av[a] += F_1v[:, 0]
    return F_av


def stress_of_potential(dft: DFT, potential: Potential) -> np.ndarray:
    """GPAW's stress for the density as it is, (3, 3), Ha/bohr³; plane waves only (:func:`has_stress`).

    Relied on: ``pot_calc.stress(ibzwfs, density, potential)``.
    """
    pot_calc: Any = dft.pot_calc
    with _without_cache(dft):
        sigma_vv: np.ndarray = pot_calc.stress(dft.ibzwfs, dft.density, potential)
    return sigma_vv


def has_stress(dft: DFT) -> bool:
    """Does GPAW have a stress in this mode?"""
    return hasattr(dft.pot_calc, 'stress')


def electrostatics_of(potential: Potential, vt_sR: UGArray, dH_asii: AtomArrays) -> Potential:
    """The Hartree part of one potential with the effective part of another.

    Relied on: the arguments of ``Potential`` and the names of its attributes.
    """
    from gpaw.new.potential import Potential

    return Potential(vt_sR, dH_asii, None, potential.vHt_x, potential.e_stress)


@contextmanager
def quick_charge_forces(dft: DFT) -> Iterator[None]:
    """Let plane waves make the forces on compensation charges ĝ of ∇v, once for each potential v.

    −∂/∂R ∫ ĝ(r − R) v(r) dr = −∫ ĝ(r − R) ∇v(r) dr: the integrals of three functions cost what that of one does, as
    they share the expansion of ĝ.  GPAW's derivative takes four times as long (96 atoms, 400 eV).  Potentials must
    stay as they are meanwhile.

    Relied on: ``pot_calc.poisson_solver.ghat_aLh.derivative(vHt_h)``, (natoms, 3, L), is all that is asked of them.
    """
    charges_aLh = getattr(getattr(dft.pot_calc, 'poisson_solver', None), 'ghat_aLh', None)
    if charges_aLh is None:
        yield
        return
    known: list[tuple[Any, AtomArrays]] = []

    def derivative(v_h: Any) -> AtomArrays:
        for other_h, F_avL in known:
            if other_h is v_h:
                return F_avL
        gradient_vh = v_h.desc.empty(3, xp=v_h.xp)
        gradient_vh.data[:] = -1j * v_h.desc.reciprocal_vectors(xp=v_h.xp).T * v_h.data
        known.append((v_h, charges_aLh.integrate(gradient_vh)))
        return known[-1][1]

    charges_aLh.derivative = derivative
    try:
        yield
    finally:
        del charges_aLh.derivative


@contextmanager
def _without_cache(dft: DFT) -> Iterator[None]:
    """Relied on: plane waves keep the transforms of the last density and potential until ``pot_calc._reset()``."""
    reset = getattr(dft.pot_calc, '_reset', lambda: None)
    reset()
    try:
        yield
    finally:
        reset()


def deferred_logger(
    txt: str | Path | IO[str] | None, communicator: MPIComm | None
) -> tuple[Logger, Callable[[], None]]:
    """GPAW's logger, and what lets it open its file: one that is there is not overwritten before.

    Relied on: a logger writes to ``fd``, whatever that is at the moment, and closes it if ``close_fd`` says so.
    """
    from gpaw.mpi import normalize_communicator
    from gpaw.new.logger import Logger

    if not isinstance(txt, str | Path) or txt == '-' or normalize_communicator(communicator).rank > 0:
        return Logger(txt, communicator), lambda: None
    log = Logger(io.StringIO(), communicator)

    def open_file() -> None:
        if isinstance(log.fd, io.StringIO):
            written = log.fd.getvalue()
            log.fd, log.close_fd = Path(txt).open('w', encoding='utf-8'), True  # noqa: SIM115
            log.fd.write(written)

    return log, open_file
