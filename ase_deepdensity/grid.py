"""The uniform grid on which densities live: cell, boundary conditions, size, and the part of it at hand."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
from ase import Atoms
from numpy.typing import ArrayLike

from ase_deepdensity.arguments import real, shown, three_whole

MAX_SIZE = 10**6
"""Intervals along a lattice vector: more are a slip of an exponent."""


@dataclass(frozen=True, eq=False)
class Grid:
    """A block of the uniform grid R_i = (i₀/N₀, i₁/N₁, i₂/N₂) · cell, as GPAW counts it.

    Parameters
    ----------
    cell_cv
        (3, 3) lattice vectors as rows, Å.
    size_c
        (3,) numbers of intervals N along the lattice vectors (GPAW's ``gpts``).
    pbc_c
        (3,) is the density periodic along this axis?
    zerobc_c
        (3,) is the density zero on the boundary, so that its point i=0 is left out?  Default: where not periodic.
        (GPAW's real-space grids do so; its plane-wave grids never.)
    start_c, stop_c
        (3,) the block at hand, i from start to stop − 1.  Default: the whole grid.

    Raises
    ------
    ValueError
        Flat or non-finite cell, sizes below 1, or a block outside the grid.
    """

    cell_cv: np.ndarray
    size_c: np.ndarray
    pbc_c: np.ndarray = None  # type: ignore[assignment]
    zerobc_c: np.ndarray = None  # type: ignore[assignment]
    start_c: np.ndarray = None  # type: ignore[assignment]
    stop_c: np.ndarray = None  # type: ignore[assignment]

    def __post_init__(self) -> None:
        def put(name: str, value: ArrayLike, shape: tuple[int, ...], dtype: type) -> None:
            array: np.ndarray = np.array(value, dtype=dtype)
            if array.shape != shape:
                raise ValueError(f'{name} must have the shape {shape}, not {array.shape}: {shown(value)}')
            object.__setattr__(self, name, _fixed(array))

        put('cell_cv', self.cell_cv, (3, 3), float)
        put('size_c', self.size_c, (3,), int)
        put('pbc_c', (True,) * 3 if self.pbc_c is None else self.pbc_c, (3,), bool)
        put('zerobc_c', ~self.pbc_c if self.zerobc_c is None else self.zerobc_c, (3,), bool)
        put('start_c', self.zerobc_c if self.start_c is None else self.start_c, (3,), int)
        put('stop_c', self.size_c if self.stop_c is None else self.stop_c, (3,), int)
        if not np.isfinite(self.cell_cv).all() or abs(np.linalg.det(self.cell_cv)) < 1e-9:
            raise ValueError(f'a grid needs three independent lattice vectors; the cell is {self.cell_cv.tolist()} Å')
        if (self.size_c < 1).any():
            raise ValueError(f'a grid needs at least one point along each axis, not {self.size_c.tolist()}')
        if (self.start_c < self.zerobc_c).any() or (self.stop_c > self.size_c).any():
            raise ValueError(
                f'the block {self.start_c.tolist()} to {self.stop_c.tolist()} is outside '
                f'the grid {self.zerobc_c.astype(int).tolist()} to {self.size_c.tolist()}'
            )

    @classmethod
    def from_atoms(cls, atoms: Atoms, size_c: ArrayLike, **kwargs: Any) -> Grid:
        """Grid of ``size_c`` intervals in the cell of ``atoms``."""
        return cls(atoms.cell.array, np.asarray(size_c), atoms.pbc, **kwargs)

    @cached_property
    def shape(self) -> tuple[int, int, int]:
        """Number of points of the block along each axis."""
        n0, n1, n2 = (int(n) for n in np.maximum(self.stop_c - self.start_c, 0))
        return n0, n1, n2

    @cached_property
    def dv(self) -> float:
        """Volume of a grid point, Å³."""
        return abs(float(np.linalg.det(self.cell_cv))) / float(np.prod(self.size_c))

    @cached_property
    def step_cv(self) -> np.ndarray:
        """(3, 3) vectors from a point to its neighbours, Å."""
        return _fixed(self.cell_cv / self.size_c[:, np.newaxis])

    @cached_property
    def spacing_c(self) -> np.ndarray:
        """(3,) distances between the planes of points, Å: GPAW's h."""
        return _fixed(1 / (np.linalg.norm(np.linalg.inv(self.cell_cv), axis=0) * self.size_c))

    @property
    def is_whole(self) -> bool:
        """Is the block at hand the whole grid?"""
        return bool((self.start_c == self.zerobc_c).all() and (self.stop_c == self.size_c).all())

    def points(self) -> np.ndarray:
        """(n0, n1, n2, 3) positions of the points of the block, Å."""
        index_Rc = np.stack(
            np.meshgrid(*(np.arange(a, b) for a, b in zip(self.start_c, self.stop_c, strict=True)), indexing='ij'), -1
        )
        return index_Rc @ self.step_cv

    def around(self, position_v: np.ndarray, reach: float) -> tuple[np.ndarray, np.ndarray]:
        """Points of a whole grid within reach (Å) of a position: flat indices (npoints,), vectors (npoints, 3) there.

        Through periodic boundaries a point may be there several times; beyond zero boundaries there are none.
        """
        centre_c = position_v @ np.linalg.inv(self.step_cv)
        range_ci = list(self._ranges(centre_c, reach / self.spacing_c))
        vector_iiiv = np.stack(np.meshgrid(*range_ci, indexing='ij'), axis=-1) @ self.step_cv - position_v
        near_iii = (vector_iiiv**2).sum(axis=-1) < reach**2
        wrapped_ci = [
            index_i % size - start for index_i, size, start in zip(range_ci, self.size_c, self.start_c, strict=True)
        ]
        index_iii = np.asarray(np.ravel_multi_index(np.meshgrid(*wrapped_ci, indexing='ij'), self.shape))
        return index_iii[near_iii], vector_iiiv[near_iii]

    def _ranges(self, centre_c: np.ndarray, reach_c: np.ndarray) -> Iterator[np.ndarray]:
        for c in range(3):
            first, last = np.ceil(centre_c[c] - reach_c[c]), np.floor(centre_c[c] + reach_c[c])
            if self.zerobc_c[c]:
                first, last = max(first, 1), min(last, self.size_c[c] - 1)
            yield np.arange(int(first), int(last) + 1)

    def new(self, **changes: Any) -> Grid:
        """A changed copy; a change of ``size_c``, ``pbc_c`` or ``zerobc_c`` starts from the whole grid."""
        if changes.keys() & {'size_c', 'pbc_c', 'zerobc_c'}:
            changes = {'start_c': None, 'stop_c': None} | changes
        return replace(self, **changes)

    def slabs(self, max_points: int) -> Iterator[Grid]:
        """The block cut along its first axis into slabs of at most ``max_points`` points (but at least one plane)."""
        planes = max(1, max_points // max(1, self.shape[1] * self.shape[2]))
        for start in range(int(self.start_c[0]), int(self.stop_c[0]), planes):
            stop = min(start + planes, int(self.stop_c[0]))
            yield self.new(start_c=(start, *self.start_c[1:]), stop_c=(stop, *self.stop_c[1:]))

    def __repr__(self) -> str:
        block = '' if self.is_whole else f', block {self.start_c.tolist()} to {self.stop_c.tolist()}'
        return (
            f'Grid({"×".join(map(str, self.size_c.tolist()))} intervals, cell {self.cell_cv.tolist()} Å, '
            f'pbc {self.pbc_c.tolist()}, zero boundaries {self.zerobc_c.tolist()}{block})'
        )

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Grid) and not self.differences(other)

    __hash__ = None  # type: ignore[assignment]

    def differences(self, other: Grid) -> list[str]:
        """Names of the fields in which another grid differs."""
        return [
            name
            for name in ('cell_cv', 'size_c', 'pbc_c', 'zerobc_c', 'start_c', 'stop_c')
            if not np.allclose(getattr(self, name), getattr(other, name), rtol=0, atol=1e-9)
        ]


def _fixed(array: np.ndarray) -> np.ndarray:
    """The same, read-only."""
    array.setflags(write=False)
    return array


def check_size(gpts: Any, h: Any, length: float) -> tuple[tuple[int, int, int] | None, float | None]:
    """Numbers of intervals and spacing (Å) that a user asks for, as plain numbers; None where they are not given.

    Parameters
    ----------
    length
        Of the longest lattice vector, Å.

    Raises
    ------
    ValueError
        Not three whole numbers, no positive spacing, or more than :data:`MAX_SIZE` intervals.
    """
    if gpts is not None:
        gpts = three_whole('gpts', gpts, least=1, most=MAX_SIZE)
    if h is not None:
        h = real('h', h, above=0, unit='Å')
        if length / h > MAX_SIZE:
            raise ValueError(
                f'h = {h} Å is too fine: a lattice vector of {length:.2f} Å would need more than {MAX_SIZE} points'
            )
    return gpts, h
