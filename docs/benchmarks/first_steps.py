"""How a training begins and where it ends: small trainings, for comparing one version of the program with another.

    python docs/benchmarks/first_steps.py DATASET ... [--steps 150] [--seeds 0 1]

trains a small equivariant network (12 channels) on each folder DATASET and prints a row of the table: the NMAE of the
superposition of atoms, the mean NMAE of the first sixth of the steps, and NMAE and ε_D on three validation snapshots at
the end.  The same command works with the versions before.
"""

from __future__ import annotations

import argparse
import csv
import tempfile
from pathlib import Path

import numpy as np

from ase_deepdensity.analysis.compare import nmae
from ase_deepdensity.dataset import Dataset
from ase_deepdensity.evaluate.superposition import superpose
from ase_deepdensity.training.config import TrainingConfig
from ase_deepdensity.training.loop import Trainer

HYPERS = {'channels': 12, 'message_channels': 6, 'pseudo_channels': 4}


def superposition_error(trainer: Trainer, dataset: Dataset) -> float:
    """NMAE of the superposition of atoms, %, mean over snapshots."""
    errors = []
    for snapshot in dataset:
        atoms, reference = snapshot.atoms, snapshot.density
        start_R = superpose(reference.grid, atoms.positions, atoms.numbers, trainer.tables, np.float64)
        errors.append(nmae(reference.new(nt_sR=start_R[np.newaxis]), reference))
    return float(np.mean(errors))


def row(folder: str, steps: int, seed: int) -> str:
    """One training."""
    config = TrainingConfig(
        hypers=HYPERS, steps=steps, seed=seed, validation=3, averaging=0.98, validate_every=max(1, steps // 6)
    )
    dataset = Dataset(folder)
    with tempfile.TemporaryDirectory() as out:
        trainer = Trainer(dataset, Path(out) / 'm.safetensors', config, progress=False)
        start = superposition_error(trainer, dataset)
        trainer.run()
        with open(Path(out) / 'm.csv') as file:
            rows = list(csv.DictReader(file))
    first, last = rows[0], rows[-1]
    return (
        f'| {Path(folder).name}, {len(dataset)} snapshots | {seed} | {start:.1f} | {float(first["nmae_training"]):.3g} '
        f'| {float(last["nmae_validation"]):.3f} | {float(last["matrix_validation"]):.4f} |'
    )


if __name__ == '__main__':
    parser = argparse.ArgumentParser()
    parser.add_argument('folders', nargs='+', metavar='DATASET')
    parser.add_argument('--steps', type=int, default=150)
    parser.add_argument('--seeds', type=int, nargs='+', default=[0, 1])
    args = parser.parse_args()
    print(f'| data | seed | superposition, % | steps 1 to {args.steps // 6}, % | NMAE, % | ε_D |')
    print('|---' * 6 + '|')
    for folder in args.folders:
        for seed in args.seeds:
            print(row(folder, args.steps, seed), flush=True)
