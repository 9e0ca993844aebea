"""The console script ``deepdensity``.

A sub-command is a module with two functions, ``add_arguments(parser)`` and ``run(args) -> int | None`` (the exit code),
and a line in :data:`COMMANDS`.  Only the module of the command at hand is imported.
"""

from __future__ import annotations

import argparse
import importlib
import os
import sys
from collections.abc import Sequence

COMMANDS = {
    'sample': ('ase_deepdensity.cli.sample', 'Make geometries: liquid water, a hot metal, a molecule, a chain'),
    'generate': ('ase_deepdensity.cli.generate', 'Calculate reference densities of geometries'),
    'train': ('ase_deepdensity.cli.train', 'Train a model on a data set'),
    'evaluate': ('ase_deepdensity.cli.evaluate', 'Measure the errors of a model on a data set'),
    'predict': ('ase_deepdensity.cli.predict', 'Predict the densities of geometries'),
    'seed': ('ase_deepdensity.cli.seed', 'Run GPAW from its own start and from a prediction, side by side'),
    'info': ('ase_deepdensity.cli.info', 'Show what is known about a model'),
}
"""name: (module, one line of help), in the order of ``--help``."""

USER_ERRORS = (ValueError, OSError, ImportError)
"""What a user can cause: printed as one line, without a traceback."""

ERROR_CODE = 2


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command line; return the exit code (0: all well, 1: partly failed, 2: an error, 130: interrupted)."""
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    args = _parser(arguments).parse_args(arguments)
    try:
        return importlib.import_module(COMMANDS[args.command][0]).run(args) or 0
    except USER_ERRORS as error:
        if args.traceback:
            raise
        if _is_master():
            message = ' '.join(str(error).split()) or repr(error)
            print(f'deepdensity: error: {message}', file=sys.stderr)
        return ERROR_CODE
    except KeyboardInterrupt:
        print('deepdensity: interrupted', file=sys.stderr)
        return 130
    except BrokenPipeError:  # the reader of our output has gone, as in "| head"
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1


def _parser(arguments: Sequence[str]) -> argparse.ArgumentParser:
    """The parser, filled in for the one command that the arguments name."""
    parser = argparse.ArgumentParser(prog='deepdensity', description='Electron densities from machine learning.')
    parser.add_argument('--version', action='version', version=_version())
    parser.add_argument('--traceback', action='store_true', help='show where an error comes from')
    commands = parser.add_subparsers(dest='command', metavar='COMMAND', required=True)
    chosen = next((argument for argument in arguments if argument in COMMANDS), None)
    for name, (module, help_text) in COMMANDS.items():
        command = commands.add_parser(name, help=help_text, description=help_text + '.')
        command.add_argument(
            '--traceback', action='store_true', default=argparse.SUPPRESS, help='show where an error comes from'
        )
        if name == chosen:
            importlib.import_module(module).add_arguments(command)
    return parser


def _version() -> str:
    from importlib.metadata import PackageNotFoundError, version

    try:
        return f'deepdensity {version("ase_deepdensity")}'
    except PackageNotFoundError:
        return 'deepdensity (not installed)'


def _is_master() -> bool:
    from ase_deepdensity.reference.mpi import mpi_rank

    return not mpi_rank()


if __name__ == '__main__':
    sys.exit(main())
