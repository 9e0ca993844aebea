import os
import resource
import signal
import stat
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest

from ase_deepdensity.files import checksum, remove_stale_temporaries, replacing, replacing_path, temporary_path

DEAD = 4194399
"""A process number above Linux's largest."""


def names(folder: Path) -> list[str]:
    return sorted(os.listdir(folder))


def write(path: Path, text: str) -> None:
    with replacing(path) as file:
        file.write(text)


def test_a_file_takes_the_place_of_another(tmp_path):
    path = tmp_path / 'a.txt'
    for text in 'old', 'µ':
        write(path, text)
        assert path.read_bytes() == text.encode()
    with replacing(path, 'wb') as file:
        file.write(b'new')
        assert path.read_text() == 'µ', 'not before it is whole'
    with replacing_path(str(path)) as temporary:
        assert temporary.parent == tmp_path
        assert path.read_bytes() == b'new'
        temporary.write_text('of a library')
    assert path.read_text() == 'of a library'
    assert names(tmp_path) == ['a.txt']


def fail(path: Path, error: BaseException) -> None:
    with replacing(path) as file:
        file.write('half')
        raise error


@pytest.mark.parametrize('error', [RuntimeError, OSError, KeyboardInterrupt, SystemExit, GeneratorExit])
def test_after_any_error_all_is_as_it_was(tmp_path, error):
    write(tmp_path / 'a', 'old')
    for path in tmp_path / 'a', tmp_path / 'b':
        with pytest.raises(error):
            fail(path, error('from within'))
    assert (tmp_path / 'a').read_text() == 'old'
    assert names(tmp_path) == ['a']


def test_an_interrupt_leaves_nothing_and_a_kill_leaves_what_can_be_removed(tmp_path):
    code = """
import signal, sys
from ase_deepdensity.files import replacing
signal.signal(signal.SIGINT, signal.default_int_handler)  # which shells switch off in the background
with replacing('a') as file:
    file.write('half')
    print('writing', flush=True)
    sys.stdin.read()
"""
    for number, left in (signal.SIGINT, 0), (signal.SIGKILL, 1):
        process = subprocess.Popen(
            [sys.executable, '-c', code], cwd=tmp_path, stdin=-1, stdout=-1, stderr=subprocess.DEVNULL
        )
        with process:
            assert process.stdout.readline() == b'writing\n'
            remove_stale_temporaries(tmp_path)
            assert len(names(tmp_path)) == 1, 'one that is being written stays'
            process.send_signal(number)
        assert len(names(tmp_path)) == left
    remove_stale_temporaries(tmp_path)
    assert names(tmp_path) == []


def test_stale_temporaries_of_dead_processes_only(tmp_path):
    mine = temporary_path(tmp_path / 'a.h5')
    assert mine.name.split('.')[3].startswith(f'{os.getpid()}-') and mine.suffix == '.h5'
    dead = mine.with_name(mine.name.replace(f'.{os.getpid()}-', f'.{DEAD}-'))
    elsewhere = mine.with_name(f'.tmp.otherhost.{DEAD}-00000000.a.h5')
    others = [tmp_path / name for name in ('.tmp', '.tmp.x', '.tmp.a.b', 'tmp.a.1.b', '.tmp.host.pid-1.a')]
    for file in mine, dead, elsewhere, *others:
        file.touch()
    remove_stale_temporaries(tmp_path)
    assert names(tmp_path) == sorted(file.name for file in (mine, elsewhere, *others))


def test_threads_and_long_names_do_not_meet(tmp_path):
    paths = [tmp_path / ('n' * 255), tmp_path / ('Å' * 127)]

    def many(text: str) -> None:
        for _ in range(20):
            for path in paths:
                write(path, text)

    threads = [threading.Thread(target=many, args=(str(i) * 100,)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert names(tmp_path) == sorted(path.name for path in paths)
    assert all(path.read_text() in [str(i) * 100 for i in range(4)] for path in paths)


def test_permissions(tmp_path):
    def mode(path: Path) -> int:
        return stat.S_IMODE(path.stat().st_mode)

    before = os.umask(0o027)
    try:
        with replacing_path(tmp_path / 'new') as temporary:
            temporary.chmod(0o600)  # as safetensors does
        write(tmp_path / 'kept', '')
        (tmp_path / 'kept').chmod(0o604)
        write(tmp_path / 'kept', 'again')
    finally:
        os.umask(before)
    assert mode(tmp_path / 'new') == 0o640
    assert mode(tmp_path / 'kept') == 0o604


def test_links_are_followed(tmp_path):
    (tmp_path / 'there').mkdir()
    target, link, ahead = tmp_path / 'there' / 'a', tmp_path / 'link', tmp_path / 'ahead'
    target.write_text('old')
    link.symlink_to(target)
    ahead.symlink_to(Path('there', 'b'))
    write(link, 'new')
    write(ahead, 'made')
    assert link.is_symlink() and target.read_text() == 'new'
    assert ahead.is_symlink() and (tmp_path / 'there' / 'b').read_text() == 'made'
    assert names(tmp_path / 'there') == ['a', 'b']


def test_what_is_no_ordinary_file_is_written_to(tmp_path):
    pipe = tmp_path / 'pipe'
    os.mkfifo(pipe)
    got: list[bytes] = []
    reader = threading.Thread(target=lambda: got.append(pipe.read_bytes()))
    reader.start()
    write(pipe, 'through')
    reader.join()
    assert got == [b'through']
    write(Path('/dev/null'), 'gone')
    assert stat.S_ISCHR(os.stat('/dev/null').st_mode), 'it is what it was'
    assert names(tmp_path) == ['pipe']


def test_where_nothing_can_be_written(tmp_path):
    (tmp_path / 'file').write_text('old')
    (tmp_path / 'folder').mkdir()
    for path, error, message in [
        (tmp_path / 'nowhere' / 'a', FileNotFoundError, 'No such folder: .*nowhere'),
        (tmp_path / 'file' / 'a', FileNotFoundError, 'No such folder: .*file'),
        (tmp_path / 'folder', IsADirectoryError, 'Is a folder, not a file: .*folder'),
        (tmp_path / ('n' * 256), OSError, 'File name too long: .*nnn'),
    ]:
        with pytest.raises(error, match=message):
            write(path, 'new')
    assert names(tmp_path) == ['file', 'folder'] and (tmp_path / 'file').read_text() == 'old'


@pytest.mark.skipif(os.getuid() == 0, reason='root may write everywhere')
def test_without_permission(tmp_path):
    folder = tmp_path / 'folder'
    folder.mkdir()
    write(folder / 'a', 'old')
    (folder / 'a').chmod(0o444)
    with pytest.raises(PermissionError, match='Must not be written: .*folder/a'):
        write(folder / 'a', 'new')
    folder.chmod(0o555)
    try:
        with pytest.raises(PermissionError, match="Permission denied: '.*folder/b'"):
            write(folder / 'b', 'new')
    finally:
        folder.chmod(0o755)
    assert names(folder) == ['a'] and (folder / 'a').read_text() == 'old'


def test_a_full_disk(tmp_path, small_files):
    path = tmp_path / 'a'
    write(path, 'old')
    for mode, content in ('w', 'half ' * 10000), ('wb', b'half ' * 10000):
        too_large = pytest.raises(OSError, match=rf"File too large: '{path}'")
        with small_files(1000), too_large, replacing(path, mode) as file:
            file.write(content)
    assert path.read_text() == 'old' and names(tmp_path) == ['a']
    assert resource.getrlimit(resource.RLIMIT_FSIZE)[0] != 1000


def test_checksum_is_of_all_that_there_is():
    arrays = {'a': np.arange(6.0).reshape(2, 3), 'b': np.array(True), 'c': np.zeros((0, 3))}
    same = {name: np.array(arrays[name], order='F') for name in reversed(arrays)}
    one = checksum('header', arrays)
    assert one == checksum('header', same) and len(one) == 64
    assert one == checksum('header', arrays | {'a': arrays['a'].astype('>f8')}), 'whatever the machine'
    changed = arrays['a'].copy()
    changed.view(np.uint8)[1, 3] ^= 1
    others = [
        checksum('headeR', arrays),
        *(
            checksum('header', arrays | change)
            for change in (
                {'a': changed},
                {'a': arrays['a'].reshape(3, 2)},
                {'a': arrays['a'].view(np.int64)},
                {'b': np.array(False)},
                {'c': np.zeros((0, 4))},
                {'d': np.zeros(0)},
            )
        ),
        checksum('header', {'b': arrays['a'], 'a': arrays['b'], 'c': arrays['c']}),
    ]
    assert len({one, *others}) == len(others) + 1
