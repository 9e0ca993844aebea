"""One-dimensional chains: learning curves of both networks, and errors against size.

    python docs/benchmarks/chains.py FOLDER [KIND ...] [NETWORK ...]

makes data, models and evaluations in FOLDER with the commands of ``deepdensity``, prints the tables of docs/systems.md
and draws the learning curves.  What is there is not made again.  On one core the references take some 20 minutes, the
models half an hour.
"""

from __future__ import annotations

import sys
from itertools import product
from pathlib import Path

from learning import VALIDATION, draw, nmae, run, trained
from matplotlib.figure import Figure

KINDS = 'insulator', 'metal', 'mixed'
ATOMS = 32
"""Per cell to train on: chains of 16 atoms are not yet what they are in longer ones."""
SNAPSHOTS = 1, 2, 5, 10, 20, 50
TESTS = {32: 6, 64: 4, 128: 2, 256: 2}
"""Atoms per cell: snapshots that nothing is trained on."""
COMMON = {
    'basis_cutoff': 14.0, 'basis_functions': 41, 'lmax': 1, 'stride': 1, 'matrix_weight': 0.0, 'smoothing': 1e-5,
    'validate_every': 250, 'steps': 1000,
}  # fmt: skip
SETTINGS = {
    'equivariant': {
        'learning_rate': 0.005,
        'hypers': {'cutoff': 16.0, 'lmax': 1, 'radial': 12, 'channels': 32, 'message_channels': 16,
                   'pseudo_channels': 1, 'layers': 3, 'bound': 2.0},
    },
    'invariant': {'learning_rate': 0.003, 'hypers': {'cutoff': 20.0, 'lmax': 1, 'axes': 8}},
}  # fmt: skip


def data(folder: Path, kind: str, atoms: int, number: int, seed: int, name: str) -> Path:
    """A folder of snapshots."""
    out = folder / f'{kind}-{name}'
    if len(list(out.glob('*.h5'))) < number:
        options = ['--kind', kind, '--atoms', f'{atoms}', '-n', f'{number}', '--seed', f'{seed}']
        run('sample', 'chain', f'{out}.xyz', *options)
        run('generate', f'{out}.xyz', f'{out}', '--level', 'ks1d')
    return out


def model(folder: Path, kind: str, network: str, number: int) -> Path:
    """A model of so many snapshots."""
    snapshots = data(folder, kind, ATOMS, SNAPSHOTS[-1] + VALIDATION, 1, 'train')
    settings = COMMON | SETTINGS[network] | {'network': network}
    return trained(folder / f'{kind}-{network}-{number}.safetensors', snapshots, number, settings)


def error(folder: Path, path: Path, kind: str, atoms: int) -> float:
    """Mean NMAE, %."""
    return nmae(path, data(folder, kind, atoms, TESTS[atoms], 1000 + atoms, f'test-{atoms}'))


def draw_all(path: Path, curves: dict[tuple[str, str], list[float]], atoms: int) -> None:
    figure = Figure(figsize=(10, 3.2), layout='constrained')
    panels = figure.subplots(1, len(KINDS), sharey=True)
    for axes, kind in zip(panels, KINDS, strict=True):
        draw(axes, SNAPSHOTS, {network: errors for (of, network), errors in curves.items() if of == kind})
        axes.set_title(f'{kind}, {atoms} atoms')
        axes.set_xlabel(f'snapshots of {ATOMS} atoms')
    panels[0].set_ylabel('NMAE, %')
    panels[0].legend()
    figure.savefig(path, dpi=110)


def table(head: str, rows: dict[tuple[str, str], list[float]]) -> str:
    lines = [f'| chain | network | {head} |', '|' + '---|' * (2 + head.count('|') + 1)]
    for (kind, network), errors in rows.items():
        lines.append(f'| {kind} | {network} | ' + ' | '.join(f'{e:.3f}' for e in errors) + ' |')
    return '\n'.join(lines)


if __name__ == '__main__':
    folder, chosen = Path(sys.argv[1]), sys.argv[2:]
    folder.mkdir(exist_ok=True)
    kinds = [kind for kind in KINDS if kind in chosen] or list(KINDS)
    networks = [network for network in SETTINGS if network in chosen] or list(SETTINGS)
    pairs = list(product(kinds, networks))
    curves: dict[tuple[str, str], list[float]] = {pair: [] for pair in pairs}
    for number in reversed(SNAPSHOTS):
        for kind, network in pairs:
            curves[kind, network].insert(0, error(folder, model(folder, kind, network, number), kind, 64))
    sizes = {
        (kind, network): [error(folder, model(folder, kind, network, SNAPSHOTS[-1]), kind, atoms) for atoms in TESTS]
        for kind, network in pairs
    }
    print(table(' | '.join(f'{number} snapshots' for number in SNAPSHOTS), curves))
    print(table(' | '.join(f'{atoms} atoms' for atoms in TESTS), sizes))
    draw_all(folder / 'curves.png', curves, 64)
