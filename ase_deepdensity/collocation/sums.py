"""The sums over atoms and grid points: memory, threads and long rows around the compiled loops (:mod:`.kernels`).

Rows along the third axis are *long*: a period of the grid and the reach of an atom more, so that no line of points
wraps inside the loops.  Lines begin in the first period; afterwards the rows are folded back onto the block.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from math import prod
from typing import TypeVar

import numpy as np
from numpy.typing import DTypeLike

from ase_deepdensity.basis import RadialTable
from ase_deepdensity.collocation import kernels, point_kernels
from ase_deepdensity.collocation.kernels import LANES, WIDTH, Lattice, Lines, Places, Slopes, Work
from ase_deepdensity.collocation.point_kernels import Pairs, Reach

MIN_PAIRS = 4096
"""Pairs of an atom and a point that are sorted together where points are few."""
T = TypeVar('T')


def rows(number: int) -> int:
    """Rows that ``number`` B-splines need in the kernels: a mirror image before them, zeros for the end behind."""
    return number + 5


def collocate(
    rho_R: np.ndarray,
    parts: Sequence[tuple[np.ndarray, np.ndarray]],
    spacing: float,
    cutoff: float,
    lattice: Lattice,
    nslabs: int,
) -> None:
    """Add Σ_a Σ_p B(r/h + 1 − p) Σ_ijk C_a,ijpk uⁱ vʲ wᵏ to ``rho_R``, B the cubic B-spline of unit spacing.

    Parameters
    ----------
    rho_R
        (n0, n1, n2) float32 or float64, the block.
    parts
        Of some atoms at a time ``C_aijpk`` (natoms, 5, 5, rows, 5) of the same type, see :func:`rows`, and ``s_ac``
        (natoms, 3): positions in units of grid steps, inside the cell where the grid is periodic.
    spacing, cutoff
        h of the B-splines, and where the last ends, Å.
    lattice
        The block, see :func:`.on_grids.lattice`.
    nslabs
        Number of threads; each takes a slab of the block.
    """
    if not parts:
        return
    nrows = parts[0][0].shape[3]
    flat_parts = [
        (
            np.ascontiguousarray(C_aijpk, rho_R.dtype).reshape(len(s_ac), WIDTH, WIDTH * nrows * WIDTH),
            np.ascontiguousarray(s_ac, float),
        )
        for C_aijpk, s_ac in parts
    ]

    def slab(first: int, last: int) -> None:
        lines, work = _memory(lattice, cutoff, nrows, rho_R.dtype)
        long_R = _long_rows(lattice, rho_R[first:last], len(work.ramp_k))
        for C_aix, s_ac in flat_parts:
            kernels.collocate(long_R, first, C_aix, s_ac, lattice, spacing, cutoff, lines, work)
        _fold(rho_R[first:last], long_R, lattice)

    _share(slab, len(rho_R), nslabs)


def integrate(
    rho_R: np.ndarray,
    s_ac: np.ndarray,
    nrows: int,
    spacing: float,
    cutoff: float,
    lattice: Lattice,
    nthreads: int = 1,
) -> np.ndarray:
    """The transpose of :func:`collocate`: C_a,ijpk = Σ_R rho_R B(r/h + 1 − p) uⁱ vʲ wᵏ, (natoms, 5, 5, nrows, 5).

    The arguments are those of :func:`collocate`; ``nrows``: see :func:`rows`; the atoms are shared by threads.
    """
    s_ac = np.ascontiguousarray(s_ac, float)
    long_R = _repeated_rows(lattice, rho_R, cutoff)
    C_aix = np.zeros((len(s_ac), WIDTH, WIDTH * nrows * WIDTH), rho_R.dtype)

    def atoms(first: int, last: int) -> None:
        lines, work = _memory(lattice, cutoff, nrows, rho_R.dtype)
        kernels.integrate(long_R, 0, C_aix[first:last], s_ac[first:last], lattice, spacing, cutoff, lines, work)

    _share(atoms, len(s_ac), nthreads)
    return C_aix.reshape(len(s_ac), WIDTH, WIDTH, nrows, WIDTH)


def position_gradients(
    rho_R: np.ndarray,
    C_aijpk: np.ndarray,
    s_ac: np.ndarray,
    spacing: float,
    cutoff: float,
    lattice: Lattice,
    nthreads: int = 1,
) -> np.ndarray:
    """Derivatives of Σ_R rho_R ρ(R), ρ of :func:`collocate` with fixed coefficients, with respect to the positions.

    Along u, v, w: (natoms, 3), per Å.  The arguments are those of :func:`collocate`; the atoms are shared by threads.
    """
    s_ac, nrows, dtype = np.ascontiguousarray(s_ac, float), C_aijpk.shape[3], rho_R.dtype
    C_aix = np.ascontiguousarray(C_aijpk, dtype).reshape(len(s_ac), WIDTH, WIDTH * nrows * WIDTH)
    long_R = _repeated_rows(lattice, rho_R, cutoff)
    gradient_av = np.zeros((len(s_ac), 3))

    def atoms(first: int, last: int) -> None:
        lines, work = _memory(lattice, cutoff, nrows, dtype)
        slopes = Slopes(
            S_mk=np.zeros_like(work.B_mk),
            inverse_k=np.zeros_like(work.ramp_k),
            b_ijx=np.zeros((2, *work.b_jx.shape), dtype),
            a_ix=np.zeros((3, len(work.a_x)), dtype),
        )
        kernels.position_gradients(
            long_R, gradient_av[first:last], C_aix[first:last], s_ac[first:last], lattice, spacing, cutoff, lines, work,
            slopes,
        )  # fmt: skip

    _share(atoms, len(s_ac), nthreads)
    return gradient_av


def add_radial(
    rho_R: np.ndarray, parts: Sequence[tuple[RadialTable, np.ndarray]], lattice: Lattice, nslabs: int
) -> None:
    """Add Σ_a f(r²) of spherical functions, each with the positions ``s_ac`` (natoms, 3) of the atoms that have it.

    The rest as for :func:`collocate`.
    """
    if not parts:
        return
    dtype, longest = rho_R.dtype, max(table.cutoff for table, _ in parts)

    def slab(first: int, last: int) -> None:
        lines, places = _lines(lattice, longest, dtype), _places(lattice, longest, dtype)
        long_R = _long_rows(lattice, rho_R[first:last], len(places.ramp_k))
        for table, s_ac in parts:
            table_xp = np.concatenate([table.table_xp, np.zeros((1, 4))]).astype(dtype)  # zeros beyond the cutoff
            kernels.add_tables(
                long_R, first, np.empty((0, 3)), table_xp, dtype.type(1 / table.x_step), float(table.cutoff),
                np.ascontiguousarray(s_ac, float), lattice, lines, places,
            )  # fmt: skip
        _fold(rho_R[first:last], long_R, lattice)

    _share(slab, len(rho_R), nslabs)


def radial_gradients(
    rho_R: np.ndarray, table: RadialTable, s_ac: np.ndarray, lattice: Lattice, nthreads: int = 1
) -> np.ndarray:
    """Derivatives of Σ_R rho_R f(|r_R − r_a|²) with respect to the positions r_a, along u, v, w: (natoms, 3), per Å."""
    dtype, cutoff = rho_R.dtype, float(table.cutoff)
    table_xp, s_ac = np.ascontiguousarray(table.table_xp, dtype), np.ascontiguousarray(s_ac, float)
    long_R = _repeated_rows(lattice, rho_R, cutoff)
    gradient_av = np.zeros((len(s_ac), 3))

    def atoms(first: int, last: int) -> None:
        lines, places = _lines(lattice, cutoff, dtype), _places(lattice, cutoff, dtype)
        kernels.table_gradients(
            long_R, 0, gradient_av[first:last], table_xp, dtype.type(1 / table.x_step), cutoff, s_ac[first:last],
            lattice, lines, places,
        )  # fmt: skip

    _share(atoms, len(s_ac), nthreads)
    return gradient_av


def add_at_points(
    density_xp: np.ndarray, C_xarq: np.ndarray, reach: Reach, spacing: float, cutoff: float, nthreads: int = 1
) -> None:
    """Add Σ_a Σ_row B(r/h + 1 − row) Σ_q C_a,row,q xⁱ yʲ zᵏ to each of some densities at points of many systems.

    Parameters
    ----------
    density_xp
        (densities, points) float32 or float64.
    C_xarq
        (densities, natoms, rows, NQ) of the same type, exponents as in :data:`.point_kernels.POWERS_qv`; rows as for
        :func:`collocate`.
    nthreads
        They share the atoms.
    """

    def atoms(first: int, last: int) -> np.ndarray:
        part_xp = np.zeros_like(density_xp)
        pairs = _pairs(reach, C_xarq)
        point_kernels.add_at_points(part_xp, C_xarq, reach, pairs, first, last, spacing, cutoff)
        return part_xp

    for part_xp in _share(atoms, C_xarq.shape[1], nthreads):
        density_xp += part_xp


def integrate_points(
    C_xarq: np.ndarray, weight_xp: np.ndarray, reach: Reach, spacing: float, cutoff: float, nthreads: int = 1
) -> None:
    """Add the transpose of :func:`add_at_points` to ``C_xarq``."""

    def atoms(first: int, last: int) -> None:
        pairs = _pairs(reach, C_xarq)
        point_kernels.integrate_points(C_xarq, weight_xp, reach, pairs, first, last, spacing, cutoff)

    _share(atoms, C_xarq.shape[1], nthreads)


def point_gradients(
    gradient_av: np.ndarray,
    weight_xp: np.ndarray,
    C_xarq: np.ndarray,
    reach: Reach,
    spacing: float,
    cutoff: float,
    nthreads: int = 1,
) -> None:
    """Add derivatives of Σ weight_xp density_xp with respect to the positions to ``gradient_av`` (natoms, 3), per Å."""

    def atoms(first: int, last: int) -> None:
        pairs = _pairs(reach, C_xarq)
        point_kernels.point_gradients(gradient_av, weight_xp, C_xarq, reach, pairs, first, last, spacing, cutoff)

    _share(atoms, len(gradient_av), nthreads)


def _pairs(reach: Reach, C_xarq: np.ndarray) -> Pairs:
    """Memory for the pairs of an atom: the points of its system several times over."""
    dtype, nrows = C_xarq.dtype, C_xarq.shape[2]
    most = int((reach.points_ax[:, 1] - reach.points_ax[:, 0]).max(initial=0))
    capacity = max(2 * most, MIN_PAIRS) + 2 * LANES
    return Pairs(
        found_k=np.zeros(capacity, np.int64),
        away_vk=np.zeros((3, capacity), dtype),
        knots_k=np.zeros(capacity, dtype),
        point_k=np.zeros(capacity, np.int64),
        e_vk=np.zeros((3, capacity), dtype),
        t_k=np.zeros(capacity, dtype),
        start_r=np.zeros(nrows - 2, np.int64),
        B_mk=np.zeros((4, capacity), dtype),
        value_k=np.zeros(capacity, dtype),
        f_q=np.zeros(point_kernels.NQ, dtype),
        slope_vq=np.zeros((3, point_kernels.NQ), dtype),
    )


def _share(work: Callable[[int, int], T], number: int, nthreads: int) -> list[T]:
    """Split range(number) among threads, and what each returns; the compiled loops release the GIL."""
    nthreads = max(1, min(nthreads, number))
    bounds = [i * number // nthreads for i in range(nthreads + 1)]
    if nthreads == 1:
        return [work(0, number)]
    with ThreadPoolExecutor(nthreads) as pool:
        return list(pool.map(work, bounds[:-1], bounds[1:]))


def _ramp(lattice: Lattice, reach: float, dtype: DTypeLike) -> np.ndarray:
    """Multiples of the step along a line: as many as lie within ``reach`` on both sides, and more for whole vectors."""
    number = int(2 * reach / lattice.step_cv[2, 2]) + 2 + LANES
    return (np.arange(number) * lattice.step_cv[2, 2]).astype(dtype)


def _lines(lattice: Lattice, reach: float, dtype: DTypeLike) -> Lines:
    """Memory for the lines of a plane that pass within ``reach``."""
    n = int(2 * reach / lattice.step_cv[1, 1]) + 3
    row_i, first_i, count_i = (np.zeros(n, np.int64) for _ in range(3))
    return Lines(row_i, np.zeros(n), np.zeros(n), first_i, count_i, np.zeros(n, dtype))


def _places(lattice: Lattice, reach: float, dtype: DTypeLike) -> Places:
    ramp_k = _ramp(lattice, reach, dtype)
    return Places(ramp_k, np.zeros(len(ramp_k), np.int32), np.zeros(len(ramp_k), dtype))


def _memory(lattice: Lattice, cutoff: float, nrows: int, dtype: DTypeLike) -> tuple[Lines, Work]:
    ramp_k = _ramp(lattice, cutoff, dtype)
    return _lines(lattice, cutoff, dtype), Work(
        ramp_k,
        b_jx=_with_room((WIDTH, nrows * WIDTH), dtype),
        a_x=_with_room((nrows * WIDTH,), dtype),
        B_mk=np.zeros((4, len(ramp_k)), dtype),
        row_k=np.zeros(len(ramp_k), np.int32),
    )


def _with_room(shape: tuple[int, ...], dtype: DTypeLike) -> np.ndarray:
    """Zeros, behind which there is memory for vector code that runs beyond their end."""
    size = prod(shape)
    return np.zeros(size + LANES, dtype)[:size].reshape(shape)


def _long_rows(lattice: Lattice, rho_R: np.ndarray, width: int) -> np.ndarray:
    """Zeros: a period (or the block, where nothing wraps) and ``width`` more."""
    n0, n1, n2 = rho_R.shape
    return np.zeros((n0, n1, (int(lattice.size_c[2]) if lattice.pbc_c[2] else n2) + width), rho_R.dtype)


def _periods(lattice: Lattice, length: int) -> range:
    """Where the block begins again and again along a long row."""
    if lattice.pbc_c[2]:
        return range(int(lattice.start_c[2]), length, int(lattice.size_c[2]))
    return range(1)


def _fold(rho_R: np.ndarray, long_R: np.ndarray, lattice: Lattice) -> None:
    """Add long rows to the block."""
    for start in _periods(lattice, long_R.shape[2]):
        part_R = long_R[:, :, start : start + rho_R.shape[2]]
        rho_R[:, :, : part_R.shape[2]] += part_R


def _repeated_rows(lattice: Lattice, rho_R: np.ndarray, reach: float) -> np.ndarray:
    """The transpose of :func:`_fold`: the block repeated along long rows; what is outside the block reads as zero."""
    long_R = _long_rows(lattice, rho_R, len(_ramp(lattice, reach, rho_R.dtype)))
    for start in _periods(lattice, long_R.shape[2]):
        part_R = long_R[:, :, start : start + rho_R.shape[2]]
        part_R[:] = rho_R[:, :, : part_R.shape[2]]
    return long_R
