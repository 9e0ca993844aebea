"""What becomes of spoilt files: every one must be refused, quickly and in little memory.

    python docs/benchmarks/corruptions.py water-pbe-pw400 --number 1000
    python docs/benchmarks/corruptions.py snapshot.h5 --number 1000

Some are damaged by chance (bits, pieces, ends); others are made by someone who knows the format: what its JSON says,
shapes and numbers of tensors, all with the right checksum.  Each is opened in a process of its own, which may crash.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import struct
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.numpy

from ase_deepdensity import model_content
from ase_deepdensity.dataset import SnapshotError, read_snapshot
from ase_deepdensity.model import DensityModel, ModelError, model_path
from ase_deepdensity.model_packing import without_planes

TIMEOUT = 60
Spoilt = tuple[str, bytes]
"""What was done, and the file."""

NESTED: Any = []
for _ in range(800):
    NESTED = [NESTED]
ODD = [
    None,
    True,
    -1,
    0,
    2.5,
    10**9,
    10**30,
    1e308,
    -1e-9,
    float('nan'),
    float('inf'),
    'x',
    '',
    [],
    {},
    [1, 'a'],
    NESTED,
]
"""Values that nothing of an architecture or a table can have."""


def pick(values: Sequence[Any], rng: np.random.Generator) -> Any:
    return values[int(rng.integers(len(values)))]


def damaged(data: bytes, rng: np.random.Generator) -> Spoilt:
    """Chance: one of the ways in which disks, networks and people spoil a file."""
    size = len(data)
    spoilt = bytearray(data)
    place, length = int(rng.integers(size)), int(rng.integers(1, max(2, size // 4)))
    kind = str(
        rng.choice(['bit', 'bit', 'bit of the first 20 kB', 'byte', 'cut', 'longer', 'zeros', 'swapped', 'doubled'])
    )
    if kind.startswith('bit'):
        place = place if kind == 'bit' else int(rng.integers(min(size, 20000)))
        spoilt[place] ^= 1 << int(rng.integers(8))
    elif kind == 'byte':
        spoilt[place] = (spoilt[place] + int(rng.integers(1, 256))) % 256
    elif kind == 'cut':
        del spoilt[place:]
    elif kind == 'longer':
        spoilt += rng.bytes(length)
    elif kind == 'zeros':
        spoilt[place : place + length] = bytes(len(spoilt[place : place + length]))
    elif kind == 'swapped':
        other = int(rng.integers(size))
        piece = min(length, size - place, size - other)
        spoilt[place : place + piece], spoilt[other : other + piece] = (
            data[other : other + piece],
            data[place : place + piece],
        )
    else:
        spoilt[place:place] = data[place : place + length]
    return kind, bytes(spoilt)


def forged(data: bytes, rng: np.random.Generator) -> Spoilt:
    """A model with something impossible in it and the right checksum."""
    header, arrays = _parts(data)
    ways: list[Callable[[], str]] = [
        lambda: _odd_field(header['architecture'], rng),
        lambda: _odd_field(header, rng, only=('architecture', 'level', 'card')),
        lambda: _odd_tensor(arrays, rng),
        lambda: _odd_tensor(arrays, rng, of='atom_types.'),
    ]
    kind = ways[int(rng.choice(4, p=[0.4, 0.1, 0.35, 0.15]))]()
    return f'forged: {kind}', model_content.sealed(header, arrays)


def lying(data: bytes, rng: np.random.Generator) -> Spoilt:
    """A container that tells something else of its tensors than there is."""
    (length,) = struct.unpack('<Q', data[:8])
    if rng.random() < 0.2:
        lie = pick([0, 1, 7, length - 1, length + 1, len(data), 2**31, 2**32 + length, 2**63, 2**64 - 1], rng)
        return 'lie: length', struct.pack('<Q', lie) + data[8:]
    table = json.loads(data[8 : 8 + length])
    name = pick([key for key in table if key != '__metadata__'], rng)
    entry = table[name]
    what = str(rng.choice(['dtype', 'shape', 'data_offsets', '__metadata__', 'name']))
    if what == 'name':
        table[name + '?'] = table.pop(name)
    elif what == '__metadata__':
        key = pick(list(table['__metadata__']), rng)
        table['__metadata__'][key] = pick(ODD, rng)
    elif what == 'dtype':
        entry['dtype'] = pick(
            [name for name in ('F64', 'F32', 'I32', 'BF16', 'U8', 'x') if name != entry['dtype']], rng
        )
    else:
        values = entry[what]
        if values and rng.random() < 0.7:
            values[int(rng.integers(len(values)))] = pick(ODD, rng)
        else:
            entry[what] = [*values, 2**40, 2**40]
    text = json.dumps(table).encode()
    return f'lie: {what}', struct.pack('<Q', len(text)) + text + data[8 + length :]


def _parts(data: bytes) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    (length,) = struct.unpack('<Q', data[:8])
    header = json.loads(json.loads(data[8 : 8 + length])['__metadata__']['header'])
    return header, without_planes(safetensors.numpy.load(data))


ALLOWED = ('bound', None), ('card', {})
"""Values that are odd elsewhere."""


def _odd_field(content: Any, rng: np.random.Generator, only: tuple[str, ...] = ()) -> str:
    """Put an odd value somewhere, or take something away."""
    places = [(content, key) for key in only] if only else list(_places(content))
    holder, key = pick(places, rng)
    if rng.random() < 0.1 and holder is not content.get('hypers'):  # these have defaults
        del holder[key]
        return f'{key} missing'
    odd = [value for value in ODD if value != holder[key] and (key, value) not in ALLOWED]
    holder[key] = pick(odd, rng)
    return f'{key} {str(holder[key])[:20]}'


def _places(content: Any) -> Iterator[tuple[Any, Any]]:
    keys = content if isinstance(content, dict) else range(len(content))
    for key in list(keys):
        yield content, key
        if isinstance(content[key], dict | list):
            yield from _places(content[key])


def _odd_tensor(arrays: dict[str, np.ndarray], rng: np.random.Generator, of: str = '') -> str:
    name = pick(sorted(name for name in arrays if name.startswith(of)), rng)
    array = arrays[name]
    kind = str(rng.choice(['not finite', 'shape', 'missing', 'too many', 'empty', 'larger', 'whole numbers']))
    if kind == 'not finite':
        array.reshape(-1)[int(rng.integers(array.size))] = rng.choice([np.nan, np.inf, -np.inf])
    elif kind == 'shape':
        arrays[name] = array.reshape(*array.shape, 1)
    elif kind == 'missing':
        del arrays[name]
    elif kind == 'too many':
        arrays[f'{name}x'] = array
    elif kind == 'empty':
        arrays[name] = array.reshape(-1)[:0]
    elif kind == 'larger':
        arrays[name] = np.concatenate([array.reshape(1, -1)] * 2)
    else:
        arrays[name] = array.astype(np.int64)
    return f'tensor {kind}'


@dataclass
class Outcome:
    """Of opening one file."""

    kind: str
    result: str
    """'refused', 'opened', 'hangs', 'crash …', or another exception."""
    seconds: float
    """Of the processor."""
    megabytes: float
    """More than before."""


def open_apart(path: Path, load: Callable[[Path], object], refused: type[Exception]) -> tuple[str, float, float]:
    """Open a file in a child of this process: the result, seconds of its processor, and MB that it took."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        signal.alarm(TIMEOUT)
        before = _memory('VmRSS')
        try:
            load(path)
            result = 'opened'
        except refused:
            result = 'refused'
        except BaseException as error:
            result = type(error).__name__
        os.write(writer, f'{result} {_memory("VmHWM") - before}'.encode())
        os._exit(0)
    os.close(writer)
    with os.fdopen(reader) as pipe:
        result, _, megabytes = pipe.read().partition(' ')
    _, status, usage = os.wait4(child, 0)
    if os.WIFSIGNALED(status):
        number = os.WTERMSIG(status)
        result = 'hangs' if number == signal.SIGALRM else f'crash {signal.Signals(number).name}'
    return result, usage.ru_utime + usage.ru_stime, float(megabytes or 'nan')


def _memory(name: str) -> float:
    """MB of this process, now (``VmRSS``) or at most so far (``VmHWM``)."""
    lines = Path('/proc/self/status').read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith(name))


@dataclass
class Kind:
    """A kind of file: how it is opened, what it raises, how it can be spoilt."""

    load: Callable[[Path], object]
    refused: type[Exception]
    ways: list[Callable[[bytes, np.random.Generator], Spoilt]] = field(default_factory=lambda: [damaged])


MODEL = Kind(DensityModel.load, ModelError, [damaged, forged, lying])
SNAPSHOT = Kind(read_snapshot, SnapshotError)


def spoilt_files(data: bytes, kind: Kind, number: int, seed: int) -> Iterator[Spoilt]:
    """Some spoilt versions of a file, the ways in turn."""
    rng = np.random.default_rng(seed)
    for i in range(number):
        what, spoilt = kind.ways[i % len(kind.ways)](data, rng)
        if spoilt != data:
            yield what, spoilt


def main() -> None:
    parser = argparse.ArgumentParser(description='Open spoilt versions of a file.')
    parser.add_argument('file', help='a model (name or file) or a snapshot (.h5)')
    parser.add_argument('--number', type=int, default=1000)
    parser.add_argument('--seed', type=int, default=0)
    args = parser.parse_args()
    kind = SNAPSHOT if args.file.endswith('.h5') else MODEL
    path = Path(args.file) if kind is SNAPSHOT else model_path(args.file)
    data = path.read_bytes()
    kind.load(path)  # imports are done before
    outcomes = []
    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder) / path.name
        for what, spoilt in spoilt_files(data, kind, args.number, args.seed):
            target.write_bytes(spoilt)
            outcomes.append(Outcome(what, *open_apart(target, kind.load, kind.refused)))
            if outcomes[-1].result != 'refused':
                print(f'{outcomes[-1].result}: {what}', file=sys.stderr)
    print(f'{path.name}: {len(outcomes)} spoilt files: ', dict(Counter(outcome.result for outcome in outcomes)))
    for name, values in ('processor, s', [o.seconds for o in outcomes]), ('MB', [o.megabytes for o in outcomes]):
        print(f'{name}: median {np.nanmedian(values):.2f}, largest {np.nanmax(values):.2f}')


if __name__ == '__main__':
    main()
