"""What a shell is told of how a word may go on."""

import os
import subprocess
import sys

import pytest

pytest.importorskip('argcomplete')


@pytest.mark.parametrize(
    ('line', 'words'),
    [
        ('deepdensity pre', {'predict '}),
        ('deepdensity predict --pla', {'--plane '}),
        ('deepdensity sample per', {'perturb '}),
        ('deepdensity predict --plane ', {'ab ', 'ac ', 'bc '}),
    ],
)
def test_words(tmp_path, line, words):
    answer = tmp_path / 'answer'
    asked = {'_ARGCOMPLETE': '1', 'COMP_LINE': line, 'COMP_POINT': str(len(line)), '_ARGCOMPLETE_IFS': '|'}
    environment = os.environ | asked | {'_ARGCOMPLETE_STDOUT_FILENAME': str(answer)}
    subprocess.run([sys.executable, '-m', 'ase_deepdensity.cli.main'], env=environment, check=True)
    assert {word.rstrip() for word in answer.read_text().split('|')} == {word.rstrip() for word in words}
