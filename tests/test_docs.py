"""What the documents promise."""

import os
import re
import subprocess
import sys
from dataclasses import fields
from pathlib import Path

import pytest

import ase_deepdensity
from ase_deepdensity.cli.main import main
from ase_deepdensity.model import shipped_models
from ase_deepdensity.training.config import TrainingConfig

ROOT = Path(__file__).parents[1]
PAGES = sorted(path.relative_to(ROOT) for path in [ROOT / 'README.md', *ROOT.glob('docs/*.md')])


def block_after(mark: str) -> str:
    """The code block that follows a mark of the README."""
    return re.search(rf'<!-- {mark} -->\n```bash\n(.*?)```', (ROOT / 'README.md').read_text(), re.DOTALL)[1].strip()


def test_python_of_the_readme(tmp_path):
    code = re.findall(r'```python\n(.*?)```', (ROOT / 'README.md').read_text(), re.DOTALL)
    assert len(code) == 1
    result = subprocess.run([sys.executable, '-c', code[0]], cwd=ROOT, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    *_, electrons = result.stdout.splitlines()
    assert float(electrons) == pytest.approx(256)


def test_demo_of_the_readme(tmp_path, monkeypatch, capsys):
    arguments = block_after('demo').split('.venv/bin/deepdensity ')[1].split()
    monkeypatch.chdir(tmp_path)
    (tmp_path / 'tutorials').symlink_to(ROOT / 'tutorials')
    assert main(arguments) == 0
    assert 'electrons  256.000000' in capsys.readouterr().out
    assert (tmp_path / 'water.cube').stat().st_size > 1e6 and (tmp_path / 'water.png').stat().st_size > 1e4


def test_ci_runs_the_test_command_of_the_readme():
    """Bash finds the same block as this file does."""
    script = (ROOT / '.ci' / 'run').read_text()
    extract = re.search(r'^command=(\$\(.*?\))', script, re.MULTILINE)[1]
    result = subprocess.run(['bash', '-c', f'echo "{extract}"'], cwd=ROOT, capture_output=True, text=True, check=True)
    assert result.stdout.strip() == block_after('tests')
    assert 'pytest' in block_after('tests') and os.access(ROOT / '.ci' / 'run', os.X_OK)


def test_models_of_the_readme_are_shipped():
    named = set(re.findall(r'^\| `([\w-]+-[\w-]+)` \| [A-Z]', (ROOT / 'README.md').read_text(), re.MULTILINE))
    assert named == set(shipped_models())


def test_links_between_pages():
    for page in PAGES:
        for target in re.findall(r'\]\(([^)#:]+)(?:#[^)]*)?\)', (ROOT / page).read_text()):
            path = (ROOT / page).parent / target
            assert path.exists() or path.with_suffix('.md').exists(), f'{page}: {target}'


def test_no_page_holds_a_conflict():
    marks = re.compile(r'^(<{7}|={7}|>{7})( |$)', re.MULTILINE)
    assert not [page for page in [*PAGES, Path('CHANGELOG.md')] if marks.search((ROOT / page).read_text())]


def test_settings_are_documented():
    text = (ROOT / 'docs' / 'training.md').read_text()
    assert not [field.name for field in fields(TrainingConfig) if f'`{field.name}`' not in text]


def test_each_room_says_what_it_is_for():
    rooms = [path.parent for path in (ROOT / 'ase_deepdensity').glob('*/__init__.py')]
    assert len(rooms) > 5
    assert not [
        room.name for room in [*rooms, ROOT / 'ase_deepdensity' / 'models'] if not (room / 'README.md').is_file()
    ]


def test_version():
    newest = re.search(r'^## (\d\S*)', (ROOT / 'CHANGELOG.md').read_text(), re.MULTILINE)[1]
    assert newest == ase_deepdensity.__version__
    assert re.search(r"^version = '(.*)'", (ROOT / 'pyproject.toml').read_text(), re.MULTILINE)[1] == newest
