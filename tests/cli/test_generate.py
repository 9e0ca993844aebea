import json
import os
import signal
import subprocess
import sys
import time

import pytest
from ase.io import write

from ase_deepdensity.cli.main import main
from ase_deepdensity.dataset import Dataset
from tests.conftest import FAST, water_molecule
from tests.reference.test_gpaw import hydrogen
from tests.tolerances import SAME_ENERGY

NFRAMES = 6


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write('h2.xyz', [hydrogen(0.7 + 0.02 * i) for i in range(NFRAMES)])
    (tmp_path / 'fast.json').write_text(json.dumps(FAST))
    return tmp_path


def test_exit_codes_and_last_lines(folder, capsys):
    write('bad.xyz', [hydrogen(), hydrogen(0.001)])
    arguments = ['bad.xyz', 'out', '--level', 'fast.json', '--quiet']
    assert main(['generate', *arguments]) == 1
    *_, summary, failed = capsys.readouterr().out.splitlines()
    assert summary == '1 done, 0 there already, 1 failed'
    assert failed.startswith('failed: 00001-') and '.failed.json: ' in failed
    assert main(['generate', *arguments]) == 1, 'a failure stays one'
    assert main(['generate', 'bad.xyz@0', 'out', '--level', 'fast.json', '--quiet']) == 0


def test_killed_run_is_continued(folder):
    command = [sys.executable, '-m', 'ase_deepdensity.cli.main', 'generate', 'h2.xyz', 'out', '--level', 'fast.json']
    environment = os.environ | {'PYTHONPATH': os.pathsep.join(sys.path), 'OMP_NUM_THREADS': '1'}
    process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        _wait_for_snapshots(folder / 'out', 2, process)
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    survivors = Dataset('out')
    assert 2 <= len(survivors) < NFRAMES
    assert all(snapshot.niter > 0 for snapshot in survivors), 'only whole files'
    half_written = folder / 'out' / f'.00005-deadbeef.h5.{_host()}.{process.pid}.tmp'
    half_written.write_bytes(b'half a file')
    times = {file: file.stat().st_mtime_ns for file in survivors.files}

    result = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    nleft = NFRAMES - len(survivors)
    assert result.stdout.splitlines()[-1] == f'{nleft} done, {len(survivors)} there already, 0 failed'
    assert f'{nleft}/{nleft}' in result.stderr, 'the progress bar counts what is left to do'
    assert len(Dataset('out')) == NFRAMES
    assert {file: file.stat().st_mtime_ns for file in survivors.files} == times
    assert not half_written.exists()


def _wait_for_snapshots(folder, number: int, process: subprocess.Popen) -> None:
    for _ in range(1200):
        if folder.is_dir() and len(list(folder.glob('*.h5'))) >= number:
            return
        assert process.poll() is None, 'the run ended before it could be killed'
        time.sleep(0.05)
    raise AssertionError('no snapshots within a minute')


def _host() -> str:
    import socket

    return socket.gethostname().replace('.', '-')


def test_starts_from_a_model(folder, capsys):
    write('water.xyz', water_molecule())
    plain = ['generate', 'water.xyz', 'plain']
    seeded = ['generate', 'water.xyz', 'seeded', '--start', 'water-pbe-dzp', '--workers', '2']
    for arguments in plain, seeded:
        assert main([*arguments, '--level', 'dzp', '--quiet']) == 0
    (reference,), (snapshot,) = Dataset('plain'), Dataset('seeded')
    assert snapshot.niter < reference.niter
    assert snapshot.energy == pytest.approx(reference.energy, abs=SAME_ENERGY)
    capsys.readouterr()
    assert main([*seeded, '--level', 'pw400', '--quiet']) == 2
    assert 'water-pbe-dzp: the model is of another level of theory: mode: ' in capsys.readouterr().err
