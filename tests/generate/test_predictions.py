"""Many frames predicted by a real cluster on this machine, one of whose workers is killed."""

import os
import signal
import threading
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from ase.io import read, write
from distributed import LocalCluster

from ase_deepdensity.cli.main import main
from ase_deepdensity.dataset.density_file import read_density
from ase_deepdensity.generate.cluster import run_on_cluster
from ase_deepdensity.generate.predictions import Predicted, Predictions
from ase_deepdensity.predict import Predictor
from tests.generate.test_cluster import QUIET
from tests.tiny import water_box
from tests.tolerances import EXACT

pytestmark = pytest.mark.filterwarnings('ignore::ase_deepdensity.checks.UnfamiliarWarning')


@pytest.fixture(autouse=True)
def time_limit():
    """A cluster that says nothing any more is a failure, no wait for ever."""

    def stop(number, frame):
        raise TimeoutError('no end after five minutes')

    before = signal.signal(signal.SIGALRM, stop)
    signal.alarm(300)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


@pytest.fixture(scope='module')
def cluster():
    with LocalCluster(n_workers=2, threads_per_worker=1, **QUIET) as cluster:
        yield cluster


@pytest.fixture
def folder(tmp_path, monkeypatch, tiny_file):
    """A working directory with four frames and a model; the last frame cannot be predicted."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / 'tiny.safetensors').write_bytes(tiny_file.read_bytes())
    frames = [water_box((1, 1, 1), seed=seed) for seed in range(4)]
    frames[3].positions[1] = frames[3].positions[0]
    write('frames.xyz', frames)
    return tmp_path


def test_the_command_line(folder, tiny_model, cluster, capsys):
    arguments = ['predict', 'frames.xyz', 'tiny.safetensors', '--out', 'w.h5', '--float64']
    on_cluster = [*arguments, '--scheduler', cluster.scheduler_address]
    assert main(on_cluster) == 1
    output = capsys.readouterr().out
    assert 'failed     w-00003.h5: PredictionError: ' in output
    assert output.splitlines()[-1] == 'frames     3 done, 0 there already, 1 failed'
    names = {path.name for path in folder.iterdir()}
    assert names == {'tiny.safetensors', 'frames.xyz', *(f'w-{i:05d}.h5' for i in range(3))}
    alone = Predictor(tiny_model, dtype=torch.float64)
    for i, atoms in enumerate(read('frames.xyz@:3')):
        density = alone.predict(atoms)
        np.testing.assert_allclose(read_density(f'w-{i:05d}.h5').nt_sR, density.nt_sR, rtol=EXACT, atol=EXACT)

    (folder / 'w-00001.h5').unlink()
    kept = (folder / 'w-00000.h5').stat().st_mtime_ns
    assert main(on_cluster) == 1
    assert capsys.readouterr().out.splitlines()[-1] == 'frames     1 done, 2 there already, 1 failed'
    assert (folder / 'w-00000.h5').stat().st_mtime_ns == kept
    moved = read('frames.xyz@:3')
    moved[0].rattle(0.01)
    write('frames.xyz', moved)
    assert main(on_cluster) == 0
    assert capsys.readouterr().out.splitlines()[-1] == 'frames     1 done, 2 there already, 0 failed'
    assert main([*on_cluster, '--h', '0.25']) == 0, 'another grid is another density'
    assert capsys.readouterr().out.splitlines()[-1] == 'frames     3 done, 0 there already, 0 failed'


def test_what_does_not_go_together(folder, capsys):
    arguments = ['predict', 'frames.xyz', 'tiny.safetensors', '--scheduler', 'tcp://127.0.0.1:9']
    for more in [], ['--out', 'w.cube'], ['--out', 'w.h5', '--stream'], ['--out', 'w.h5', '--plot', 'w.png']:
        assert main([*arguments, *more]) == 2
        assert '--scheduler goes with one --out FILE.h5' in capsys.readouterr().err


@dataclass(frozen=True)
class Slow(Predictions):
    """Takes long enough for a worker to be killed meanwhile, and says which process is at work."""

    marks: Path | None = None

    def compute(self, atoms, comm):
        (self.marks / f'{os.getpid()}').touch()
        time.sleep(0.5)
        return super().compute(atoms, comm)


def test_a_worker_that_is_killed_loses_nothing(folder, tiny_model, cluster):
    (folder / 'marks').mkdir()
    frames = [water_box((1, 1, 1), seed=seed) for seed in range(5)]
    targets = [folder / f'{i}.h5' for i in range(5)]
    work = Slow(frames, targets, (folder / 'tiny.safetensors').read_bytes(), tiny_model.level, marks=folder / 'marks')
    results = []

    def kill() -> None:
        while not (at_work := list((folder / 'marks').iterdir())):
            time.sleep(0.05)
        os.kill(int(at_work[0].name), signal.SIGKILL)

    thread = threading.Thread(target=kill)
    thread.start()
    run_on_cluster(work, range(5), cluster.scheduler_address, results.append)
    thread.join()
    assert sorted(results) == targets
    assert not any(work.is_open(i) for i in range(5)) and not list(folder.glob('.*'))


def test_warnings_come_with_the_density(folder, tiny_model):
    work = Predictions((), (), (folder / 'tiny.safetensors').read_bytes(), tiny_model.level)
    result = work.compute(water_box(spacing=2.2), None)
    assert isinstance(result, Predicted) and 'unlike the training data' in result.warnings[0]
