"""HDF5 files of named arrays, sealed with a checksum and safe to open whoever made them.

A file begins with a block of 512 bytes that HDF5 leaves to its users.  There stands one line,

    ase-deepdensity snapshot 2 sha256 <64 hexadecimal digits>

the format, its version, and the checksum of these and of all that follows the block: nothing damaged gets as far as the
HDF5 library, which can crash of it.  Files of version 1 have no such line, but attributes ``format`` and ``version``.

What a file may hold is written down beforehand (:class:`Layout`): plain arrays and attributes, which lie in the file
itself, and none that is larger than its bytes in the file can become.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from math import prod
from pathlib import Path
from typing import Any, BinaryIO

import h5py
import numpy as np

from ase_deepdensity.dataset.sink import Sink
from ase_deepdensity.files import DAMAGE, replacing_path

BLOCK = 512
SIGNATURE = b'\x89HDF\r\n\x1a\n'
SEAL = re.compile(rb'(?=.{512}\Z)(ase-deepdensity [a-z]+ [0-9]{1,9}) sha256 ([0-9a-f]{64})\n\0*', re.DOTALL)
FIRST_SEALED = 2
"""Version from which on files have a seal."""
EXPANSION = 1032
"""What deflate can make of a byte at most."""
LARGE = 1024
"""Numbers in an array that is worth compressing."""
SMALL = 2**16
"""Bytes that may be allocated whatever the file says."""
COMPRESSED = {'compression': 'gzip', 'compression_opts': 4, 'shuffle': True}
CACHE = 2**20
"""Bytes of chunks that HDF5 holds before it writes them."""
PIECE = 2**20
"""Bytes that are read at once for the checksum."""
FILTERS = {h5py.h5z.FILTER_DEFLATE, h5py.h5z.FILTER_SHUFFLE, h5py.h5z.FILTER_FLETCHER32}
"""Others would let HDF5 load a library."""


class _FormatError(ValueError):
    """What was opened is something else, or of a later version."""


@dataclass(frozen=True)
class Layout:
    """What a file of a format holds."""

    format: str
    """``ase-deepdensity …``"""
    version: int
    """The newest."""
    arrays: Mapping[str, tuple[str, int]]
    """name: kind of number as NumPy has it (f, i, b), number of axes."""
    what: str
    """The content in a word, for messages."""
    error: type[ValueError]
    """What is raised."""
    since: Mapping[str, int] = field(default_factory=dict)
    """name: version from which on there is such an array, where that is not the first."""


def write(
    path: str | Path, layout: Layout, arrays: Mapping[str, np.ndarray], attributes: Mapping[str, str | int | float]
) -> None:
    """Write a sealed file; it appears whole or not at all."""
    with writing(path, layout) as file:
        for name in layout.arrays:
            file.put(name, np.asarray(arrays[name]))
        file.describe(attributes)


@contextmanager
def writing(path: str | Path, layout: Layout) -> Iterator[Writer]:
    """A file that is sealed and appears when the block ends; after an error all is as it was before.

    What is written goes to the disk at once.

    Raises
    ------
    OSError
        See :func:`.replacing_path`.
    """
    versions = 'v110', 'v110'  # of HDF5: small, and with checksums of their own
    with replacing_path(path) as temporary, open(temporary, 'r+b', buffering=0) as stream:
        sink = Sink(stream.fileno())
        with h5py.File(sink, 'w', userblock_size=BLOCK, libver=versions, rdcc_nbytes=CACHE) as file:
            yield Writer(file, sink)
        sink.check()
        kind = f'{layout.format} {layout.version}'
        seal = f'{kind} sha256 {_digest_of_file(kind, stream)}\n'.encode()
        stream.seek(0)
        stream.write(seal.ljust(BLOCK, b'\0'))


@dataclass(frozen=True)
class Writer:
    """Puts things into a file that :func:`writing` has opened; an OSError tells of a full disk."""

    file: h5py.File
    sink: Sink

    def put(self, name: str, array: np.ndarray) -> None:
        """A whole array."""
        large: dict[str, Any] = COMPRESSED if array.size >= LARGE else {}
        if large and array.ndim == 1:
            large = large | {'chunks': array.shape}
        self.file.create_dataset(name, data=array, fletcher32=array.size > 0 or None, **large)
        self.sink.check()

    def put_parts(
        self, name: str, shape: tuple[int, ...], chunks: tuple[int, ...], parts: Iterable[tuple[int, np.ndarray]]
    ) -> None:
        """An array in parts along its second axis, each with the index where it begins.

        ``chunks``: what is compressed together.
        """
        data = None
        for start, array in parts:
            if data is None:
                data = self.file.create_dataset(name, shape, array.dtype, chunks=chunks, fletcher32=True, **COMPRESSED)
            data[:, start : start + array.shape[1]] = array
            self.sink.check()

    def describe(self, attributes: Mapping[str, str | int | float]) -> None:
        """Attributes of the file."""
        self.file.attrs.update({name: _fixed(value) for name, value in attributes.items()})


def _digest(kind: str, content: memoryview) -> str:
    digest = hashlib.sha256(kind.encode())
    digest.update(content)
    return digest.hexdigest()


def _digest_of_file(kind: str, stream: BinaryIO) -> str:
    """The same of all behind the block, read piece by piece."""
    digest = hashlib.sha256(kind.encode())
    stream.seek(BLOCK)
    while piece := stream.read(PIECE):
        digest.update(piece)
    return digest.hexdigest()


def _fixed(value: str | int | float) -> Any:
    """Text as a string of fixed length, which lies where HDF5 has a checksum."""
    if not isinstance(value, str):
        return value
    text = value.encode()
    return np.array(text, dtype=h5py.string_dtype('utf-8', len(text)))


def stored_checksum(path: Path) -> str:
    """The checksum in the seal, without reading the rest; of a file that has no seal that of all its bytes."""
    with open(path, 'rb') as stream:
        if seal := SEAL.fullmatch(stream.read(BLOCK)):
            return seal[2].decode()
        stream.seek(0)
        return hashlib.file_digest(stream, 'sha256').hexdigest()


@contextmanager
def opened(path: str | Path, *layouts: Layout, whole: bool = True) -> Iterator[Content]:
    """An open file of one of some layouts, format and version checked.

    Parameters
    ----------
    whole
        Read all and check the seal; without, only what is asked for is read.

    Raises
    ------
    ValueError
        The error of the first layout: a file that is missing, truncated, foreign, damaged, or of a later version; or
        whatever of :data:`DAMAGE` happens while it is open.
    """
    what, error_type = layouts[0].what, layouts[0].error
    if not Path(path).is_file():
        raise error_type(f'{path}: no such file')
    try:
        content = _open(Path(path), {layout.format: layout for layout in layouts}, whole)
    except _FormatError as error:
        raise error_type(f'{path}: {error}') from None
    except DAMAGE as error:
        raise error_type(f'{path}: not a {what}, or a truncated one ({error})') from None
    with content.file:
        try:
            yield content
        except DAMAGE as error:
            raise error_type(f'{path}: a damaged {what}: {error}') from error


@dataclass(frozen=True)
class Content:
    """What there is in an open file."""

    file: h5py.File
    layout: Layout
    version: int
    size: int
    """Bytes."""

    def arrays(self) -> dict[str, np.ndarray]:
        """All arrays that the layout has in the file's version."""
        names = [name for name in self.layout.arrays if self.layout.since.get(name, 1) <= self.version]
        if strange := sorted(set(self.file) - set(names)):
            raise ValueError(f'it should hold no {", ".join(map(repr, strange))}')
        return {name: self.array(name) for name in names}

    def array(self, name: str) -> np.ndarray:
        """One array, its type and size checked before anything is allocated."""
        kind, naxes = self.layout.arrays[name]
        link = self.file.get(name, getlink=True)
        if not isinstance(link, h5py.HardLink):
            raise ValueError(f'{name} {"is missing" if link is None else "leads elsewhere"}')
        data = self.file[name]
        if not isinstance(data, h5py.Dataset) or data.shape is None:
            raise ValueError(f'{name} is no array')
        if data.dtype.kind != kind or data.dtype.itemsize > 8 or data.ndim != naxes:
            raise ValueError(f'{name} has {data.ndim} axes and the type {data.dtype}, not {naxes} and {kind}')
        self._check_storage(name, data)
        return data[()]

    def _check_storage(self, name: str, data: h5py.Dataset) -> None:
        plist = data.id.get_create_plist()
        filters = [plist.get_filter(i)[0] for i in range(plist.get_nfilters())]
        if data.is_virtual or plist.get_external_count():
            raise ValueError(f'{name} lies in another file')
        if not FILTERS.issuperset(filters) or len(set(filters)) < len(filters):
            raise ValueError(f'{name} is compressed in another way than with gzip')
        stored = data.id.get_storage_size()
        chunk = prod(data.chunks or (0,)) * data.dtype.itemsize
        if stored > self.size or max(prod(data.shape) * data.dtype.itemsize, chunk) > EXPANSION * stored + SMALL:
            raise ValueError(f'{name} should have the shape {data.shape}, for which the file is too small')

    def text(self, name: str) -> str:
        """An attribute that is a string."""
        value = self._attribute(name)
        value = value.decode() if isinstance(value, bytes) else value
        if not isinstance(value, str):
            raise ValueError(f'{name} is {value!r}, not a text')
        return value

    def number(self, name: str) -> float:
        """An attribute that is a number."""
        value = self._attribute(name)
        if not isinstance(value, np.integer | np.floating):
            raise ValueError(f'{name} is {value!r}, not a number')
        return float(value)

    def _attribute(self, name: str) -> Any:
        if name not in self.file.attrs:
            raise ValueError(f'{name} is missing')
        attribute = self.file.attrs.get_id(name)
        if attribute.shape != () or attribute.get_storage_size() > self.size:
            raise ValueError(f'{name} has the shape {attribute.shape} and is not one value')
        return self.file.attrs[name]


def _open(path: Path, layouts: Mapping[str, Layout], whole: bool) -> Content:
    with open(path, 'rb') as stream:
        block = stream.read(BLOCK)
        seal = SEAL.fullmatch(block)
        data = block + stream.read() if whole and (seal or block.startswith(SIGNATURE)) else None
    if seal:
        kind = seal[1].decode()
        layout, version = _layout(layouts, *kind.rsplit(' ', 1))
        if data is not None and _digest(kind, memoryview(data)[BLOCK:]) != seal[2].decode():
            raise _FormatError(f'a damaged {layout.what}: truncated, or changed since it was written (wrong checksum)')
    file = h5py.File(path, 'r', locking=False) if data is None else h5py.File(h5py.h5f.open_file_image(data))
    try:
        if not seal:
            layout, version = _layout_without_seal(layouts, file.attrs)
        return Content(file, layout, version, path.stat().st_size if data is None else len(data))
    except BaseException:
        file.close()
        raise


def _layout_without_seal(layouts: Mapping[str, Layout], attrs: h5py.AttributeManager) -> tuple[Layout, int]:
    layout, version = _layout(layouts, attrs.get('format'), attrs.get('version', 0))
    if version >= FIRST_SEALED:
        raise _FormatError(f'a damaged {layout.what}: its first {BLOCK} bytes are missing')
    return layout, version


def _layout(layouts: Mapping[str, Layout], form: object, number: Any) -> tuple[Layout, int]:
    """The layout of a format, and the version if this program can read it."""
    if not isinstance(form, str) or form not in layouts:
        raise _FormatError(
            f'an HDF5 file, but {"neither" if len(layouts) > 1 else "not"} an {" nor an ".join(layouts)}'
        )
    version, newest = int(number), layouts[form].version
    if not 1 <= version <= newest:
        raise _FormatError(f'format version {version}; this program reads up to {newest}: update it')
    return layouts[form], version
