import gc
import json
import os
import socket

import pytest

from ase_deepdensity.training.lock import Lock, LockedError


@pytest.fixture
def path(tmp_path):
    return tmp_path / 'm.lock'


def test_one_at_a_time(path):
    lock = Lock(path)
    with pytest.raises(
        LockedError, match=rf'm.lock: process {os.getpid()} on {socket.gethostname()} trains this model'
    ):
        Lock(path)
    lock.release()
    lock.release()
    assert not path.exists()
    Lock(path).release()


def test_a_lock_that_nobody_refers_to_is_released(path):
    lock = Lock(path)
    del lock
    gc.collect()
    assert not path.exists()


@pytest.mark.parametrize('content', ['', '{', '[1]', json.dumps({'host': 'elsewhere', 'pid': 1})])
def test_a_file_that_nobody_holds_is_taken_over(path, content):
    """After kill -9 or a power failure, whatever it says."""
    path.write_text(content)
    lock = Lock(path)
    assert json.loads(path.read_text()) == {'host': socket.gethostname(), 'pid': os.getpid()}
    lock.release()


def test_a_file_that_is_removed_while_it_is_waited_for(path, monkeypatch):
    """Another process ends between our opening and our locking its file: the lock must be on the new one."""
    flock, removed = Lock.__init__.__globals__['_flock'], []

    def removed_first(path, descriptor):
        if not removed:
            removed.append(path.unlink())
        flock(path, descriptor)

    monkeypatch.setattr('ase_deepdensity.training.lock._flock', removed_first)
    lock = Lock(path)
    monkeypatch.undo()
    with pytest.raises(LockedError):
        Lock(path)
    lock.release()


def test_a_file_system_without_locks_is_warned_about(path, monkeypatch):
    def refuse(descriptor, operation):
        raise OSError(37, 'No locks available')

    monkeypatch.setattr('fcntl.flock', refuse)
    with pytest.warns(UserWarning, match='no locks on this file system'):
        Lock(path).release()
