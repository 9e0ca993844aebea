"""The web site: it builds without a warning, holds what the code says, and fits a telephone."""

import re
import shutil
import subprocess
import sys
from html import unescape
from pathlib import Path

import pytest

from ase_deepdensity.cli.main import COMMANDS

pytest.importorskip('myst_nb')
ROOT = Path(__file__).parents[1]
CHROMIUM = next(filter(None, map(shutil.which, ['chromium', 'chromium-browser', 'google-chrome'])), None)


@pytest.fixture(scope='module')
def site(tmp_path_factory):
    folder = tmp_path_factory.mktemp('site')
    command = [sys.executable, '-m', 'sphinx', '-q', '-W', '--keep-going', 'docs', str(folder)]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    return folder


def text_of(path: Path) -> str:
    return unescape(re.sub(r'<[^>]*>', '', path.read_text()))


def test_commands_and_classes_are_those_of_the_code(site):
    commands = text_of(site / 'commands.html')
    assert not [name for name in COMMANDS if f'usage: deepdensity {name}' not in commands]
    assert '--calculator NAME' in commands and 'usage: deepdensity sample water' in commands
    api = (site / 'api.html').read_text()
    for name in 'state.PAWDensity.plot', 'plot.view.View.save', 'scf.one_pass.OnePassGPAW', 'predict.Predictor.predict':
        assert f'id="ase_deepdensity.{name}"' in api


def test_notebooks_show_their_pictures(site):
    for notebook in (ROOT / 'tutorials').glob('*.ipynb'):
        assert re.search(
            r'<img [^>]*(_images|data:image/png)', (site / 'tutorials' / f'{notebook.stem}.html').read_text()
        )


def test_the_gallery_has_a_picture_of_each_notebook(site):
    pattern = r'<a href="(tutorials/[^"]*)"><img [^>]*data:image/png[^>]*><span>([^<]+)'
    cards = re.findall(pattern, (site / 'gallery.html').read_text())
    assert {Path(page).stem for page, _ in cards} == {path.stem for path in (ROOT / 'tutorials').glob('*.ipynb')}
    for page, title in cards:
        assert title in text_of(site / page)


def test_every_page_is_reached_from_the_start_page(site):
    start = (site / 'index.html').read_text()
    pages = [path.stem for path in (ROOT / 'docs').glob('*.md') if path.stem != 'index']
    assert not [page for page in pages if f'href="{page}.html"' not in start]
    assert '_images/water.png' in start


@pytest.mark.skipif(CHROMIUM is None, reason='no chromium')
@pytest.mark.parametrize('width', [1280, 390], ids=['desk', 'telephone'])
def test_pages_fit_a_screen(site, tmp_path, width):
    """Nothing but tables and code, which scroll by themselves, is wider than the screen."""
    inner, outer = site / f'inner{width}.html', site / f'outer{width}.html'
    says = (
        '<script>addEventListener("load", () => parent.postMessage(document.documentElement.scrollWidth, "*"))</script>'
    )
    inner.write_text((site / 'index.html').read_text().replace('</body>', f'{says}</body>'))
    hears = '<script>addEventListener("message", event => { document.title = "width " + event.data })</script>'
    outer.write_text(f'<title></title>{hears}<iframe src="{inner.name}" width="{width}" height="900" frameborder="0">')
    options = f'--headless --no-sandbox --disable-gpu --window-size={width + 100},999 --virtual-time-budget=2000'
    command = [CHROMIUM, *options.split(), '--dump-dom', f'--user-data-dir={tmp_path}', str(outer)]
    dom = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120).stdout
    assert 0 < int(re.search(r'<title>width (\d+)</title>', dom)[1]) <= width
