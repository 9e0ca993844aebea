"""The console script ``deepdensity``.

A sub-command is a module with two functions, ``add_arguments(parser)`` and ``run(args) -> int | None`` (the exit code),
and a line in :data:`COMMANDS`.  Only the module of the command at hand is imported.
"""

from __future__ import annotations

import argparse
import dis
import importlib
import io
import os
import sys
import time
from collections.abc import Sequence

from ase_deepdensity.cli.completion import complete
from ase_deepdensity.cli.parser import ERROR_CODE, Parser, print_safely
from ase_deepdensity.cli.warn import warnings_as_lines

COMMANDS = {
    'sample': ('ase_deepdensity.cli.sample', 'Make geometries: liquid water, a hot metal, a molecule, a chain'),
    'choose': ('ase_deepdensity.cli.choose', 'Choose the geometries that a model would learn most from'),
    'generate': ('ase_deepdensity.cli.generate', 'Calculate reference densities of geometries'),
    'import': ('ase_deepdensity.cli.import_gpw', 'Make a data set from finished calculations of GPAW'),
    'train': ('ase_deepdensity.cli.train', 'Train a model on a data set'),
    'advise': (
        'ase_deepdensity.cli.advise',
        'Tell what more snapshots would bring, and what is new to a model',
    ),
    'adapt': ('ase_deepdensity.cli.adapt', 'Teach a model a few snapshots in seconds'),
    'uncertainty': ('ase_deepdensity.cli.uncertainty', 'Add error bars to a model'),
    'learn': ('ase_deepdensity.cli.learn', 'Teach a model what tells it most of a pool, until it is good enough'),
    'evaluate': ('ase_deepdensity.cli.evaluate', 'Measure the errors of a model on a data set'),
    'predict': ('ase_deepdensity.cli.predict', 'Predict the densities of geometries'),
    'analyse': ('ase_deepdensity.cli.analyse', 'Charges, multipoles and volumes of atoms from a density'),
    'bands': ('ase_deepdensity.cli.bands', 'Bands and density of states of a density, without an SCF cycle'),
    'seed': ('ase_deepdensity.cli.seed', 'Run GPAW from its own start and from a prediction, side by side'),
    'info': ('ase_deepdensity.cli.info', 'Show what is known about a model'),
}
"""name: (module, one line of help), in the order of ``--help``."""

GRACE = 1.0
"""Seconds for rank 0 to speak: launchers kill all as soon as one process has ended with an error."""
OF_THE_SYSTEM = (OSError, ImportError, MemoryError)
"""A full disk, a file that must not be read, a package that is not installed …: nothing that this program did wrong."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command line; return the exit code (0: all well, 1: partly failed, 2: an error, 130: interrupted).

    What a user can cause is one line on standard error; other exceptions, mistakes of this program, pass through.

    Raises
    ------
    SystemExit
        After ``--help`` and ``--version``, and for arguments that cannot be parsed (code 2).
    """
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    if '_ARGCOMPLETE' in os.environ:
        arguments = os.environ.get('COMP_LINE', '').split()[1:]
    _show_any_letter()
    parser = _parser(arguments)
    if '_ARGCOMPLETE' in os.environ:
        complete(parser)
    args = parser.parse_args(arguments)
    if args.command is None:
        parser.print_help()
        return 0
    try:
        with warnings_as_lines():
            code: int = importlib.import_module(COMMANDS[args.command][0]).run(args) or 0
        sys.stdout.flush()
        return code
    except BrokenPipeError:  # the reader of our output has gone, as in "| head"
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except KeyboardInterrupt:
        print('deepdensity: interrupted', file=sys.stderr)
        return 130
    except (ValueError, *OF_THE_SYSTEM) as error:
        is_master = _is_master()
        if args.traceback or (is_master and not is_for_the_user(error)):
            raise
        if is_master:  # the other ranks have the same to say
            print_safely(f'deepdensity: error: {one_line(error)}')
        else:
            time.sleep(GRACE)
        return ERROR_CODE


def is_for_the_user(error: Exception) -> bool:
    """Is an error one that a user can cause, and not a mistake of this program?

    Those of the system are; of all others those that a ``raise`` of this package is the origin of.  What the libraries
    below raise is translated where they are called; if one gets through, its traceback is needed.
    """
    if isinstance(error, OF_THE_SYSTEM):
        return True
    origin = error.__traceback__
    while origin is not None and origin.tb_next is not None:
        origin = origin.tb_next
    if origin is None or not isinstance(error, ValueError):
        return False
    code = origin.tb_frame.f_code.co_code
    is_raise = code[origin.tb_lasti] == dis.opmap['RAISE_VARARGS']
    return is_raise and str(origin.tb_frame.f_globals.get('__name__')).split('.')[0] == 'ase_deepdensity'


def one_line(error: Exception) -> str:
    """The message of an error; the system's ones begin with the file."""
    if isinstance(error, OSError) and error.strerror and error.filename is not None:
        message = f'{os.fsdecode(error.filename2 or error.filename)}: {error.strerror}'
    elif isinstance(error, MemoryError):
        message = f'not enough memory{": " if str(error) else ""}{error}'
    else:
        message = str(error)
    return ' '.join(message.split()) or repr(error)


def _show_any_letter() -> None:
    """Letters that a terminal cannot show are shown by their numbers, and are no error."""
    for stream in sys.stdout, sys.stderr:
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors='backslashreplace')


def _parser(arguments: Sequence[str]) -> Parser:
    """The parser, filled in for the one command that the arguments name."""
    parser = Parser(
        prog='deepdensity',
        description='Electron densities from machine learning, for ASE and GPAW.',
        epilog='"deepdensity COMMAND --help" shows the arguments of a command.',
    )
    parser.add_argument('--version', action='version', version=_version())
    parser.add_argument('--traceback', action='store_true', help='show where an error comes from')
    commands = parser.add_subparsers(dest='command', metavar='COMMAND')
    chosen = next((argument for argument in arguments if argument in COMMANDS), None)
    for name, (module, help_text) in COMMANDS.items():
        command = commands.add_parser(name, help=help_text, description=help_text + '.')
        if name == chosen:
            importlib.import_module(module).add_arguments(command)
        _add_traceback(command)
    return parser


def _add_traceback(command: argparse.ArgumentParser) -> None:
    """The option at the end of a command, too, and of the kinds that it has."""
    command.add_argument(
        '--traceback', action='store_true', default=argparse.SUPPRESS, help='show where an error comes from'
    )
    for action in command._actions:
        if isinstance(action, argparse._SubParsersAction):
            for kind in action.choices.values():
                _add_traceback(kind)


def _version() -> str:
    from importlib.metadata import PackageNotFoundError, version

    try:
        return f'deepdensity {version("ase_deepdensity")}'
    except PackageNotFoundError:
        return 'deepdensity (not installed)'


def _is_master() -> bool:
    from ase_deepdensity.launchers import mpi_rank, torchrun_rank

    return not mpi_rank() and not torchrun_rank()


if __name__ == '__main__':
    sys.exit(main())
