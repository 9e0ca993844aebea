"""Geometries to make reference densities for: liquid water, clusters cut from it, hot metals, molecules, chains.

Every sampler is a generator of ``Atoms`` and is repeatable from its seed.  OpenMM and tblite (the ``sampling`` extra)
are imported where they are used: they make data, a model is used without them.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product
from math import prod

import numpy as np
from ase import Atoms, units
from ase.build import bulk, make_supercell, molecule
from ase.calculators.calculator import BaseCalculator
from ase.calculators.emt import EMT
from ase.calculators.emt import parameters as emt_parameters
from ase.collections import g2
from ase.constraints import FixCom
from ase.data import atomic_numbers, reference_states
from ase.geometry import minkowski_reduce
from ase.md.langevin import Langevin
from ase.md.velocitydistribution import thermalize_momenta

from ase_deepdensity.arguments import did_you_mean, one_of, real, three_whole, whole
from ase_deepdensity.codes.ks1d.parameters import TUBE

WATER_DENSITY = 0.997  # g/cm³ at 298 K
OH_LENGTH, HOH_ANGLE = 1.0118, 108.15  # TIP3P-FB, doi:10.1021/jz500737m
CLUSTER_VACUUM = 3.0  # Å
WATER_TIMESTEP, METAL_TIMESTEP, ORGANIC_TIMESTEP = 0.5, 2.0, 0.5  # fs
CHAIN_SPACING = 10 * units.Bohr
EMT_METALS = [s for s in emt_parameters if (reference_states[atomic_numbers[s]] or {}).get('symmetry') == 'fcc']
"""The fcc metals that ASE's EMT potential has been fitted to."""

MAX_ATOMS, MAX_SITES = 10**6, 1000
"""Larger cells, and more sites to find all compact cells of, would take memory and time without end."""
MAX_TEMPERATURE = 1e5
"""K, 8.6 eV: above, no bond is left."""
WATER_DENSITIES = 1e-3, 2.0
"""g/cm³: from steam to ice under the highest pressures."""


def water(
    nmolecules: int,
    *,
    seed: int = 0,
    temperature: float = 300.0,
    density: float = WATER_DENSITY,
    equilibration: float = 10.0,
    interval: float = 1.0,
) -> Iterator[Atoms]:
    """Snapshots of flexible TIP3P-FB water in a periodic cube, without end.

    Langevin dynamics with OpenMM, 0.5 fs a step, friction 1/ps.

    Parameters
    ----------
    temperature
        Kelvin.
    density
        g/cm³.
    equilibration, interval
        Time before the first snapshot and between snapshots, ps.

    Raises
    ------
    ValueError
        No molecules, or values that are not finite or out of bounds.
    """
    whole('molecules', nmolecules, least=1, most=MAX_ATOMS // 3)
    check_dynamics(seed, temperature, equilibration, interval, WATER_TIMESTEP)
    real('density', density, least=WATER_DENSITIES[0], most=WATER_DENSITIES[1], unit='g/cm³')
    return _water_dynamics(nmolecules, seed, temperature, density, equilibration, interval)


def check_dynamics(seed: int, temperature: float, equilibration: float, interval: float, timestep: float) -> None:
    """Bounds of what all molecular dynamics share; timestep in fs, times in ps."""
    whole('seed', seed, least=0)
    real('temperature', temperature, least=0, most=MAX_TEMPERATURE, unit='K')
    real('equilibration', equilibration, least=0, unit='ps')
    real('interval', interval, least=timestep / 1000, unit='ps')


def _water_dynamics(
    nmolecules: int, seed: int, temperature: float, density: float, equilibration: float, interval: float
) -> Iterator[Atoms]:
    import openmm
    from openmm import app, unit

    timestep = WATER_TIMESTEP / 1000
    rng = np.random.default_rng(seed)
    atoms = _water_lattice(nmolecules, density, rng)
    length = atoms.cell[0, 0]

    topology = app.Topology()
    topology.setPeriodicBoxVectors(atoms.cell.array / 10 * unit.nanometer)
    chain = topology.addChain()
    for _ in range(nmolecules):
        residue = topology.addResidue('HOH', chain)
        oxygen, *hydrogens = (
            topology.addAtom(name, app.Element.getBySymbol(name[0]), residue) for name in ('O', 'H1', 'H2')
        )
        for hydrogen in hydrogens:
            topology.addBond(oxygen, hydrogen)
    system = app.ForceField('tip3pfb.xml').createSystem(
        topology,
        nonbondedMethod=app.PME,
        nonbondedCutoff=min(0.9, 0.049 * length) * unit.nanometer,
        rigidWater=False,
    )
    integrator = openmm.LangevinMiddleIntegrator(temperature, 1.0, timestep)
    integrator.setRandomNumberSeed(int(rng.integers(1, 2**31)))
    context = openmm.Context(system, integrator, openmm.Platform.getPlatformByName('Reference'))
    context.setPositions(atoms.positions / 10)
    openmm.LocalEnergyMinimizer.minimize(context, maxIterations=200)
    context.setVelocitiesToTemperature(temperature, int(rng.integers(1, 2**31)))
    integrator.step(round(equilibration / timestep))
    while True:
        state = context.getState(positions=True)
        atoms.positions = state.getPositions(asNumpy=True).value_in_unit(unit.angstrom)
        yield atoms.copy()
        integrator.step(round(interval / timestep))


def _water_lattice(nmolecules: int, density: float, rng: np.random.Generator) -> Atoms:
    """Randomly turned molecules on a simple cubic lattice, ordered O, H, H, ... (g/cm³)."""
    from scipy.spatial.transform import Rotation

    half = np.radians(HOH_ANGLE / 2)
    water_av = OH_LENGTH * np.array([[0, 0, 0], [np.sin(half), 0, np.cos(half)], [-np.sin(half), 0, np.cos(half)]])
    volume = nmolecules * (15.999 + 2 * 1.008) * units._amu * 1e3 / density * 1e24
    length = volume ** (1 / 3)
    nsites = int(np.ceil(nmolecules ** (1 / 3)))
    sites_mc = rng.permutation(np.array(list(np.ndindex(nsites, nsites, nsites))))[:nmolecules]
    turns = Rotation.random(nmolecules, rng=rng)
    positions = [site_c * length / nsites + turn.apply(water_av) for site_c, turn in zip(sites_mc, turns, strict=True)]
    return Atoms('OHH' * nmolecules, positions=np.concatenate(positions), cell=[length] * 3, pbc=True)


def cluster(atoms: Atoms, nmolecules: int, *, seed: int = 0, vacuum: float = CLUSTER_VACUUM, pbc: bool = True) -> Atoms:
    """A random molecule of a liquid with its nearest neighbours, cut out into vacuum.

    ``atoms`` holds whole molecules of three atoms each, O first, as :func:`water` makes them; ``vacuum`` (Å) is the
    distance from the cluster to each face of its cell.

    Raises
    ------
    ValueError
        More molecules than there are, or none; a vacuum that is not positive.
    """
    whole('molecules of a cluster', nmolecules, least=1, most=len(atoms) // 3)
    real('vacuum', vacuum, above=0, unit='Å')
    rng = np.random.default_rng(seed)
    oxygen_m = np.arange(0, len(atoms), 3)
    centre = rng.choice(oxygen_m)
    distance_m = atoms.get_distances(centre, oxygen_m, mic=True)
    chosen_m = oxygen_m[np.argsort(distance_m)[:nmolecules]]
    positions = []
    for o in chosen_m:
        shift_v = atoms.get_distance(centre, o, mic=True, vector=True) if o != centre else np.zeros(3)
        positions.append(shift_v + atoms.get_distances(o, [o, o + 1, o + 2], mic=True, vector=True))
    result = Atoms('OHH' * nmolecules, positions=np.concatenate(positions))
    result.center(vacuum=vacuum)
    result.pbc = pbc
    return result


def metal(
    symbol: str = 'Al',
    *,
    repeat: tuple[int, int, int] = (2, 2, 2),
    sites: int | None = None,
    vacancies: int = 0,
    seed: int = 0,
    temperature: float = 600.0,
    equilibration: float = 2.0,
    interval: float = 1.0,
) -> Iterator[Atoms]:
    """Snapshots of an fcc metal in ASE's EMT potential, Langevin dynamics, 2 fs a step (times in ps).

    Parameters
    ----------
    repeat
        Cubic cells of four sites.
    sites
        Instead of ``repeat``: every snapshot is of a run of its own, ``equilibration`` long, in a cell of this many
        sites whose shape is drawn from all compact ones (see :func:`compact_supercells`).
    vacancies
        Atoms taken out of a cell.

    Raises
    ------
    ValueError
        An element that is not one of :data:`EMT_METALS`, a number of sites of which there is no compact cell (0, 3), as
        many vacancies as atoms, or values that are not finite or out of bounds.
    """
    one_of('symbol', symbol, EMT_METALS, " (fcc metals in ASE's EMT potential)")
    check_dynamics(seed, temperature, equilibration, interval, METAL_TIMESTEP)
    whole('vacancies', vacancies, least=0)
    times = temperature, equilibration, interval
    if sites is not None:
        whole('sites', sites, least=1, most=MAX_SITES)
        supercells_scc = compact_supercells(bulk(symbol).cell.array, sites)
        if not len(supercells_scc):
            raise ValueError(f'there is no compact cell of {sites} sites')
        _check_vacancies(vacancies, sites)
        return _metal_cells(symbol, supercells_scc, vacancies, seed, times)
    repeat = three_whole('repeat', repeat, least=1, most=MAX_ATOMS // 4)
    nsites = whole('the number of atoms', 4 * prod(repeat), most=MAX_ATOMS)
    _check_vacancies(vacancies, nsites)
    rng = np.random.default_rng(seed)
    atoms = _without(bulk(symbol, cubic=True).repeat(repeat), vacancies, rng)
    return langevin(atoms, EMT(), METAL_TIMESTEP, rng, *times)


def _metal_cells(
    symbol: str, supercells_scc: np.ndarray, vacancies: int, seed: int, times: tuple[float, float, float]
) -> Iterator[Atoms]:
    """One snapshot in each cell; ``times``: temperature, equilibration and interval."""
    rng = np.random.default_rng(seed)
    primitive = bulk(symbol)
    while True:
        supercell_cc = supercells_scc[rng.integers(len(supercells_scc))]
        atoms = _without(make_supercell(primitive, supercell_cc), vacancies, rng)
        yield next(langevin(atoms, EMT(), METAL_TIMESTEP, rng, *times))


def _check_vacancies(vacancies: int, nsites: int) -> None:
    if vacancies >= nsites:
        raise ValueError(f'{vacancies} vacancies in a cell of {nsites} atoms: at most {nsites - 1} are possible')


def _without(atoms: Atoms, vacancies: int, rng: np.random.Generator) -> Atoms:
    """Take some atoms out, drawn at random."""
    del atoms[rng.choice(len(atoms), vacancies, replace=False)]
    return atoms


def compact_supercells(cell_cv: np.ndarray, size: int, *, compactness: float = 0.85) -> np.ndarray:
    """All supercells of ``size`` cells that are compact, as integer matrices (S, 3, 3) for ``make_supercell``.

    Compact: no lattice vector is shorter than ``compactness`` times the side of a cube of the same volume.  A
    lattice is counted once, by its Hermite normal form (G. L. W. Hart, R. W. Forcade, Phys. Rev. B 77, 224115 (2008)).
    """
    shortest = compactness * (size * abs(np.linalg.det(cell_cv))) ** (1 / 3)
    supercells = []
    for a, b in product(range(1, size + 1), repeat=2):
        if size % (a * b):
            continue
        for p, q, r in product(range(a), range(a), range(b)):
            hermite_cc = np.array([[a, 0, 0], [p, b, 0], [q, r, size // (a * b)]])
            reduced_cv, operation_cc = minkowski_reduce(hermite_cc @ cell_cv)
            if np.linalg.norm(reduced_cv, axis=1).min() > shortest:
                supercells.append(operation_cc @ hermite_cc)
    return np.array(supercells)


def organic(
    name: str,
    *,
    seed: int = 0,
    temperature: float = 300.0,
    vacuum: float = 4.0,
    equilibration: float = 0.5,
    interval: float = 0.2,
) -> Iterator[Atoms]:
    """Snapshots of a molecule of ``ase.build.molecule`` in vacuum, GFN2-xTB dynamics, 0.5 fs a step (times in ps).

    Raises
    ------
    ValueError
        A molecule that ASE does not know, or values that are not finite or out of bounds.
    """
    if name not in g2.names:
        raise ValueError(
            f'no molecule {name!r}: the {len(g2.names)} names of ase.collections.g2 are allowed, such as H2O, CH4 or '
            f'CH3CH2OH{did_you_mean(name, g2.names)}'
        )
    check_dynamics(seed, temperature, equilibration, interval, ORGANIC_TIMESTEP)
    real('vacuum', vacuum, above=0, unit='Å')
    return _organic_dynamics(name, seed, vacuum, temperature, equilibration, interval)


def _organic_dynamics(
    name: str, seed: int, vacuum: float, temperature: float, equilibration: float, interval: float
) -> Iterator[Atoms]:
    from tblite.ase import TBLite

    calc = TBLite(method='GFN2-xTB', verbosity=0)
    rng = np.random.default_rng(seed)
    for atoms in langevin(molecule(name), calc, ORGANIC_TIMESTEP, rng, temperature, equilibration, interval):
        atoms.center(vacuum=vacuum)
        atoms.pbc = True
        yield atoms


def chain(
    kind: str, natoms: int, *, seed: int = 0, spacing: float = CHAIN_SPACING, jitter: float = 0.5
) -> Iterator[Atoms]:
    """Periodic chains along z for the level ks1d, without end: atoms on evenly spaced sites, displaced at random.

    Parameters
    ----------
    kind
        'insulator': He, whose ions are narrow; 'metal': Be, whose are wide; 'mixed': half of each in random order.
    spacing
        Of the sites, Å.
    jitter
        Standard deviation of the displacements, Å.

    Raises
    ------
    ValueError
        Another kind, a mixed chain of an odd number of atoms, or values that are not finite or out of bounds.
    """
    elements = {'insulator': ('He',), 'metal': ('Be',), 'mixed': ('He', 'Be')}
    symbols = elements[one_of('the kind of a chain', kind, elements)]
    whole('atoms', natoms, least=1, most=MAX_ATOMS)
    if natoms % len(symbols):
        raise ValueError(f'a chain of {" and ".join(symbols)} in equal parts cannot have {natoms} atoms')
    whole('seed', seed, least=0)
    real('spacing', spacing, above=0, unit='Å')
    real('jitter', jitter, least=0, unit='Å')
    return _random_chains(symbols, natoms, seed, spacing, jitter)


def _random_chains(symbols: tuple[str, ...], natoms: int, seed: int, spacing: float, jitter: float) -> Iterator[Atoms]:
    rng = np.random.default_rng(seed)
    while True:
        positions_av = np.full((natoms, 3), TUBE / 2)
        positions_av[:, 2] = (spacing * (np.arange(natoms) + 0.5) + rng.normal(scale=jitter, size=natoms)) % (
            spacing * natoms
        )
        elements = rng.permutation(np.repeat(symbols, natoms // len(symbols)))
        yield Atoms(elements, positions_av, cell=[TUBE, TUBE, spacing * natoms], pbc=(False, False, True))


def langevin(
    atoms: Atoms,
    calc: BaseCalculator,
    timestep: float,
    rng: np.random.Generator,
    temperature: float,
    equilibration: float,
    interval: float,
) -> Iterator[Atoms]:
    """Langevin dynamics of ``atoms``: timestep in fs, temperature in K, times in ps, friction 0.01/fs."""
    atoms.calc = calc
    atoms.set_constraint(FixCom())
    thermalize_momenta(atoms, temperature, rng=rng)
    dynamics = Langevin(
        atoms, timestep * units.fs, temperature_K=temperature, friction=0.01 / units.fs, rng=rng, fixcm=False
    )
    dynamics.run(round(equilibration * 1000 / timestep))
    while True:
        yield Atoms(atoms.symbols, atoms.positions, cell=atoms.cell, pbc=atoms.pbc)
        dynamics.run(round(interval * 1000 / timestep))
