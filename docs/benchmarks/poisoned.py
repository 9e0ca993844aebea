"""Bad seeds: does GPAW still find its own energy, and at what cost?  The table of docs/benchmarks.md.

    OMP_NUM_THREADS=1 python docs/benchmarks/poisoned.py [--only WORD ...] [--every N] [--out poisoned.jsonl]

Each system is converged from GPAW's own start; its state, or a shipped model, is spoiled in many ways and given to
SeededGPAW.  A run is *slow* above two iterations more than from GPAW's own start, at *another energy* beyond 1 meV.
Results go to a file of JSON lines, one a run; those that are there already are not run again.
"""

from __future__ import annotations

import argparse
import json
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms
from ase.build import bulk, molecule
from gpaw.new.ase_interface import GPAW

from ase_deepdensity import DensityModel, PAWDensity, SeededGPAW
from ase_deepdensity.model import model_path
from ase_deepdensity.scf.seed import ModelSeed, Seed, StateSeed

SAME_ENERGY, MORE_ITERATIONS = 1e-3, 2
"""eV; beyond these a run is at another energy, or slow."""


def boxed(name: str, side: float, pbc: bool) -> Atoms:
    atoms = molecule(name, cell=[side] * 3, pbc=pbc)
    atoms.rotate(20, 'x')
    atoms.center()
    return atoms


@dataclass(frozen=True)
class System:
    name: str
    atoms: Atoms
    parameters: dict[str, Any]
    model: str | None
    """That predicts it at this level of theory."""
    cases: int
    """Of each kind."""


PW400 = {'mode': {'name': 'pw', 'ecut': 400}, 'xc': 'PBE'}
DZP = {'mode': 'lcao', 'basis': 'dzp', 'h': 0.2, 'xc': 'PBE'}
SMEARED = {'kpts': (4, 4, 4), 'occupations': {'name': 'fermi-dirac', 'width': 0.1}}
SYSTEMS = [
    System('water, LCAO', boxed('H2O', 5, pbc=True), DZP, 'water-pbe-dzp', 3),
    System('water, plane waves', boxed('H2O', 5, pbc=True), PW400, 'water-pbe-pw400', 3),
    System('aluminium, plane waves', bulk('Al'), PW400 | SMEARED, 'aluminium-pbe-pw400', 3),
    System('CO in vacuum, plane waves', boxed('CO', 5, pbc=False), PW400, 'organics-pbe-pw400', 3),
    System('ethane in vacuum, LCAO', boxed('C2H6', 7, pbc=False), DZP, None, 1),
    System('water, finite differences', boxed('H2O', 5, pbc=True), {'mode': 'fd', 'h': 0.2, 'xc': 'PBE'}, None, 1),
]


class Spoiled(StateSeed):
    """A state of which a value object could not be made, for example with values that are not finite."""

    def __init__(self, state: PAWDensity, nt_sR: np.ndarray, D_asii: list[np.ndarray]):
        super().__init__(state)
        self.nt_sR, self.spoiled_asii = nt_sR, D_asii

    def evaluate(self, atoms: Atoms, grid: Any) -> tuple[np.ndarray, list[np.ndarray]]:
        blocks = tuple(
            slice(start - zero, stop - zero)
            for start, stop, zero in zip(grid.start_c, grid.stop_c, grid.zerobc_c, strict=True)
        )
        return self.nt_sR[:, *blocks], self.spoiled_asii


Poison = Callable[[np.ndarray, list[np.ndarray], np.random.Generator, int], tuple[np.ndarray, list[np.ndarray]]]
"""ñ, D, random numbers, number of the case → other ñ and D."""


def noise(nt, D, rng, case):  # type: ignore[no-untyped-def]
    return nt * (1 + rng.uniform(-1, 1, nt.shape) * (1.0, 0.3, 0.1)[case]), D


def noise_of_D(nt, D, rng, case):  # type: ignore[no-untyped-def]
    width = (10.0, 1.0, 0.1)[case]
    return nt, [M + width * rng.normal(size=M.shape) for M in D]


def shift(nt, D, rng, case):  # type: ignore[no-untyped-def]
    return np.roll(nt, (5, 2, 1)[case], axis=1 + case), D


def turned(nt, D, rng, case):  # type: ignore[no-untyped-def]
    """The density of a molecule in another orientation, or inside out."""
    return (np.flip(nt, 1), nt.transpose(0, 2, 3, 1), nt.max() - nt)[case], D


def permuted(nt, D, rng, case):  # type: ignore[no-untyped-def]
    if case == 0:  # among atoms
        return nt, [next((M for M in reversed(D) if M.shape == own.shape), own) for own in D]
    order = [rng.permutation(M.shape[1]) for M in D]
    return nt, [M[:, i][:, :, i] if case == 1 else M[:, i] for M, i in zip(D, order, strict=True)]


def scaled(nt, D, rng, case):  # type: ignore[no-untyped-def]
    return nt, [(1e3, 1e12, 1e20)[case] * M for M in D]


def scaled_a_little(nt, D, rng, case):  # type: ignore[no-untyped-def]
    return nt, [(1.5, 0.5, 1.1)[case] * M for M in D]


def one_atom(nt, D, rng, case):  # type: ignore[no-untyped-def]
    return nt, [(1e4, -1.0, 3.0)[case] * D[0], *D[1:]]


def one_element(nt, D, rng, case):  # type: ignore[no-untyped-def]
    D = [M.copy() for M in D]
    i, j = rng.integers(D[0].shape[1], size=2)
    D[0][0, i, j] += (100.0, 5.0, 1.0)[case]
    return nt, D


def antisymmetric(nt, D, rng, case):  # type: ignore[no-untyped-def]
    upper = [(0.1, 10.0, 1e6)[case] * np.triu(rng.normal(size=M.shape), 1) for M in D]
    return nt, [M + U - U.swapaxes(1, 2) for M, U in zip(D, upper, strict=True)]


def negative_patch(nt, D, rng, case):  # type: ignore[no-untyped-def]
    nt = nt.copy()
    side = max(2, nt.shape[1] // (2, 4, 6)[case])
    nt[:, :side, :side, :side] -= (10.0, 1.0, 0.3)[case] * nt.max()
    return nt, D


def spike(nt, D, rng, case):  # type: ignore[no-untyped-def]
    nt = nt.copy()
    nt[(0, *(rng.integers(n) for n in nt.shape[1:]))] += (1e6, 100.0, 10.0)[case] * nt.max()
    return nt, D


def zero(nt, D, rng, case):  # type: ignore[no-untyped-def]
    return (0 * nt if case != 1 else nt), ([0 * M for M in D] if case != 0 else D)


def flat(nt, D, rng, case):  # type: ignore[no-untyped-def]
    return (np.full_like(nt, nt.mean()), -nt, nt**2)[case], D


def not_finite(nt, D, rng, case):  # type: ignore[no-untyped-def]
    nt, D = nt.copy(), [M.copy() for M in D]
    (nt if case < 2 else D[-1]).flat[rng.integers(nt.size if case < 2 else D[-1].size)] = (np.nan, np.inf, np.nan)[case]
    return nt, D


def bit_of_state(nt, D, rng, case):  # type: ignore[no-untyped-def]
    """One of the upper bits, sign and exponent more often than not."""
    nt, D = np.ascontiguousarray(nt).copy(), [np.ascontiguousarray(M).copy() for M in D]
    x = nt if case == 0 else D[rng.integers(len(D))]
    index = rng.integers(x.size)
    if case:  # of an element that is not zero by symmetry
        index = int(abs(x).argmax())
    x.reshape(-1).view(np.uint64)[index] ^= np.uint64(1) << np.uint64(63 - rng.integers(16))
    return nt, D


POISONS: dict[str, Poison] = {
    'ñ: noise': noise,
    'D: noise': noise_of_D,
    'ñ: shifted': shift,
    'ñ: of a turned molecule': turned,
    'D: permuted': permuted,
    'D: times 10³ to 10²⁰': scaled,
    'D: times 0.5 to 1.5': scaled_a_little,
    'D: of one atom scaled': one_atom,
    'D: one element': one_element,
    'D: antisymmetric part': antisymmetric,
    'ñ: negative patch': negative_patch,
    'ñ: spike': spike,
    'zero': zero,
    'ñ: flat, negated, squared': flat,
    'NaN, infinite': not_finite,
    'one bit of a state': bit_of_state,
}
BIT_OF_MODEL = 'one bit of a model'
FIRST_BIT = {'water-pbe-pw400': (1785351, 64)}
"""Byte of the file and mask: once converged to an energy 102 eV off."""


def spoiled_model(name: str, case: int, rng: np.random.Generator) -> DensityModel:
    """A shipped model with one bit of its tensors flipped, the sign or the exponent of a number more often than not."""
    model = DensityModel.load(name)
    content = model_path(name).read_bytes()
    start = 8 + int.from_bytes(content[:8], 'little')
    entries = {
        key: entry['data_offsets']
        for key, entry in json.loads(content[8:start]).items()
        if key.startswith(('network.', 'superposition.'))
    }
    if case == 0 and name in FIRST_BIT:
        byte, mask = FIRST_BIT[name]
    else:
        low, high = entries[list(entries)[rng.integers(len(entries))]]
        byte, mask = start + low + 4 * rng.integers((high - low) // 4) + 3, 1 << int(rng.integers(8))
    for key, (low, high) in entries.items():
        if low <= byte - start < high:
            flip(model, key, int(byte - start - low), mask)
    return model


def flip(model: DensityModel, key: str, byte: int, mask: int) -> None:
    part, _, name = key.partition('.')
    if part == 'superposition':
        array = model.superposition[int(name)].table_xp
    else:
        array = model.network.state_dict()[name].numpy()
    array.reshape(-1).view(np.uint8)[byte] ^= np.uint8(mask)


@cache
def default(index: int) -> tuple[float, int, PAWDensity]:
    """Energy, iterations and state from GPAW's own start."""
    system = SYSTEMS[index]
    atoms = system.atoms.copy()
    atoms.calc = GPAW(txt=None, **system.parameters)
    return atoms.get_potential_energy(), atoms.calc.get_number_of_iterations(), PAWDensity.from_gpaw(atoms.calc)


def seed(index: int, kind: str, case: int) -> Seed:
    system, rng = SYSTEMS[index], np.random.default_rng([index, sum(kind.encode()), case])
    if kind == BIT_OF_MODEL:
        return ModelSeed(spoiled_model(str(system.model), case, rng))
    state = default(index)[2]
    return Spoiled(state, *POISONS[kind](state.nt_sR, list(state.D_asii), rng, case))


def cases() -> list[tuple[int, str, int]]:
    """Index of a system, kind of poison, number."""
    return [
        (index, kind, case)
        for index, system in enumerate(SYSTEMS)
        for kind in [*POISONS, *([BIT_OF_MODEL] if system.model else [])]
        for case in range(system.cases)
    ]


def measure(index: int, kind: str, case: int) -> dict[str, Any]:
    """One run, compared with GPAW's own start."""
    system = SYSTEMS[index]
    record: dict[str, Any] = {'system': system.name, 'kind': kind, 'case': case}
    energy, iterations, _ = default(index)
    start = time.perf_counter()
    try:
        atoms = system.atoms.copy()
        atoms.calc = calc = SeededGPAW(seed(index, kind, case), txt=None, **system.parameters)
        record['dE'] = atoms.get_potential_energy() - energy
        record['more'] = calc.get_number_of_iterations() - iterations
        report = calc.seed_report
        record |= {'accepted': report.accepted, 'held': report.held, 'reason': report.reason}
        record |= {'residual': float(report.residual), 'atomic': float(report.atomic_residual)}
    except Exception as error:
        record['error'] = repr(error)
    return record | {'iterations': iterations, 'seconds': time.perf_counter() - start, 'verdict': verdict(record)}


def verdict(record: dict[str, Any]) -> str:
    if 'error' in record:
        return 'error'
    if not abs(record['dE']) < SAME_ENERGY:
        return 'other energy'
    return 'slow' if record['more'] > MORE_ITERATIONS else 'ok'


def table(records: list[dict[str, Any]], column: str) -> str:
    lines = [
        f'| {column} | seeds | ok | slow | other energy | error | refused | worst ΔE, meV | most iterations more |'
    ]
    lines.append('|---|' + 8 * '--:|')
    names = list(dict.fromkeys(record[column] for record in records))
    for name in [*names, 'all']:
        rows = [record for record in records if name in ('all', record[column])]
        ran = [record for record in rows if 'error' not in record]
        counts = [sum(row['verdict'] == v for row in rows) for v in ('ok', 'slow', 'other energy', 'error')]
        refused = sum(not row['accepted'] for row in ran)
        worst = max((abs(row['dE']) * 1000 for row in ran), default=0.0)
        more = max((row['more'] for row in ran), default=0)
        lines.append(f'| {name} | {len(rows)} | {" | ".join(map(str, counts))} | {refused} | {worst:.3f} | {more} |')
    return '\n'.join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--only', nargs='*', default=[''], help='systems or kinds whose names hold one of these words')
    parser.add_argument('--every', type=int, default=1, metavar='N', help='only each Nth run')
    parser.add_argument('--out', type=Path, default=Path(__file__).with_name('poisoned.jsonl'))
    args = parser.parse_args()
    warnings.simplefilter('ignore')
    known = [json.loads(line) for line in args.out.read_text().splitlines()] if args.out.is_file() else []
    done = {(record['system'], record['kind'], record['case']) for record in known}
    for index, kind, case in cases()[:: args.every]:
        name = SYSTEMS[index].name
        if (name, kind, case) in done or not any(word in name or word in kind for word in args.only):
            continue
        known.append(measure(index, kind, case))
        with args.out.open('a') as file:
            file.write(json.dumps(known[-1]) + '\n')
        print(known[-1], flush=True)
    print(table(known, 'kind'), table(known, 'system'), sep='\n\n')


if __name__ == '__main__':
    main()
