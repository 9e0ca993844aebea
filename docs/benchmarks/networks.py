"""Two networks side by side: the same data, the same training time.

    python docs/benchmarks/networks.py FOLDER MINUTES TRAINING TEST NETWORK=SETTINGS.json ...

trains each NETWORK (with settings of its own, as "deepdensity train --config" takes them) for MINUTES on the folder
TRAINING, evaluates on TEST, and prints a row of the table.  A training in FOLDER that was interrupted goes on.
Run it on a quiet machine: time is what is compared.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from ase_deepdensity.cli.main import main
from ase_deepdensity.model import DensityModel


def trained(folder: Path, minutes: float, training: str, network: str, settings: Path) -> Path:
    """The model file of a network."""
    config = folder / f'{network}.json'
    config.write_text(json.dumps(json.loads(settings.read_text()) | {'network': network}))
    path = folder / f'{network}.safetensors'
    arguments = ['train', training, '--out', f'{path}', '--config', f'{config}', '--minutes', f'{minutes}', '--quiet']
    if main(arguments):
        raise SystemExit(f'{network}: the training failed')
    return path


def row(path: Path, test: str, minutes: float) -> str:
    """Errors and time of one model."""
    scores = path.with_suffix('.scores.json')
    if main(['evaluate', f'{path}', test, '--json', f'{scores}']):
        raise SystemExit(f'{path}: the evaluation failed')
    mean, model = json.loads(scores.read_text())['mean'], DensityModel.load(path)
    epsilon = ', '.join(f'{e:.4f}' for symbol, e in mean['epsilon_D'].items() if e is not None and symbol != 'total')
    steps = model.card['training']['steps']
    return (
        f'| {path.stem} | {mean["nmae"]:.3f} | {epsilon} | {mean["seconds"]:.3f} | {minutes:g} min, {steps} steps | '
        f'{model.number_of_parameters()} |'
    )


if __name__ == '__main__':
    folder, minutes, training, test, *settings = sys.argv[1:]
    Path(folder).mkdir(exist_ok=True)
    rows = []
    for network, file in (item.split('=') for item in settings):
        path = trained(Path(folder), float(minutes), training, network, Path(file))
        rows.append(row(path, test, float(minutes)))
    print('| network | NMAE, % | ε_D | seconds per density | training | parameters |\n|---|---|---|---|---|---|')
    print('\n'.join(rows))
