"""The directive ``commands``: all commands of ``deepdensity`` with their arguments, from the parsers themselves."""

from __future__ import annotations

import argparse
import importlib
import os
from collections.abc import Iterator
from typing import Any

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

from ase_deepdensity.cli.main import COMMANDS
from ase_deepdensity.cli.parser import Parser

WIDTH = 88


class Commands(SphinxDirective):
    """A section for each command, and for each kind that a command has."""

    def run(self) -> list[nodes.Node]:
        return [section(name, text) for command in COMMANDS for name, text in helps(command)]


def helps(command: str) -> Iterator[tuple[str, str]]:
    """Title and ``--help`` of a command, and of its kinds."""
    os.environ['COLUMNS'] = str(WIDTH)
    module, text = COMMANDS[command]
    parser = Parser(prog=f'deepdensity {command}', description=f'{text}.')
    importlib.import_module(module).add_arguments(parser)
    yield f'deepdensity {command}', parser.format_help()
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for kind, child in action.choices.items():
                yield f'deepdensity {command} {kind}', child.format_help()


def section(title: str, text: str) -> nodes.section:
    """A title above the text as a terminal shows it."""
    node = nodes.section(ids=[nodes.make_id(title)])
    node += nodes.title(text=title)
    literal = nodes.literal_block(text, text)
    literal['language'] = 'text'
    node += literal
    return node


def setup(app: Sphinx) -> dict[str, Any]:
    """What Sphinx calls."""
    app.add_directive('commands', Commands)
    return {'parallel_read_safe': True}
