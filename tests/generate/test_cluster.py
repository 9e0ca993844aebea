"""A real cluster of dask.distributed on this machine, one of whose workers is killed."""

import threading
import time

import numpy as np
import pytest
from ase.io import write
from distributed import LocalCluster

from ase_deepdensity.cli.main import main
from ase_deepdensity.dataset import Dataset
from ase_deepdensity.generate import cluster as ours
from ase_deepdensity.generate.cluster import ClusterError
from ase_deepdensity.generate.folder import generate
from tests.generate.test_workers import LEVEL, NFRAMES, Logged, frames  # noqa: F401

QUIET = {'dashboard_address': ':0', 'silence_logs': 'CRITICAL'}


@pytest.fixture(scope='module')
def cluster():
    with LocalCluster(n_workers=2, threads_per_worker=1, **QUIET) as cluster:
        yield cluster


def test_workers_calculate_and_this_process_writes(frames, tmp_path, cluster):  # noqa: F811
    calculate = Logged(tmp_path / 'log', pause=0.2)
    out = tmp_path / 'out'
    summary = generate(frames, out, LEVEL, scheduler=cluster.scheduler_address, calculate=calculate, progress=False)
    assert summary.lines() == [f'{NFRAMES} done, 0 there already, 0 failed']
    processes, geometries = calculate.counts()
    assert len(processes) == 2, 'one worker did all'
    assert set(geometries.values()) == {1}
    assert not list(out.glob('.*')), 'claims are left'
    again = generate(frames, out, LEVEL, scheduler=cluster.scheduler_address, progress=False)
    assert again.lines() == [f'0 done, {NFRAMES} there already, 0 failed']
    alone = tmp_path / 'alone'
    generate(frames[:1], alone, LEVEL, progress=False)
    np.testing.assert_array_equal(Dataset(alone)[0].density.nt_sR, Dataset(out)[0].density.nt_sR)


def test_failures_are_recorded(frames, tmp_path, cluster):  # noqa: F811
    summary = generate(
        frames[:2], tmp_path, LEVEL, scheduler=cluster.scheduler_address, calculate=failing, progress=False, log=list
    )
    assert [failure.reason for failure in summary.failed] == ['RuntimeError: no convergence'] * 2


def failing(atoms, level, **options):
    raise RuntimeError('no convergence')


def test_the_command_line(frames, tmp_path, monkeypatch, capsys, cluster):  # noqa: F811
    monkeypatch.chdir(tmp_path)
    write('chains.xyz', frames[:2])
    arguments = ['generate', 'chains.xyz', 'out', '--level', 'ks1d', '--quiet']
    assert main([*arguments, '--scheduler', cluster.scheduler_address]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == '2 done, 0 there already, 0 failed'
    assert main([*arguments, '--scheduler', 'a', '--workers', '2']) == 2
    assert 'workers and a scheduler do not go together' in capsys.readouterr().err
    assert main([*arguments, '--scheduler', 'a', '--time-limit', '2']) == 2
    assert 'a time limit and a scheduler do not go together' in capsys.readouterr().err


def test_no_scheduler(frames, tmp_path, monkeypatch):  # noqa: F811
    monkeypatch.setattr(ours, 'TIMEOUT', 1)
    with pytest.raises(ClusterError, match='tcp://127.0.0.1:9: no scheduler of dask answers there'):
        generate(frames, tmp_path, LEVEL, scheduler='tcp://127.0.0.1:9', progress=False)
    with pytest.raises(ClusterError, match=r'none\.json: no such file'):
        generate(frames, tmp_path, LEVEL, scheduler='none.json', progress=False)


def test_no_workers(frames, tmp_path, monkeypatch):  # noqa: F811
    monkeypatch.setattr(ours, 'TIMEOUT', 1)
    with (
        LocalCluster(n_workers=0, **QUIET) as empty,
        pytest.raises(ClusterError, match='there is no worker after 1 s; start some: dask worker tcp'),
    ):
        generate(frames, tmp_path, LEVEL, scheduler=empty.scheduler_address, progress=False)


def test_a_worker_that_is_killed_loses_nothing(frames, tmp_path, cluster):  # noqa: F811
    calculate = Logged(tmp_path / 'log', pause=0.5)
    killed = []

    def kill() -> None:
        while not calculate.file.exists():
            time.sleep(0.05)
        nanny = next(iter(cluster.workers.values()))
        killed.append(nanny.pid)
        nanny.process.process._process.kill()

    thread = threading.Thread(target=kill)
    thread.start()
    summary = generate(
        frames, tmp_path / 'out', LEVEL, scheduler=cluster.scheduler_address, calculate=calculate, progress=False
    )
    thread.join()
    assert summary.lines() == [f'{NFRAMES} done, 0 there already, 0 failed']
    assert len(Dataset(tmp_path / 'out')) == NFRAMES
    processes, geometries = calculate.counts()
    assert killed and len(geometries) == NFRAMES
    assert sum(geometries.values()) > NFRAMES or str(killed[0]) not in processes, 'what it was at was not done anew'


def test_what_kills_every_worker_is_recorded(frames, tmp_path, cluster, monkeypatch):  # noqa: F811
    monkeypatch.setattr(cluster.scheduler, 'allowed_failures', 0)
    calculate = Logged(tmp_path / 'log', kill_at=frames[1].positions[0, 2])
    summary = generate(
        frames[1:2], tmp_path / 'out', LEVEL, scheduler=cluster.scheduler_address, calculate=calculate,
        progress=False, log=list,
    )  # fmt: skip
    assert ['workers that were at it died' in failure.reason for failure in summary.failed] == [True]
    assert not list((tmp_path / 'out').glob('.*'))
