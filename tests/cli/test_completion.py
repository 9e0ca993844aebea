"""What a shell is told of how a word may go on."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip('argcomplete')
ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize(
    ('line', 'words'),
    [
        ('deepdensity pre', {'predict '}),
        ('deepdensity predict --pla', {'--plane '}),
        ('deepdensity sample per', {'perturb '}),
        ('deepdensity predict --plane ', {'ab ', 'ac ', 'bc '}),
        ('deepdensity predict x.xyz water-pbe-d', {'water-pbe-dzp'}),
        ('deepdensity info tests/data/model-7', {'tests/data/model-7.safetensors'}),
        ('deepdensity analyse x.h5 hirshfeld multip', {'multipoles'}),
        ('deepdensity analyse x.xyz gen', {'general-pbe-pw400'}),
    ],
)
def test_words(tmp_path, line, words):
    answer = tmp_path / 'answer'
    asked = {'_ARGCOMPLETE': '1', 'COMP_LINE': line, 'COMP_POINT': str(len(line)), '_ARGCOMPLETE_IFS': '|'}
    environment = os.environ | asked | {'_ARGCOMPLETE_STDOUT_FILENAME': str(answer)}
    subprocess.run([sys.executable, '-m', 'ase_deepdensity.cli.main'], env=environment, cwd=ROOT, check=True)
    assert {word.rstrip() for word in answer.read_text().split('|')} == {word.rstrip() for word in words}
