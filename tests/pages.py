"""Commands in the pages: blocks marked as bash, and what bash makes of them.

A block runs in the tests, unless a comment says why it does not; one may say what is less in the tests:

    <!-- not run: REASON -->                        the block below
    <!-- page not run: REASON -->                   all blocks of the page
    <!-- in the tests: OLD → NEW; OLD → NEW -->     the block below, with other words
"""

import os
import re
import subprocess
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[1]
PAGES = sorted(path.relative_to(ROOT) for path in [*ROOT.glob('*.md'), *ROOT.glob('docs/*.md')])
"""Relative to the repository."""
BLOCK = re.compile(r'(?P<marks>(?:^<!-- [^\n]* -->\n)*)^```bash\n(?P<text>.*?)^```$', re.MULTILINE | re.DOTALL)
PROGRAMS = 'ase cat dask deepdensity gunzip install.sh mypy pip pytest python ruff sed torchrun'
"""What the pages call; any other word is an error of bash."""


class Block(NamedTuple):
    page: Path
    line: int
    text: str
    reason: str | None
    """Why it is not run."""

    def __str__(self) -> str:
        return f'{self.page}:{self.line}'


def blocks_of(page: Path) -> list[Block]:
    text = (ROOT / page).read_text()
    of_page = re.search(r'^<!-- page not run: (.+) -->$', text, re.MULTILINE)
    blocks = []
    for found in BLOCK.finditer(text):
        of_block = re.search(r'^<!-- not run: (.+) -->$', found['marks'], re.MULTILINE)
        less = re.search(r'^<!-- in the tests: (.+) -->$', found['marks'], re.MULTILINE)
        commands = found['text']
        for old, new in (change.split(' → ') for change in less[1].split('; ')) if less else ():
            assert old in commands, f'{page}: no {old} in the block below'
            commands = commands.replace(old, new)
        reason = (of_block or of_page or [None, None])[1]
        blocks.append(Block(page, text.count('\n', 0, found.start('text')) + 1, commands, reason))
    return blocks


def commands_of(block: Block, folder: Path) -> list[list[str]]:
    """Program and arguments of each command of a block, as bash gives them; nothing but bash itself runs.

    Of ``a && b`` both are found, ``echo … > file`` writes into the folder.
    """
    programs = folder / '.venv' / 'bin'
    if not programs.exists():
        programs.mkdir(parents=True)
        for name in PROGRAMS.split():
            script = programs / name
            script.write_text('#!/bin/bash\nprintf "%s\\0" "${0##*/}" "$@" $\'\\n\' >> "$CALLED"\necho word\n')
            script.chmod(0o755)
        (folder / 'install.sh').symlink_to(programs / 'install.sh')
    called = folder / '.called'
    called.write_text('')
    environment = os.environ | {'PATH': str(programs), 'CALLED': str(called)}
    result = subprocess.run(
        ['/bin/bash', '-c', block.text], cwd=folder, env=environment, capture_output=True, text=True, check=False
    )
    assert not result.stderr, f'{block}: {result.stderr}'
    calls = called.read_text().split('\0\n\0')
    assert calls.pop() == ''
    return [call.split('\0') for call in calls]
