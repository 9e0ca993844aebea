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


def test_no_worker_comes(frames, tmp_path, monkeypatch):  # noqa: F811
    monkeypatch.setattr(ours, 'UNTIL_FIRST', 1)
    lines = []
    with (
        LocalCluster(n_workers=0, **QUIET) as empty,
        pytest.raises(ClusterError, match='no worker has come yet, and none came in 1 s; start some .dask worker tcp'),
    ):
        generate(frames, tmp_path, LEVEL, scheduler=empty.scheduler_address, progress=False, log=lines.append)
    assert [line.partition(' (')[0] for line in lines] == ['no worker has come yet: waiting up to 1 s for one']
    assert not list(tmp_path.glob('.*')), 'claims are left'


def test_the_first_worker_comes_late(frames, tmp_path, monkeypatch):  # noqa: F811
    """As jobs do that stand in a queue: what is the limit when workers are lost does not count."""
    monkeypatch.setattr(ours, 'UNTIL_NEXT', 0)
    monkeypatch.setattr(ours, 'PATIENCE', 0)
    with LocalCluster(n_workers=0, threads_per_worker=1, **QUIET) as cluster:
        lines = []

        def log(line: str) -> None:
            lines.append(line)
            if len(lines) == 1:
                cluster.scale(1)

        summary = generate(frames[:2], tmp_path, LEVEL, scheduler=cluster.scheduler_address, progress=False, log=log)
    assert summary.lines() == ['2 done, 0 there already, 0 failed']
    assert [line.partition(':')[0] for line in lines] == ['no worker has come yet', 'the first worker is there']


def test_all_workers_are_lost_for_good(frames, tmp_path, monkeypatch):  # noqa: F811
    """One line of error, and the same call goes on."""
    monkeypatch.setattr(ours, 'UNTIL_NEXT', 1)
    calculate, out, lines = Logged(tmp_path / 'log', pause=0.3), tmp_path / 'out', []
    with LocalCluster(n_workers=1, threads_per_worker=1, **QUIET) as cluster:

        def lose() -> None:
            while not (out.is_dir() and list(out.glob('*.h5'))):
                time.sleep(0.05)
            cluster.scale(0)

        thread = threading.Thread(target=lose)
        thread.start()
        with pytest.raises(
            ClusterError, match='all workers are lost, and none came in 1 s; .*the same command goes on'
        ):
            generate(
                frames, out, LEVEL, scheduler=cluster.scheduler_address, calculate=calculate, progress=False,
                log=lines.append,
            )  # fmt: skip
        thread.join()
        assert [line.partition(' (')[0] for line in lines] == ['all workers are lost: waiting up to 1 s for one']
        there = len(Dataset(out))
        assert 0 < there < NFRAMES and not list(out.glob('.*')), 'claims are left'
        cluster.scale(1)
        summary = generate(frames, out, LEVEL, scheduler=cluster.scheduler_address, progress=False, log=lines.append)
    assert summary.lines() == [f'{NFRAMES - there} done, {there} there already, 0 failed']


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
