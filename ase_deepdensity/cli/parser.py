"""A parser of command lines whose errors are one line and suggest what may have been meant."""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Sequence
from typing import Any, NoReturn

from ase_deepdensity.arguments import did_you_mean

ERROR_CODE = 2


class Parser(argparse.ArgumentParser):
    """As argparse's, but for its errors; sub-commands get parsers of the same kind."""

    def error(self, message: str) -> NoReturn:
        """One line on standard error, and the exit code 2."""
        line = ' '.join(f'{message}{_suggestion(message)}'.split())
        print_safely(f'{self.prog}: error: {line} (see "{self.prog} --help")')
        sys.exit(ERROR_CODE)

    def parse_known_args(  # type: ignore[override]
        self, args: Sequence[str] | None = None, namespace: argparse.Namespace | None = None
    ) -> tuple[argparse.Namespace, list[str]]:
        """Options that a sub-command does not have are its own error, so that it can suggest those it has."""
        known, unknown = super().parse_known_args(args, namespace)
        if len(unknown) == 1 and not unknown[0].startswith('-'):
            unknown = self._without_late(known, unknown[0])
        if unknown:
            options: dict[str, Any] = self._option_string_actions
            hints = ''.join(did_you_mean(word.split('=')[0], options) for word in unknown if word.startswith('-'))
            self.error(f'unrecognized arguments: {" ".join(unknown)}{hints}')
        return known, unknown

    def _without_late(self, known: argparse.Namespace, word: str) -> list[str]:
        """Give a word behind an option to the argument that may be left out, which argparse gives up on there."""
        for action in self._get_positional_actions():
            if action.nargs == argparse.OPTIONAL and getattr(known, action.dest) is action.default:
                setattr(known, action.dest, word)
                return []
        return [word]


def print_safely(line: str) -> None:
    """A line on standard error, whatever letters that can show."""
    encoding = getattr(sys.stderr, 'encoding', None) or 'utf-8'
    print(line.encode(encoding, 'backslashreplace').decode(encoding), file=sys.stderr)


def _suggestion(message: str) -> str:
    """For argparse's message about a word that is not among the choices."""
    match = re.search(r"invalid choice: '(.*)' \(choose from (.*)\)", message, re.DOTALL)
    if match is None:
        return ''
    word, choices = match.groups()
    return did_you_mean(word, [choice.strip(" '") for choice in choices.split(',')])
