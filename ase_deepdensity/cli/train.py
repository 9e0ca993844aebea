"""``deepdensity train``: a model from a data set."""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

    from ase_deepdensity.training.loop import Trainer


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add('dataset', nargs='+', metavar='DATASET', help='folders of snapshots at one level of theory')
    add('--out', required=True, metavar='MODEL', help='model file to write; the same command continues a killed run')
    add('--config', metavar='FILE', help='JSON file of settings (see docs/training.md)')
    add('--validate-on', nargs='+', metavar='DATASET', help='folders to validate on (default: some of DATASET)')
    add('--steps', type=int, help='optimisation steps')
    add('--minutes', type=float, help='wall time for all of the training, instead of --steps')
    add('--seed', type=int, help='of weights, split and order')
    add('--init', metavar='MODEL', help='fine-tune this model (a name or a file) instead of starting from scratch')
    add('--device', default='cpu', help='cpu or cuda (default: %(default)s)')
    add('--memory', type=float, metavar='GIB', help='for densities; others are read again (default: a quarter of all)')
    add('--tensorboard', metavar='FOLDER', help='write the learning curve there for TensorBoard, too')
    add('--restart', action='store_true', help='forget a checkpoint of an earlier run at --out')
    add('--quiet', action='store_true', help='no progress bar')


def run(args: argparse.Namespace) -> int:
    from pathlib import Path

    from ase_deepdensity.arguments import real
    from ase_deepdensity.cli.outputs import check_output
    from ase_deepdensity.dataset import Dataset
    from ase_deepdensity.model import SUFFIX, DensityModel
    from ase_deepdensity.network_runner import checked_device
    from ase_deepdensity.training.checkpoint import Files
    from ase_deepdensity.training.config import TrainingConfig
    from ase_deepdensity.training.loop import Trainer
    from ase_deepdensity.training.ranks import torchrun_ranks
    from ase_deepdensity.training.start import tuning_defaults
    from ase_deepdensity.training.tensorboard import require_tensorboard

    changes = {name: getattr(args, name) for name in ('steps', 'minutes', 'seed')}
    TrainingConfig.load(args.config, **changes)  # what is wrong there is told before anything is read
    out = Path(args.out.removesuffix(SUFFIX) + SUFFIX)
    if not out.name.removesuffix(SUFFIX):
        raise ValueError(f'--out must be the name of a model file, not {args.out!r}')
    check_output('--out', str(out))
    if args.tensorboard is not None:
        require_tensorboard()
    checked_device(args.device)
    init = None if args.init is None else DensityModel.load(args.init)
    cache = None if args.memory is None else 2**30 * real('--memory', args.memory, least=0, unit='GiB')
    dataset = Dataset(args.dataset)
    validate_on = None if args.validate_on is None else Dataset(args.validate_on)
    defaults = tuning_defaults(dataset, init)
    config = TrainingConfig.load(args.config, defaults=defaults, **changes)
    with torchrun_ranks(args.device) as (ranks, device):
        trainer = Trainer(
            dataset, out, config, init=init, validate_on=validate_on, device=device, progress=not args.quiet,
            restart=args.restart, cache=cache, ranks=ranks, tensorboard=args.tensorboard,
        )  # fmt: skip
        if ranks.is_first:
            _announce(trainer, args.init)
        try:
            model = trainer.run()
        except (KeyboardInterrupt, ConnectionError):
            if ranks.is_first:
                print(_how_to_go_on(trainer.files.checkpoint), file=sys.stderr)
            raise
        if ranks.is_first:
            best, files = model.card['validation'], Files(out)
            print(f'{out}: step {best["step"]}, validation: NMAE {best["NMAE of ñ, %"]:.3f} %, ε_D {best["ε_D"]:.4f}')
            print(f'learning curve: {files.csv}, {files.png}')
    return 0


def _announce(trainer: Trainer, init: str | None) -> None:
    """Say what is going to be trained."""
    from ase.data import chemical_symbols

    if trainer.start:
        print(f'continuing {trainer.files.checkpoint} at step {trainer.start}')
    if trainer.config.trained == 'elements':
        names = ', '.join(chemical_symbols[Z] for Z in trainer.training.dataset.numbers)
        print(f'only weights of {names} alone are trained; all others stay as they are in {init}')
    together = f', {trainer.ranks.size} processes' if trainer.ranks.size > 1 else ''
    print(
        f'{len(trainer.training)} snapshots to train on, {len(trainer.validation)} to validate on, '
        f'{sum(p.numel() for p in trainer.network.parameters() if p.requires_grad)} parameters{together}'
    )


def _how_to_go_on(checkpoint: Path) -> str:
    if not checkpoint.exists():
        return '\nno checkpoint was written yet: the same command starts anew'
    return f'\nthe same command continues from {checkpoint}, the last validation; --restart starts anew'
