"""How a training begins and where it ends: small trainings, for comparing one version of the program with another.

    python docs/benchmarks/first_steps.py DATASET ... [--steps 150] [--seeds 0 1] [--settings '{"points": 2000}' ...]

trains a small equivariant network (12 channels) on each folder DATASET and prints a row of the table for each seed and
settings: the NMAE of the superposition of atoms, the mean NMAE of the first sixth of the steps, NMAE and ε_D on three
validation snapshots at the end, and the CPU time of a step (median).  The same script works with the versions before.
"""

from __future__ import annotations

import argparse
import csv
import json
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from ase_deepdensity.analysis.compare import nmae
from ase_deepdensity.collocation.superposition import superpose
from ase_deepdensity.dataset import Dataset
from ase_deepdensity.training.config import TrainingConfig
from ase_deepdensity.training.loop import Trainer

Step = Callable[[int], Any]
HYPERS = {'channels': 12, 'message_channels': 6, 'pseudo_channels': 4}


def superposition_error(trainer: Trainer, dataset: Dataset) -> float:
    """NMAE of the superposition of atoms, %, mean over snapshots."""
    errors = []
    for snapshot in dataset:
        atoms, reference = snapshot.atoms, snapshot.density
        start_R = superpose(reference.grid, atoms.positions, atoms.numbers, trainer.tables, np.float64)
        errors.append(nmae(reference.new(nt_sR=start_R[np.newaxis]), reference))
    return float(np.mean(errors))


def timed(step: Step, seconds: list[float]) -> Step:
    """A step that notes the CPU time that it takes."""

    def timed_step(number: int) -> Any:
        start = time.process_time()
        result = step(number)
        seconds.append(time.process_time() - start)
        return result

    return timed_step


def row(folder: str, steps: int, seed: int, settings: str) -> str:
    """One training."""
    usual = {'hypers': HYPERS, 'validation': 3, 'averaging': 0.98, 'validate_every': max(1, steps // 6)}
    config = TrainingConfig(**{**usual, 'steps': steps, 'seed': seed, **json.loads(settings)})
    dataset = Dataset(folder)
    with tempfile.TemporaryDirectory() as out:
        trainer = Trainer(dataset, Path(out) / 'm.safetensors', config, progress=False)
        start = superposition_error(trainer, dataset)
        seconds = list[float]()
        trainer._step = timed(trainer._step, seconds)  # type: ignore[method-assign]
        trainer.run()
        with open(Path(out) / 'm.csv') as file:
            rows = list(csv.DictReader(file))
    first, last = rows[0], rows[-1]
    return (
        f'| {Path(folder).name}, {len(dataset)} snapshots {settings.strip("{}")} | {seed} | {start:.1f} '
        f'| {float(first["nmae_training"]):.3g} | {float(last["nmae_validation"]):.3f} '
        f'| {float(last["matrix_validation"]):.4f} | {1000 * np.median(seconds):.1f} |'
    )


if __name__ == '__main__':
    parser = argparse.ArgumentParser()
    parser.add_argument('folders', nargs='+', metavar='DATASET')
    parser.add_argument('--steps', type=int, default=150)
    parser.add_argument('--seeds', type=int, nargs='+', default=[0, 1])
    parser.add_argument('--settings', nargs='+', metavar='JSON', default=['{}'])
    args = parser.parse_args()
    print(f'| data | seed | superposition, % | steps 1 to {args.steps // 6}, % | NMAE, % | ε_D | ms a step |')
    print('|---' * 7 + '|')
    for folder in args.folders:
        for seed in args.seeds:
            for settings in args.settings:
                print(row(folder, args.steps, seed, settings), flush=True)
