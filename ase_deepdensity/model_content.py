"""What a model file holds: a header and named arrays, with a checksum, read safely whoever made them.

The file is safetensors (https://github.com/huggingface/safetensors): the length of a JSON text, that text, and the
bytes of the tensors one after the other.  The text tells names, types, shapes and places of the tensors, and has four
entries of ours: ``format``, ``version``, ``header`` (JSON: architecture, level, card, charge) and ``checksum`` (of all
of it, see :func:`.files.checksum`; files of version 2 have none).  Since version 7 the tensors are bytes, the planes of
:mod:`ase_deepdensity.model_packing`.

All of it is checked against the size of the file before anything is allocated, so that no file can cost more time and
memory than its bytes.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from math import prod
from operator import itemgetter
from pathlib import Path
from typing import IO, Any

import numpy as np
import safetensors.numpy

from ase_deepdensity.files import DAMAGE, checksum, read_json, replacing
from ase_deepdensity.model_files import ModelError
from ase_deepdensity.model_packing import in_planes, rounded, without_planes
from ase_deepdensity.model_upgrades import UPGRADES

FORMAT, OLDEST, VERSION = 'ase-deepdensity model', 2, 7
DTYPES: dict[str, np.dtype[Any]] = {'F32': np.dtype('<f4'), 'F64': np.dtype('<f8'), 'U8': np.dtype('u1')}
LENGTH = 8
"""Bytes that tell how long the JSON text is."""
LONGEST_TEXT = 2**22
"""Bytes; that of a model of four elements has 14 000."""

MOST_AXES = 8
LONGEST_REASON = 300
"""Letters of an error that may have all of a file in it."""

Arrays = dict[str, np.ndarray]
Table = dict[str, tuple[np.dtype[Any], tuple[int, ...]]]
"""name: type and shape."""


def write_content(path: str | Path, header: dict[str, Any], arrays: Mapping[str, np.ndarray]) -> None:
    """Write a model file; it appears whole or not at all.

    Raises
    ------
    ModelError
        Numbers that are not finite, or no such folder.
    OSError
        The disk is full, and the like.
    """
    if not Path(path).parent.is_dir():
        raise ModelError(f'{Path(path).parent}: no such folder')
    try:
        _check_finite(arrays)
    except ValueError as error:
        raise ModelError(f'{path}: no such model can be written: {error}') from None
    with replacing(path, 'wb') as file:
        file.write(sealed(header, arrays))


def sealed(header: dict[str, Any], arrays: Mapping[str, np.ndarray]) -> bytes:
    """A model file with its checksum, whatever is in it."""
    text, arrays = json.dumps(header), rounded(arrays)
    metadata = {
        'format': FORMAT,
        'version': str(VERSION),
        'header': text,
        'checksum': _checksum(str(VERSION), text, arrays),
    }
    return safetensors.numpy.save({name: in_planes(array) for name, array in arrays.items()}, metadata)


def read_content(path: Path) -> tuple[dict[str, Any], Arrays]:
    """Header and arrays of a model file of any version, upgraded to this one.

    Raises
    ------
    ModelError
        Whatever may be wrong: no model file, truncated, changed since it was written, a later version, numbers that are
        not finite.
    """
    with _opened(path) as (stream, table, metadata), damage(path):
        version = _version(path, metadata)
        header = read_json(metadata['header'])
        arrays = without_planes({name: _array(stream, dtype, shape) for name, (dtype, shape) in table.items()})
        if version > 2 and metadata['checksum'] != _checksum(metadata['version'], metadata['header'], arrays):
            raise ValueError('it has changed since it was written (its checksum is wrong)')
        _check_finite(arrays)
        for step in range(version, VERSION):
            try:
                header, arrays = UPGRADES[step](header, arrays)
            except ModelError as error:
                raise ModelError(f'{path}: {error}') from None
        return header, arrays


def read_header(path: Path) -> dict[str, Any]:
    """What a model file says of itself: architecture, level, card; neither weights nor the checksum.

    Raises
    ------
    ModelError
        No model file, or one of a later version.
    """
    with _opened(path) as (_, _, metadata), damage(path):
        _version(path, metadata)
        header: dict[str, Any] = read_json(metadata['header'])
        return header


@contextmanager
def damage(path: Path) -> Iterator[None]:
    """Whatever goes wrong with what comes from a file is a :class:`ModelError` that names it."""
    try:
        yield
    except ModelError:
        raise
    except DAMAGE as error:
        raise ModelError(f'{path}: a damaged model file: {str(error)[:LONGEST_REASON]}') from error


@contextmanager
def _opened(path: Path) -> Iterator[tuple[IO[bytes], Table, dict[str, str]]]:
    """The file, its table, and the entries of ours."""
    with ExitStack() as stack:
        try:
            stream = stack.enter_context(open(path, 'rb'))
            table, metadata = _read_table(stream)
        except DAMAGE as error:
            reason = str(error)[:LONGEST_REASON]
            raise ModelError(f'{path}: not a model file, or a truncated one ({reason})') from None
        if metadata.get('format') != FORMAT:
            raise ModelError(f'{path}: a safetensors file, but not an {FORMAT}')
        yield stream, table, metadata


def _read_table(stream: IO[bytes]) -> tuple[Table, dict[str, str]]:
    """Types and shapes of the tensors in the order in which they follow each other, and the other entries."""
    size = os.fstat(stream.fileno()).st_size
    length = int.from_bytes(stream.read(LENGTH), 'little')
    if not 0 < length <= min(size - LENGTH, LONGEST_TEXT):
        raise ValueError(f'a header of {length} bytes in a file of {size}')
    entries = read_json(stream.read(length).decode())
    metadata = entries.pop('__metadata__', {})
    if not all(isinstance(value, str) for value in metadata.values()):
        raise ValueError('entries that are no texts')
    places = sorted(((*_place(entry, size), name) for name, entry in entries.items()), key=itemgetter(0, 1))
    end = 0
    for begin, next_begin, *_, name in places:
        if begin != end:
            raise ValueError(f'{name} begins at byte {begin}, not {end}')
        end = next_begin
    if LENGTH + length + end != size:
        raise ValueError(f'{LENGTH + length + end} bytes are told of, and the file has {size}')
    return {name: (dtype, shape) for *_, dtype, shape, name in places}, metadata


def _place(entry: dict[str, Any], size: int) -> tuple[int, int, np.dtype[Any], tuple[int, ...]]:
    """Where a tensor begins and ends, its type and its shape."""
    if entry.keys() != {'dtype', 'shape', 'data_offsets'}:
        raise ValueError(f'a tensor has the entries {list(entry)}')
    begin, end = entry['data_offsets']
    dtype, shape = DTYPES[entry['dtype']], tuple(entry['shape'])
    if not all(type(n) is int and 0 <= n <= size for n in (begin, end, *shape)) or len(shape) > MOST_AXES:
        raise ValueError(f'a tensor of the shape {shape} from byte {begin} to {end}')
    if prod(shape) * dtype.itemsize != end - begin:
        raise ValueError(f'a tensor of the shape {shape} and type {dtype} in {end - begin} bytes')
    return begin, end, dtype, shape


def _version(path: Path, metadata: dict[str, str]) -> int:
    """The version, if this program can read it."""
    if not metadata['version'].isdecimal():
        raise ValueError(f'its version is {metadata["version"]!r}')
    version = int(metadata['version'])
    if version > VERSION:
        raise ModelError(f'{path}: model file version {version}; this program reads up to {VERSION}: update it')
    if version < OLDEST:
        raise ModelError(
            f'{path}: model file version {version}, whose basis no longer exists; this program reads {OLDEST} to '
            f'{VERSION}: train the model again'
        )
    expected = {'format', 'version', 'header'} | ({'checksum'} if version > 2 else set())
    if metadata.keys() != expected:
        raise ValueError(f'its entries are {", ".join(sorted(metadata))}, not {", ".join(sorted(expected))}')
    return version


def _array(stream: IO[bytes], dtype: np.dtype[Any], shape: tuple[int, ...]) -> np.ndarray:
    return np.frombuffer(bytearray(stream.read(prod(shape) * dtype.itemsize)), dtype).reshape(shape)


def _checksum(version: str, header: str, arrays: Mapping[str, np.ndarray]) -> str:
    return checksum(f'{FORMAT} {version}\n{header}', arrays)


def _check_finite(arrays: Mapping[str, np.ndarray]) -> None:
    for name, array in arrays.items():
        if not np.isfinite(array).all():
            raise ValueError(f'{name} has numbers that are not finite')
