"""On a bare machine, in a container without a home, in child processes."""

from __future__ import annotations

import os
import pickle
import re
import shutil
import stat
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import numpy as np
import pytest

from ase_deepdensity import DeepDensity

ROOT = Path(__file__).parents[1]
FOR_GPAW = ['g++', 'libopenblas-dev', 'libxc-dev', 'libopenmpi-dev', 'openmpi-bin']
PACKAGES = ['python3-venv', 'python3-dev', *FOR_GPAW]
ALL = '-e', '.[test]'

# --- install.sh ------------------------------------------------------------------------------------------------------

COMMANDS = {
    'id': 'echo "$USER_ID"',
    'dpkg-query': 'case " $INSTALLED " in *" ${@: -1} "*) echo "install ok installed";; *) exit 1;; esac',
    'apt-get': 'echo "apt-get $*" >> "$LOG"; [ "$1" != update ] || exit "$UPDATE"',
    'sudo': 'echo sudo >> "$LOG"; exec "$@"',
    'python3': '[ "$1" = -c ] && exit "$TOO_OLD"; echo Python 3.10.12; shift 2; mkdir -p "$1/bin"; cp pip "$1/bin/pip"',
    'python3.11': '[ "$1" = -c ] && exit 0; echo python3.11 >> "$LOG"; shift 2; mkdir -p "$1/bin"; cp pip "$1/bin/pip"',
    'pip': 'echo "CC=$CC pip $*" >> "$LOG"',
}
"""A machine of the test's own, which writes down what is asked of it."""


@pytest.fixture
def machine(tmp_path):
    """Runs install.sh there; returns the process and the lines of the log."""
    project, commands = tmp_path / 'project', tmp_path / 'commands'
    project.mkdir()
    commands.mkdir()
    shutil.copy(ROOT / 'install.sh', project)
    for name, body in COMMANDS.items():
        path = (project if name == 'pip' else commands) / name
        path.write_text(f'#!/bin/bash\n{body}\n')
        path.chmod(0o755)
    for name in 'bash', 'cat', 'cp', 'dirname', 'env', 'grep', 'mkdir':
        (commands / name).symlink_to(shutil.which(name))
    log = tmp_path / 'log'

    def install(*arguments, without=(), **settings):
        for name in without:
            (commands / name).unlink()
        log.write_text('')
        defaults = {'USER_ID': '0', 'INSTALLED': '', 'UPDATE': '0', 'TOO_OLD': '0', 'LOG': str(log)}
        environment = defaults | {'PATH': str(commands)} | settings
        command = [str(project / 'install.sh'), *arguments]
        return subprocess.run(command, env=environment, capture_output=True, text=True), log.read_text().splitlines()

    return install


def packages(log):
    """Those that were installed, in their order."""
    lines = [line.split() for line in log if line.startswith('apt-get install')]
    return [word for line in lines for word in line if word.startswith(('python', 'lib')) or word in FOR_GPAW]


def test_predicting_needs_no_compiler(machine):
    result, log = machine()
    assert result.returncode == 0, result.stderr
    assert packages(log) == ['python3-venv']
    assert log[-1].endswith('pip install -q -c constraints.txt -e .')


def test_root_needs_no_sudo(machine):
    result, log = machine(*ALL, without=['sudo'])
    assert result.returncode == 0, result.stderr
    assert log[0].startswith('apt-get update')
    assert packages(log) == PACKAGES
    assert log[-1] == 'CC=g++ pip install -q -c constraints.txt -e .[test]'


def test_others_use_sudo(machine):
    result, log = machine(USER_ID='1000', INSTALLED=' '.join(PACKAGES[1:]))
    assert result.returncode == 0, result.stderr
    assert log[0] == log[2] == 'sudo'
    assert packages(log) == PACKAGES[:1], 'only what is missing'
    assert log[-1].endswith('constraints.txt -e .')


def test_neither_root_nor_sudo(machine):
    result, log = machine(*ALL, USER_ID='1000', INSTALLED='python3-venv libxc-dev', without=['sudo'])
    assert result.returncode == 1 and not log
    missing = [package for package in PACKAGES[1:] if package != 'libxc-dev']
    assert f'please install: {" ".join(missing)}' in result.stderr


def test_nothing_is_done_twice(machine):
    everything = ' '.join(PACKAGES)
    for arguments in (), ALL, ALL:
        result, log = machine(*arguments, INSTALLED=everything, USER_ID='1000')
        assert result.returncode == 0, result.stderr
        assert [line.split()[1] for line in log] == ['pip']


def test_lists_of_packages_that_cannot_be_brought_up_to_date(machine):
    result, log = machine(UPDATE='100')
    assert result.returncode == 0 and 'going on' in result.stderr
    assert log[-1].startswith('CC=g++ pip')


@pytest.mark.parametrize('arguments', [(), ALL])
def test_old_python_beside_a_newer_one(machine, arguments):
    """Ubuntu 22.04."""
    result, log = machine(*arguments, INSTALLED='python3-venv', TOO_OLD='1')
    assert result.returncode == 0, result.stderr
    assert packages(log) == ['python3.11-venv', *(['python3.11-dev', *FOR_GPAW] if arguments else [])]
    assert log[-2] == 'python3.11'


def test_old_python_without_debian(machine):
    result, log = machine(TOO_OLD='1', without=['apt-get'])
    assert result.returncode == 1 and not log
    assert 'Python 3.11 or newer is needed; python3 is Python 3.10.12' in result.stderr


def test_documents_name_the_same_packages():
    page = ' '.join((ROOT / 'docs' / 'install.md').read_text().split())
    assert ' '.join(FOR_GPAW) in page and ' '.join(FOR_GPAW) in (ROOT / 'install.sh').read_text()
    assert all(f'`{package}`' in page for package in PACKAGES[:2])


def test_readme_shows_both_ways():
    page = (ROOT / 'README.md').read_text()
    demo, tests = (page.split(f'<!-- {mark} -->')[1].split('```')[1] for mark in ('demo', 'tests'))
    assert './install.sh && .venv/bin/deepdensity predict' in demo, 'without GPAW'
    assert "./install.sh -e '.[test]' &&" in tests


def test_gpaw_is_an_extra():
    project = tomllib.loads((ROOT / 'pyproject.toml').read_text())['project']
    assert not [line for line in project['dependencies'] if line.startswith('gpaw')]
    assert [line.split('>=')[0] for line in project['optional-dependencies']['gpaw']] == ['gpaw', 'gpaw-data']


def test_all_of_the_tests_is_pinned():
    lines = (ROOT / 'constraints.txt').read_text().splitlines()
    pinned = {line.split('==')[0].lower().replace('_', '-') for line in lines if '==' in line}
    project = tomllib.loads((ROOT / 'pyproject.toml').read_text())['project']
    extras = [project['optional-dependencies'][extra] for extra in ('docs', 'gpaw', 'large', 'mpi', 'sampling', 'test')]
    wanted = [line for lines in [project['dependencies'], *extras] for line in lines if '[' not in line]
    assert not [line for line in lines if line.startswith('triton')], (
        'each build of torch for CUDA wants one of its own'
    )
    assert {re.split('[<>=]', line)[0].lower().replace('_', '-') for line in wanted} <= pinned | {'triton'}


# --- where kernels are kept ------------------------------------------------------------------------------------------

KEPT = 'from ase_deepdensity.collocation import kernels; print(kernels.collocate.stats.cache_path)'
PREDICT = """
from ase.io import read
from ase_deepdensity import DeepDensity
atoms = read('water.xyz')
print(DeepDensity('model.safetensors').predict(atoms).number_of_electrons())
"""
UNPRIVILEGED = ['setpriv', '--inh-caps=-all', '--bounding-set=-all'] if os.geteuid() == 0 else []
"""Permissions do not bind root; they do without root's capabilities."""


@pytest.fixture
def installed(tmp_path):
    """A copy of the package as an administrator installs it; runs code there with a home of its own."""
    ignore = shutil.ignore_patterns('__pycache__', '*.safetensors')
    shutil.copytree(ROOT / 'ase_deepdensity', tmp_path / 'site' / 'ase_deepdensity', ignore=ignore)
    for name in 'home', 'work':
        (tmp_path / name).mkdir()

    def run(code, read_only=()):
        folders = [folder for name in read_only for folder in [tmp_path / name, *(tmp_path / name).rglob('*')]]
        modes = {folder: stat.S_IMODE(folder.stat().st_mode) for folder in folders}
        for folder, mode in modes.items():
            folder.chmod(mode & ~0o222)
        keep = {name: value for name, value in os.environ.items() if not name.startswith(('NUMBA', 'XDG', 'MPL'))}
        environment = keep | {'HOME': str(tmp_path / 'home'), 'PYTHONPATH': str(tmp_path / 'site')}
        command = [*UNPRIVILEGED, sys.executable, '-c', code]
        try:
            return subprocess.run(command, cwd=tmp_path / 'work', env=environment, capture_output=True, text=True)
        finally:
            for folder, mode in modes.items():
                folder.chmod(mode)

    return run


@pytest.mark.parametrize(('read_only', 'place'), [([], 'site'), (['site'], 'home')])
def test_kernels_are_kept_where_there_is_a_place(installed, tmp_path, read_only, place):
    result = installed(KEPT, read_only)
    assert result.returncode == 0 and result.stderr == ''
    assert Path(result.stdout.strip()).is_relative_to(tmp_path / place)


def test_installed_read_only_and_without_a_home(installed, tmp_path, tiny_file, water):
    """Takes a while, as the kernels are compiled in memory."""
    shutil.copy(tiny_file, tmp_path / 'work' / 'model.safetensors')
    water.write(tmp_path / 'work' / 'water.xyz')
    result = installed(PREDICT, ['site', 'home'])
    assert result.returncode == 0, result.stderr
    assert float(result.stdout) == pytest.approx(8 * len(water) / 3)
    assert result.stderr.count('set NUMBA_CACHE_DIR') == 1
    assert 'atplotlib' not in result.stderr
    assert not list((tmp_path / 'home').iterdir())


# --- child processes -------------------------------------------------------------------------------------------------

POOL = """
import multiprocessing, sys
import numpy as np
from ase.io import read
from ase_deepdensity import DeepDensity

calc = DeepDensity('water-pbe-dzp')

def predict(atoms):
    return calc.predict(atoms).nt_sR

if __name__ == '__main__':
    atoms = read(sys.argv[1])
    nt_sR = predict(atoms)
    with multiprocessing.get_context(sys.argv[2]).Pool(1) as pool:
        np.save('difference.npy', nt_sR - pool.map(predict, [atoms])[0])
"""


@pytest.mark.parametrize('method', ['fork', 'spawn', 'forkserver'])
def test_child_processes_predict_what_their_parent_does(method, tmp_path):
    """The shipped model on 96 atoms, because torch starts threads only where there is enough to do."""
    (tmp_path / 'pool.py').write_text(POOL)
    environment = os.environ | {'OMP_NUM_THREADS': '2', 'PYTHONPATH': str(ROOT)}
    command = [sys.executable, 'pool.py', str(ROOT / 'tutorials' / 'water32.xyz'), method]
    result = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=300)
    assert result.returncode == 0, result.stderr
    assert np.load(tmp_path / 'difference.npy') == pytest.approx(0, abs=1e-5)


def test_a_calculator_can_be_sent_to_a_process(tiny_file, water):
    """As ``pool.map(calc.predict, frames)`` does."""
    calc = DeepDensity(tiny_file)
    sent = pickle.loads(pickle.dumps(calc))
    assert sent.predict(water).nt_sR == pytest.approx(calc.predict(water).nt_sR)


# --- a wheel ---------------------------------------------------------------------------------------------------------


def test_a_wheel_has_all_of_the_package(tmp_path):
    """Models, their cards and lists; a program that runs; less than 20 MB."""
    project, content = tmp_path / 'project', tmp_path / 'content'
    unwanted = shutil.ignore_patterns('__pycache__', '*.nbi', '*.nbc')
    shutil.copytree(ROOT / 'ase_deepdensity', project / 'ase_deepdensity', ignore=unwanted)
    for name in 'pyproject.toml', 'README.md', 'LICENSE':
        shutil.copy(ROOT / name, project)
    command = [sys.executable, '-m', 'pip', 'wheel', '-q', '--no-deps', '--no-index', '--no-build-isolation']
    subprocess.run([*command, '-w', str(tmp_path), str(project)], check=True)
    (wheel,) = tmp_path.glob('*.whl')
    assert wheel.stat().st_size <= 20e6
    with zipfile.ZipFile(wheel) as file:
        file.extractall(content)
    sources = {path.relative_to(project) for path in (project / 'ase_deepdensity').rglob('*') if path.is_file()}
    packed = {path.relative_to(content) for path in (content / 'ase_deepdensity').rglob('*') if path.is_file()}
    assert {path for path in sources - packed if path.name != 'README.md'} == set()
    environment = os.environ | {'PYTHONPATH': str(content)}
    program = [sys.executable, '-m', 'ase_deepdensity.cli.main', 'info', 'general-pbe-pw400']
    assert 'general-pbe-pw400' in subprocess.check_output(program, env=environment, cwd=tmp_path, text=True)
