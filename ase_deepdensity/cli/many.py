"""Densities of many frames by the workers of a cluster."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from ase_deepdensity.cli.outputs import file_kind, numbered

if TYPE_CHECKING:
    from ase import Atoms

    from ase_deepdensity.dataset.folder import Failure
    from ase_deepdensity.predict import Predictor


def check_cluster(args: argparse.Namespace, ranks: int) -> None:
    """Refuse what a cluster does not do, before any work."""
    if [file_kind(name) for name in args.out] != ['h5'] or args.plot or args.view or args.stream:
        raise ValueError('--scheduler goes with one --out FILE.h5, which holds all of the state, and with no picture')
    if ranks > 1:
        raise ValueError(f'a scheduler and MPI do not go together ({ranks} ranks): start the program without mpiexec')


def predict_on_cluster(predictor: Predictor, frames: list[Atoms], which: list[int], args: argparse.Namespace) -> int:
    """Some frames by one model; files that are there already are left alone.  The exit code: 1 if some failed."""
    from tqdm import tqdm

    from ase_deepdensity.dataset.folder import Failure
    from ase_deepdensity.generate.cluster import run_on_cluster
    from ase_deepdensity.generate.predictions import Predictions
    from ase_deepdensity.model_files import model_path

    several = len(frames) > 1
    work = Predictions(
        [frames[i] for i in which],
        [numbered(Path(args.out[0]), i if several else None) for i in which],
        model_path(args.model or predictor.model.name).read_bytes(),
        predictor.level,
        tuple(args.gpts) if args.gpts else None,
        args.h,
        args.device,
        predictor.dtype,
        args.extrapolate,
    )
    todo = [i for i in range(len(which)) if work.is_open(i)]
    failed: list[Failure] = []
    with tqdm(total=len(todo), unit='frame', disable=None, leave=False) as bar:

        def report(result: Path | Failure | None) -> None:
            if isinstance(result, Failure):
                failed.append(result)
                tqdm.write(f'failed     {result.path.name}: {result.reason}')
            bar.update()

        if todo:
            run_on_cluster(work, todo, args.scheduler, report, tqdm.write)
    done = len(todo) - len(failed)
    print(f'frames     {done} done, {len(which) - len(todo)} there already, {len(failed)} failed', flush=True)
    return 1 if failed else 0
