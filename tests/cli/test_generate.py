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
from ase_deepdensity.files import temporary_path, whole_files
from tests.codes.gpaw.test_reference import hydrogen
from tests.conftest import FAST, water_molecule
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
    assert 'GeometryError: atoms 0 (H) and 1 (H) overlap: they are 0.001 Å apart' in failed
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
    ours = temporary_path(folder / 'out' / '00005-deadbeef.h5')
    half_written = ours.with_name(ours.name.replace(f'.{os.getpid()}-', f'.{process.pid}-'))
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


@pytest.mark.parametrize(
    ('changes', 'message'),
    [
        (
            {'--level': 'dzq'},
            "no level of theory 'dzq': use pw400, dzp, general-pw400, ks1d, or a JSON file of GPAW",
        ),
        (
            {'--level': '{"mode": "lcao", "xc": "PBX"}'},
            "level of theory 'l': GPAW refuses the parameters: Unknown func",
        ),
        ({'--level': '{"mode": "lcao", "h": -1}'}, "level of theory 'l': h must be a number above 0 (Å), not -1"),
        ({'--level': '{"mode": "lcao", "gpts": [8, 8]}'}, "level of theory 'l': gpts must be three whole numbers"),
        ({'--level': '{"mode": "lcao", "bassis": "dzp"}'}, 'did you mean basis?'),
        ({'--level': '{'}, 'not a JSON file'),
        ({'--start': 'water-pbe-dpz'}, 'did you mean water-pbe-dzp'),
        ({'--ranks-per-snapshot': '0'}, '--ranks-per-snapshot must be a whole number from 1, not 0'),
        ({'--txt': 'nowhere/log'}, 'nowhere: no such folder'),
        ({'out': ''}, "OUT must be the name of a folder, not ''"),
        ({'geometry': 'h2.xyz@9'}, 'h2.xyz@9: no such frame; the file holds 6, counted from 0'),
    ],
)
def test_errors_come_before_any_work(folder, changes, message, capsys):
    if changes.get('--level', '').startswith('{'):
        (folder / 'l.json').write_text(changes['--level'])
        changes = {'--level': 'l.json'}
    given = {'geometry': 'h2.xyz', 'out': 'out', '--level': 'fast.json'} | changes
    options = [word for name, value in given.items() if name.startswith('--') for word in (name, value)]
    assert main(['generate', given['geometry'], given['out'], *options, '--quiet']) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert message in line and not (folder / 'out').exists()


def _wait_for_snapshots(folder, number: int, process: subprocess.Popen) -> None:
    for _ in range(1200):
        if folder.is_dir() and len(whole_files(folder, '.h5')) >= number:
            return
        assert process.poll() is None, 'the run ended before it could be killed'
        time.sleep(0.05)
    raise AssertionError('no snapshots within a minute')


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
