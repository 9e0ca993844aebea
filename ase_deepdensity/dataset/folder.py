"""A data set: the snapshots of a folder, all at one level of theory."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import overload

import numpy as np
from ase.data import chemical_symbols

from ase_deepdensity.arguments import formula
from ase_deepdensity.dataset.files import (
    Outline,
    Snapshot,
    read_atom_types,
    read_charge,
    read_level,
    read_numbers,
    read_outline,
    read_snapshot,
)
from ase_deepdensity.dataset.hdf5 import stored_checksum
from ase_deepdensity.files import replacing, whole_files
from ase_deepdensity.level import Level
from ase_deepdensity.paw import AtomType

SNAPSHOT_SUFFIX, FAILURE_SUFFIX = '.h5', '.failed.json'


class DatasetError(ValueError):
    """A folder that is not a data set, or snapshots that do not belong together."""


class Dataset(Sequence[Snapshot]):
    """The snapshots of a folder (or of a list of files), sorted by name, read when asked for.

    Parameters
    ----------
    path
        A folder with ``*.h5`` snapshots; or a sequence of files or folders.

    Raises
    ------
    DatasetError
        No folder, or none with a snapshot in it.
    """

    def __init__(self, path: str | Path | Sequence[str | Path]) -> None:
        paths = [Path(path)] if isinstance(path, str | Path) else [Path(p) for p in path]
        self.files = [file for p in paths for file in _snapshot_files(p)]
        if not self.files:
            raise DatasetError('a data set needs at least one snapshot; the list of files is empty')

    def __len__(self) -> int:
        return len(self.files)

    @overload
    def __getitem__(self, index: int) -> Snapshot: ...

    @overload
    def __getitem__(self, index: slice | Sequence[int] | np.ndarray) -> Dataset: ...

    def __getitem__(self, index: int | slice | Sequence[int] | np.ndarray) -> Snapshot | Dataset:
        """A snapshot; for a slice or an array of indices, a smaller data set."""
        if isinstance(index, slice):
            return Dataset(self.files[index])
        if isinstance(index, Sequence | np.ndarray):
            return Dataset([self.files[i] for i in index])
        return read_snapshot(self.files[index])

    def __iter__(self) -> Iterator[Snapshot]:
        return (read_snapshot(file) for file in self.files)

    def outline(self, index: int) -> Outline:
        """What is small of a snapshot, without reading its density."""
        return read_outline(self.files[index])

    def __repr__(self) -> str:
        head = f'Dataset({len(self)} snapshots in {self.files[0].parent})'
        return '\n'.join([head, *(f'  {line}' for line in self._lines())])

    def _lines(self) -> Iterator[str]:
        """What the first snapshot says; a data set may have many thousands."""
        try:
            first = self.outline(0)
        except (OSError, ValueError) as error:
            yield f'unreadable {error}'
            return
        level = first.level
        yield f'level      {level.name or "unnamed"} ({level.code})'
        yield f'the first  {formula(first.atoms)}' + (f', charge {first.charge:+g}' if first.charge else '')
        yield 'to see it  dataset[0].density.plot(), .view()'

    def _repr_html_(self) -> str:
        from ase_deepdensity.plot.cards import density_card, text_card

        try:
            return density_card(self[0].density, repr(self))
        except (OSError, ValueError):
            return text_card(repr(self))

    def split(self, nvalidation: int, *, seed: int = 0, compounds: bool = False) -> tuple[Dataset, Dataset]:
        """A part to train on and ``nvalidation`` whole snapshots to validate on, drawn with a seed.

        Every element is in the part to train on: a snapshot that alone has one is not drawn.

        Parameters
        ----------
        compounds
            Draw all snapshots of a chemical formula (reduced: Si₂ is Si₈) together, until they are ``nvalidation`` or
            more: what a model says of compounds that it has not seen.

        Raises
        ------
        DatasetError
            Too few snapshots, or too few whose elements others have, too.
        """
        if not 0 < nvalidation < len(self):
            raise DatasetError(f'of {len(self)} snapshots 1 to {len(self) - 1} can be set aside, not {nvalidation}')
        numbers_t = [read_numbers(file) for file in self.files]
        groups = _by_compound(numbers_t) if compounds else [[t] for t in range(len(self))]
        drawn = _draw(groups, [set(numbers_a.tolist()) for numbers_a in numbers_t], nvalidation, seed)
        return self[np.setdiff1d(np.arange(len(self)), drawn)], self[np.sort(drawn)]

    @cached_property
    def level(self) -> Level:
        """The level of theory that all snapshots share, with the datasets of all elements.

        Raises
        ------
        DatasetError
            They do not; the message lists how the first stranger differs.
        """
        level = read_level(self.files[0])
        for file in self.files[1:]:
            another = read_level(file)
            if differences := another.differences(level):
                raise DatasetError(f'{file} is at another level of theory than those before: ' + '; '.join(differences))
            level = level.joined(another)
        return level

    @cached_property
    def numbers(self) -> list[int]:
        """The atomic numbers of all elements, sorted."""
        return sorted({int(number) for file in self.files for number in read_numbers(file)})

    @cached_property
    def atom_types(self) -> dict[int, AtomType]:
        """What the datasets say of each element, by atomic number, ascending.

        Raises
        ------
        DatasetError
            Atoms of one element with different datasets.
        """
        types: dict[int, AtomType] = {}
        for file in self.files:
            for atom_type in read_atom_types(file):
                known = types.setdefault(atom_type.number, atom_type)
                if not known.is_like(atom_type):
                    raise DatasetError(f'{file}: has another dataset of {known.symbol} than atoms before')
        return dict(sorted(types.items()))

    @cached_property
    def charge(self) -> float:
        """The charge that all systems share, |e|.

        Raises
        ------
        DatasetError
            They do not.
        """
        charges = {read_charge(file): file for file in self.files}
        if len(charges) > 1:
            different = ', '.join(f'{file.name} {charge:g}' for charge, file in charges.items())
            raise DatasetError(f'systems of different charges: {different}')
        return next(iter(charges))

    @cached_property
    def fingerprint(self) -> str:
        """16 hexadecimal digits that change with any snapshot's content, and with which there are in which order.

        Only the beginning of each file is read, where its checksum stands (all of a file of version 1).

        Raises
        ------
        DatasetError
            A file has gone.
        """
        digest = hashlib.sha256()
        for file in self.files:
            try:
                digest.update(stored_checksum(file).encode())
            except OSError as error:
                raise DatasetError(f'{file}: cannot be read ({error.strerror})') from None
        return digest.hexdigest()[:16]


def _by_compound(numbers_t: Sequence[np.ndarray]) -> list[list[int]]:
    """Which snapshots have the same reduced formula."""
    groups: dict[bytes, list[int]] = {}
    for t, numbers_a in enumerate(numbers_t):
        numbers_z, counts_z = np.unique(numbers_a, return_counts=True)
        formula = np.stack([numbers_z, counts_z // np.gcd.reduce(counts_z)])
        groups.setdefault(formula.tobytes(), []).append(t)
    return list(groups.values())


def _draw(groups: Sequence[Sequence[int]], elements_t: Sequence[set[int]], nvalidation: int, seed: int) -> list[int]:
    """Whole groups of snapshots in random order, but no snapshot that is the last with one of its elements."""
    left = Counter(number for elements in elements_t for number in elements)
    drawn, last = list[int](), set[int]()
    for g in np.random.default_rng(seed).permutation(len(groups)):
        if len(drawn) >= nvalidation:
            return drawn
        taken = Counter(number for t in groups[g] for number in elements_t[t])
        if only := {number for number, count in taken.items() if left[number] == count}:
            last |= only
        else:
            drawn += groups[g]
            left.subtract(taken)
    if len(drawn) < nvalidation:
        rare = ', '.join(chemical_symbols[number] for number in sorted(last))
        raise DatasetError(
            f'{len(drawn)} of {len(elements_t)} snapshots can be set aside, not {nvalidation}: each of the others is '
            f'the last one to train on with one of {rare}; more of them are needed'
        )
    return drawn


@dataclass(frozen=True)
class Failure:
    """A geometry whose calculation failed."""

    path: Path
    """Of the record."""
    reason: str
    """The error in one line."""


def read_failures(folder: str | Path) -> list[Failure]:
    """The recorded failures of a folder, sorted by name."""
    files = whole_files(Path(folder), FAILURE_SUFFIX)
    return [Failure(file, str(json.loads(file.read_text())['reason'])) for file in files]


def write_failure(path: Path, reason: str, **details: object) -> Failure:
    """Record a failure, atomically."""
    with replacing(path) as file:
        file.write(json.dumps({'reason': reason, **details}, indent=1) + '\n')
    return Failure(path, reason)


def _snapshot_files(path: Path) -> list[Path]:
    if path.is_file():
        return [path]
    if not path.is_dir():
        raise DatasetError(f'{path}: no such file or folder')
    files = whole_files(path, SNAPSHOT_SUFFIX)
    if not files:
        failed = len(whole_files(path, FAILURE_SUFFIX))
        hint = f'{failed} failed calculations are recorded there' if failed else 'make some with "deepdensity generate"'
        raise DatasetError(f'{path}: no snapshots (*{SNAPSHOT_SUFFIX}) in this folder; {hint}')
    return files
