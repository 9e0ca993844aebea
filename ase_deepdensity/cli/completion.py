"""What a shell is told of how a word may go on, where argcomplete is installed."""

from __future__ import annotations

import argparse
from collections.abc import Iterable
from typing import Any

from ase_deepdensity.model_files import SUFFIX, shipped_models


def complete(parser: argparse.ArgumentParser) -> None:
    """Answer the shell; then the process ends."""
    from argcomplete import autocomplete

    for action in _actions_of(parser):
        if action.dest == 'model':
            _offer(action, shipped_models())
        elif action.metavar == '[MODEL] QUANTITY':
            from ase_deepdensity.cli.analyse import QUANTITIES

            _offer(action, [*QUANTITIES, *shipped_models()])
    autocomplete(parser)


def _actions_of(parser: argparse.ArgumentParser) -> Iterable[argparse.Action]:
    """Of a parser and of its commands."""
    for action in parser._actions:
        yield action
        if isinstance(action, argparse._SubParsersAction):
            for command in action.choices.values():
                yield from _actions_of(command)


def _offer(action: Any, names: list[str]) -> None:
    """These names, and files of models."""
    from argcomplete.completers import FilesCompleter

    files = FilesCompleter([SUFFIX[1:]])

    def words(prefix: str, **_: object) -> list[str]:
        return [*(name for name in names if name.startswith(prefix)), *files(prefix)]

    action.completer = words
