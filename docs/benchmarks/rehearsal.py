"""Predictions of a model as a data set: with them beside new references a training forgets nothing of what it knew.

    python docs/benchmarks/rehearsal.py MODEL GEOMETRIES OUT

The snapshots in the folder OUT have the densities and matrices that MODEL predicts, on the grids of its level, no
forces, and zero for an energy.  They are not references: train on them, together with some, and evaluate on others.
"""

from __future__ import annotations

import sys
from pathlib import Path

from tqdm import tqdm

from ase_deepdensity.dataset.files import write_snapshot
from ase_deepdensity.frames import read_frames
from ase_deepdensity.model import DensityModel
from ase_deepdensity.predict import Predictor
from ase_deepdensity.snapshot import Snapshot


def main(name: str, geometries: str, out: str) -> None:
    predictor, folder = Predictor(DensityModel.load(name)), Path(out)
    folder.mkdir(parents=True, exist_ok=True)
    for number, atoms in enumerate(tqdm(read_frames([Path(geometries)]))):
        density = predictor.predict(atoms)
        snapshot = Snapshot(density, 0.0, None, density.dipole_moment(), 0, float('nan'), {'predicted by': name})
        write_snapshot(folder / f'{number:05}.h5', snapshot)


if __name__ == '__main__':
    main(*sys.argv[1:])
