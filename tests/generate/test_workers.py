"""Several processes on one folder.  Chains in one dimension take a fraction of a second each."""

import os
import signal
import subprocess
import sys
import time
from collections import Counter
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import pytest
from ase.io import write

from ase_deepdensity.cli.main import main
from ase_deepdensity.codes import ks1d
from ase_deepdensity.dataset import Dataset
from ase_deepdensity.generate import claims
from ase_deepdensity.generate.folder import generate
from ase_deepdensity.generate.jobs import targets_in
from ase_deepdensity.level import Level
from ase_deepdensity.sampling.geometries import chain

NFRAMES = 8
LEVEL = Level.load('ks1d')


@pytest.fixture(scope='module')
def frames():
    return list(islice(chain('insulator', 4, seed=7), NFRAMES))


@dataclass
class Logged:
    """Notes in a file which geometry is calculated by which process."""

    file: Path
    pause: float = 0.0
    kill_at: float = -1.0
    """A worker ends itself where the first atom is there."""

    def __call__(self, atoms, level, **options):
        with open(self.file, 'a') as file:
            file.write(f'{os.getpid()} {atoms.positions[0, 2]:.9f}\n')
        time.sleep(self.pause)
        if abs(atoms.positions[0, 2] - self.kill_at) < 1e-6:
            os.kill(os.getpid(), signal.SIGKILL)
        return ks1d.calculate(atoms, level, **options)

    def counts(self) -> tuple[Counter, Counter]:
        """How often each process and each geometry was at it."""
        lines = [line.split() for line in self.file.read_text().splitlines()]
        return Counter(pid for pid, _ in lines), Counter(place for _, place in lines)


def test_workers_share_the_work(frames, tmp_path):
    calculate = Logged(tmp_path / 'log', pause=0.2)
    summary = generate(frames, tmp_path / 'out', LEVEL, workers=2, calculate=calculate, progress=False)
    assert summary.lines() == [f'{NFRAMES} done, 0 there already, 0 failed']
    processes, geometries = calculate.counts()
    assert len(processes) == 2 and str(os.getpid()) not in processes
    assert len(geometries) == NFRAMES and set(geometries.values()) == {1}
    assert not list((tmp_path / 'out').glob('.*')), 'no claims are left'


def test_a_worker_that_dies_is_replaced_and_its_snapshot_recorded_at_last(frames, tmp_path):
    calculate = Logged(tmp_path / 'log', kill_at=frames[2].positions[0, 2])
    summary = generate(frames, tmp_path / 'out', LEVEL, workers=2, calculate=calculate, progress=False)
    assert len(summary.done) == NFRAMES - 1 and len(Dataset(tmp_path / 'out')) == NFRAMES - 1
    assert [failure.reason for failure in summary.failed] == ['2 processes died of it (out of memory?)']
    retried = generate(frames, tmp_path / 'out', LEVEL, workers=2, retry_failed=True, progress=False)
    assert retried.lines() == [f'1 done, {NFRAMES - 1} there already, 0 failed']


def test_two_commands_on_one_folder(frames, tmp_path):
    """One is started while the other works: nothing is calculated twice, and what is under way is left to the first."""
    calculate = Logged(tmp_path / 'log', pause=0.3)
    script = (
        'from ase_deepdensity.generate.folder import generate\n'
        'from tests.generate.test_workers import LEVEL, NFRAMES, Logged, Path, chain, islice\n'
        "frames = list(islice(chain('insulator', 4, seed=7), NFRAMES))\n"
        f'generate(frames, {str(tmp_path / "out")!r}, LEVEL, calculate=Logged(Path({str(calculate.file)!r}), 0.3))\n'
    )
    environment = os.environ | {'PYTHONPATH': os.pathsep.join(['.', *sys.path])}
    process = subprocess.Popen([sys.executable, '-c', script], env=environment, stderr=subprocess.DEVNULL)
    while not calculate.file.exists():
        assert process.poll() is None
        time.sleep(0.02)
    summary = generate(frames, tmp_path / 'out', LEVEL, calculate=calculate, progress=False)
    assert process.wait() == 0
    processes, geometries = calculate.counts()
    assert len(processes) == 2, 'both took part'
    assert len(geometries) == NFRAMES and set(geometries.values()) == {1}
    assert len(summary.done) + len(summary.skipped) + len(summary.elsewhere) == NFRAMES
    assert len(Dataset(tmp_path / 'out')) == NFRAMES


def test_claims(tmp_path):
    target = tmp_path / '00000-abcdef01.h5'
    with claims.take(target):
        assert claims.take(target) is None, 'held by a living process'
    with claims.take(target) as again:
        assert again.path == claims.claim_path(target)
    path = claims.claim_path(target)
    path.write_text('{"host": "elsewhere", "pid": 1}')
    assert claims.take(target) is None, 'of another host, and fresh'
    old = time.time() - 3600 * (claims.OTHER_HOSTS_HOURS + 1)
    os.utime(path, (old, old))
    claims.take(target).release()
    assert not path.exists()
    path.touch()
    assert claims.take(target) is None, 'being written'


def test_a_claim_of_a_killed_process_is_taken_over(tmp_path):
    target = tmp_path / 'snapshot.h5'
    script = (
        'import time; from ase_deepdensity.generate.claims import *;'
        f'claim = take(Path({str(target)!r})); time.sleep(60)'
    )
    process = subprocess.Popen(
        [sys.executable, '-c', script], env=os.environ | {'PYTHONPATH': os.pathsep.join(sys.path)}
    )
    while not (path := claims.claim_path(target)).exists() or not path.read_text():
        assert process.poll() is None
        time.sleep(0.02)
    assert claims.take(target) is None
    process.kill()
    process.wait()
    claims.take(target).release()


def test_another_order_calculates_nothing_again(frames, tmp_path):
    generate(frames[:3], tmp_path, LEVEL, progress=False)
    turned = [*frames[2::-1], frames[3], frames[3]]
    assert generate(turned, tmp_path, LEVEL, progress=False).lines() == ['1 done, 3 there already, 0 failed']
    assert len(set(targets_in(tmp_path, turned, LEVEL))) == 4


def test_time_limit(frames, tmp_path):
    def endless(atoms, level, **options):
        while True:
            pass

    summary = generate(frames[:1], tmp_path, LEVEL, calculate=endless, time_limit=0.2, progress=False, log=list)
    assert [failure.reason for failure in summary.failed] == [
        'TimeoutError: the calculation takes more than 0.2 s of CPU time'
    ]


def test_the_command_line(frames, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    write('chains.xyz', frames[:4])
    arguments = ['generate', 'chains.xyz', 'out', '--level', 'ks1d', '--quiet']
    assert main([*arguments, '--workers', '0']) == 2
    assert 'workers must be at least 1, not 0' in capsys.readouterr().err
    assert main([*arguments, '--time-limit', '0']) == 2
    assert 'a time limit must be more than 0 seconds, not 0.0' in capsys.readouterr().err
    assert main([*arguments, '--workers', '2']) == 0
    assert capsys.readouterr().out.splitlines()[-1] == '4 done, 0 there already, 0 failed'


def test_workers_are_refused_under_mpi(frames, tmp_path):
    class Two:
        rank, size = 0, 2

    with pytest.raises(ValueError, match='workers and MPI do not go together'):
        generate(frames, tmp_path, LEVEL, workers=2, comm=Two())
