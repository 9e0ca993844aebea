"""Does ``deepdensity learn`` need fewer snapshots than random choice?  A table and a picture of docs/benchmarks.md.

    python docs/benchmarks/choosing.py pool CASE POOL.xyz
    deepdensity generate POOL.xyz FOLDER --level general-pw400
    python docs/benchmarks/choosing.py learn CASE FIGURES.json [--references FOLDER] [--init MODEL] [--truth MODEL]
    python docs/benchmarks/choosing.py show FIGURES.json [--plot FILE]

A pool for each case, half of it what is common (near to a minimum, or cold), half what is not.  What is learned is
chosen as ``deepdensity learn`` chooses ("chosen"), as ``deepdensity choose`` does (most information: "informing"), and
at random.  The last layer learns it with one strength of the ridge, at every second grid point along each axis.  Each
seed holds another quarter of the pool out, the same for all, and for each there are several random orders.
"""

from __future__ import annotations

import argparse
import json
import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
from ase import Atoms
from ase.build import bulk, fcc111, make_supercell, molecule
from ase.geometry import get_distances
from ase.io import write
from matplotlib.figure import Figure
from matplotlib.ticker import ScalarFormatter

from ase_deepdensity import DensityModel, PAWDensity
from ase_deepdensity.collocation.density import DensityEvaluator
from ase_deepdensity.dataset import Dataset
from ase_deepdensity.predict import Predictor
from ase_deepdensity.sampling.choose import choose, environments
from ase_deepdensity.sampling.distort import overlaps, rattled, strained
from ase_deepdensity.training.active import most_useful
from ase_deepdensity.training.adapt import STRENGTH_OF_ONE, DensityFit, lesson_of

MODEL = 'general-pbe-pw400'
POOL, SEEDS, ORDERS = 60, (0, 1, 2), 2
"""Geometries of a case, seeds, and random orders for each."""
BATCH, SIZES, STRIDE = 2, (0, 2, 4, 8), 2
"""Snapshots chosen at a time, numbers of them at which errors are looked at, and of the grid points that are looked at
every which along each axis."""
DIRECTIONS = 16
"""In the space of changes; ``deepdensity learn`` has 40, which takes more than twice as long."""
TRIES = 2000


def water(rng: np.random.Generator, common: bool) -> Atoms:
    """One or two molecules; else one with a cation and an anion beside it."""
    number = int(rng.integers(1, 3)) if common else 1
    parts = [molecule('H2O') for _ in range(number)]
    if not common:
        parts += [Atoms(rng.choice(['Li', 'Na', 'K'])), Atoms(rng.choice(['F', 'Cl'])) if rng.random() < 0.6 else oh()]
    atoms = cluster([rattled(part, rng, size=0.04) if len(part) > 1 else part for part in parts], rng)
    atoms.center(vacuum=2.0)
    return atoms


def oh() -> Atoms:
    """A hydroxide ion."""
    return Atoms('OH', [[0, 0, 0], [0, 0, 0.97]])


def cluster(parts: list[Atoms], rng: np.random.Generator) -> Atoms:
    """Each part turned at random and put beside one of those before it, as near as bonds between molecules are."""
    atoms = Atoms()
    for part in parts:
        atoms += until_apart(partial(beside, atoms, part, rng), atoms) if len(atoms) else part
    return atoms


def beside(atoms: Atoms, part: Atoms, rng: np.random.Generator) -> Atoms:
    """A part turned at random, its first atom 2.2 to 3.4 Å from one of some atoms."""
    part = part.copy()
    part.rotate(rng.uniform(0, 360), rng.normal(size=3), center=part.positions[0])
    direction_v = rng.normal(size=3)
    away_v = direction_v / np.linalg.norm(direction_v) * rng.uniform(2.2, 3.4)
    part.translate(atoms.positions[rng.integers(len(atoms))] + away_v - part.positions[0])
    return part


def silicon(rng: np.random.Generator, common: bool) -> Atoms:
    """Two or four atoms of the crystal, cold; else hot, or four atoms as in a liquid."""
    primitive = bulk('Si')
    crystal = primitive if rng.random() < 0.5 else make_supercell(primitive, np.diag([1, 1, 2]))
    if common:
        return rattled(strained(crystal, rng, size=0.01), rng, size=0.05)
    if rng.random() < 0.5:
        return until_apart(
            lambda: rattled(strained(crystal, rng, size=0.03), rng, size=rng.uniform(0.1, 0.3)), least=2.0
        )
    larger = make_supercell(primitive, np.diag([1, 1, 2]))
    return until_apart(lambda: rattled(strained(larger, rng, size=0.03), rng, size=rng.uniform(0.5, 1.0)), least=2.0)


def adsorbate(rng: np.random.Generator, common: bool) -> Atoms:
    """CO on two layers of Al(111): upright on top of an atom; else anywhere, at any height, tilted, or upside down."""
    slab = fcc111('Al', (1, 1, 2), a=4.05, periodic=True)
    slab.pbc = (True, True, False)
    slab = rattled(slab, rng, size=0.04)
    top_v = slab.positions[-1]
    site_c = np.zeros(2) if common else rng.random(2)
    height = 1.85 + (rng.normal(scale=0.06) if common else rng.uniform(-0.5, 1.6))
    tilt = rng.normal(scale=5.0) if common else rng.uniform(0, 180)
    carbon_v = top_v + site_c @ slab.cell.array[:2] + [0, 0, height]
    co = Atoms('CO', [[0, 0, 0], [0, 0, 1.15 + rng.normal(scale=0.03)]])
    co.rotate(tilt, (np.cos(angle := rng.uniform(0, 2 * np.pi)), np.sin(angle), 0), center=(0, 0, 0.5))
    co.translate(carbon_v)
    atoms = slab + co
    atoms.center(vacuum=3.0, axis=2)
    return atoms


def until_apart(draw: Callable[[], Atoms], others: Atoms | None = None, least: float = 1.6) -> Atoms:
    """The first of those drawn whose atoms are at least so many Å apart, images too, or from others (default: them)."""
    for _ in range(TRIES):
        atoms = draw()
        if others is not None:
            distance_x = get_distances(others.positions, atoms.positions)[1]
        else:
            distance_x = atoms.get_all_distances(mic=True)[np.triu_indices(len(atoms), 1)]
        if distance_x.min() >= least:
            return atoms
    raise ValueError(f'atoms are nearer than {least} Å in each of {TRIES} tries')


CASES: dict[str, Callable[[np.random.Generator, bool], Atoms]] = {
    'water and ions': water,
    'silicon': silicon,
    'CO on Al(111)': adsorbate,
}


def pool(case: str) -> list[Atoms]:
    """The geometries of a case, common ones and others in turn."""
    rng = np.random.default_rng(0)
    frames = list[Atoms]()
    while len(frames) < POOL:
        atoms = CASES[case](rng, len(frames) % 2 == 0)
        if not overlaps(atoms):
            frames.append(atoms)
    return frames


def references(case: str, folder: Path | None, truth: DensityModel) -> list[PAWDensity]:
    """Densities of the pool: GPAW's, as far as they are in a folder, or what a model says in their place."""
    if folder is not None:
        return [snapshot.density for snapshot in Dataset(folder)]
    predictor = Predictor(truth, extrapolate=True)
    return [predictor.predict(atoms) for atoms in pool(case)]


class Learning:
    """What a model's last layer learns of some densities, with one strength of the ridge, at every second point."""

    def __init__(self, model: DensityModel, densities: list[PAWDensity]):
        self.layer, self.evaluate = model.network.last_layer(), DensityEvaluator(model.architecture.basis)
        self.lessons = [lesson_of(model, density, f'{t}', STRIDE) for t, density in enumerate(densities)]

    def error(self, learned: list[int], held_out: list[int]) -> float:
        """Mean NMAE, %, of those held out."""
        held = [self.lessons[n] for n in held_out]
        if not learned:
            return DensityFit(self.layer, self.evaluate, held).error(held, None)
        lessons = [self.lessons[n] for n in learned]
        fit = DensityFit(self.layer, self.evaluate, lessons)
        krylov = fit.krylov(lessons, DIRECTIONS)
        v_x = krylov.coefficients([STRENGTH_OF_ONE])[0].float() @ krylov.v_ix
        change = {key: part_ico[0] for key, part_ico in fit.weights(v_x[None]).items()}
        return fit.error(held, self.layer.zeros() | change)


def orders(frames: list[Atoms], free: list[int], model: DensityModel, seed: int) -> dict[str, list[int]]:
    """Which are learned, by way: as ``deepdensity learn`` chooses, as ``deepdensity choose`` does, and at random."""
    chosen = list[int]()
    while len(chosen) < max(SIZES):
        left = [n for n in free if n not in chosen]
        chosen += most_useful(frames, left, chosen, BATCH, model)
    informing = choose(environments([frames[n] for n in free], model), [], [1.0] * len(free))
    ways = {'chosen': chosen, 'informing': [free[n] for n in informing]}
    for order in range(ORDERS):
        ways[f'random {order}'] = np.random.default_rng([seed, order]).permutation(free).tolist()
    return ways


def learn(case: str, densities: list[PAWDensity], model: DensityModel) -> dict[str, list[list[float]]]:
    """By way, for each seed the NMAE, %, of those held out after each of :data:`SIZES`; of random orders their mean."""
    learning, frames = Learning(model, densities), [density.atoms for density in densities]
    result: dict[str, list[list[float]]] = {'chosen': [], 'informing': [], 'random': []}
    for seed in SEEDS:
        held_out = np.random.default_rng(seed).permutation(len(frames))[: len(frames) // 4].tolist()
        free = [n for n in range(len(frames)) if n not in held_out]
        errors = {
            way: [learning.error(order[:size], held_out) for size in SIZES]
            for way, order in orders(frames, free, model, seed).items()
        }
        for way in 'chosen', 'informing':
            result[way].append(errors.pop(way))
        result['random'].append(np.mean([*errors.values()], axis=0).tolist())
        print(f'# {case}, seed {seed}: {len(frames)} geometries, {len(held_out)} of them held out', flush=True)
        for way, error_n in result.items():
            print(f'#   {way}: {", ".join(f"{error:.3f}" for error in error_n[-1])}', flush=True)
    return result


def needed(error_n: list[float], target: float) -> float:
    """Snapshots until an error, with straight lines between; infinity: more than there are."""
    for n, error in enumerate(error_n):
        if error <= target:
            if n == 0:
                return 0.0
            before = error_n[n - 1]
            return SIZES[n - 1] + (SIZES[n] - SIZES[n - 1]) * (before - target) / (before - error)
    return float('inf')


def show(figures: dict[str, dict[str, list[list[float]]]], plot: Path | None) -> None:
    """The table; in the picture thin lines are single seeds."""
    figure = Figure(figsize=(4 * len(figures), 3.4), layout='constrained')
    for axes, (case, found) in zip(figure.subplots(1, len(figures), squeeze=False)[0], figures.items(), strict=True):
        mean = {way: np.mean(errors, axis=0).tolist() for way, errors in found.items()}
        for n, size in enumerate(SIZES):
            if size:
                ratio = needed(mean['chosen'], mean['random'][n]) / size
                single = [needed(a, b[n]) / size for a, b in zip(found['chosen'], found['random'], strict=True)]
                errors = ' | '.join(f'{mean[way][n]:.3f}' for way in ('random', 'informing', 'chosen'))
                print(f'| {case} | {size} | {errors} | {ratio:.2f} | {", ".join(f"{one:.2f}" for one in single)} |')
        for way, colour in ('random', '0.5'), ('informing', 'tab:orange'), ('chosen', 'tab:blue'):
            for error_n in found[way]:
                axes.semilogy(SIZES, error_n, color=colour, linewidth=0.7, alpha=0.5)
            axes.semilogy(SIZES, mean[way], 'o-', color=colour, markersize=4, label=way)
        axes.yaxis.set_major_formatter(ScalarFormatter())
        axes.yaxis.set_minor_formatter(ScalarFormatter())
        axes.set(title=case, xlabel='snapshots learned', ylabel='NMAE of those held out, %')
        axes.legend(frameon=False)
    if plot is not None:
        figure.savefig(plot, dpi=130)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest='command', required=True)
    command = commands.add_parser('pool')
    command.add_argument('case', choices=list(CASES))
    command.add_argument('file', type=Path)
    command = commands.add_parser('learn')
    command.add_argument('case', choices=list(CASES))
    command.add_argument('out', type=Path, help='a file of figures (JSON), to which these are added')
    command.add_argument('--init', default=MODEL, help='the model that learns (%(default)s)')
    command.add_argument('--references', type=Path, help='a data set of the pool')
    command.add_argument('--truth', default=MODEL, help='without references the model in their place (%(default)s)')
    command = commands.add_parser('show')
    command.add_argument('out', type=Path)
    command.add_argument('--plot', type=Path, help='a file for the picture')
    args = parser.parse_args()
    warnings.simplefilter('ignore')
    if args.command == 'pool':
        write(args.file, pool(args.case))
        return
    figures = json.loads(args.out.read_text()) if args.out.exists() else {}
    if args.command == 'show':
        show(figures, args.plot)
        return
    densities = references(args.case, args.references, DensityModel.load(args.truth))
    figures[args.case] = learn(args.case, densities, DensityModel.load(args.init))
    args.out.write_text(json.dumps(figures))


if __name__ == '__main__':
    main()
