"""The sums over atoms and grid points: memory, threads and long rows around the compiled loops (:mod:`.kernels`).

Rows along the third axis are *long*: a period of the grid and the reach of an atom more, so that no line of points
wraps inside the loops.  Lines begin in the first period; afterwards the rows are folded back onto the block.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from numpy.typing import DTypeLike

from ase_deepdensity.evaluate import kernels
from ase_deepdensity.evaluate.kernels import LANES, MAX_L, Basis, Lattice, Lines, Work


def collocate(
    rho_R: np.ndarray,
    C_aq: np.ndarray,
    s_ac: np.ndarray,
    steps_cv: np.ndarray,
    exponent_n: np.ndarray,
    l_n: np.ndarray,
    cutoff_n: np.ndarray,
    size_c: np.ndarray,
    start_c: np.ndarray,
    stop_c: np.ndarray,
    pbc_c: np.ndarray,
    nslabs: int,
) -> None:
    """Add Σ_a Σ_n Σ_kji C_a,nkji exp(−α_n r²) wᵏ vʲ uⁱ to ``rho_R``.

    Parameters
    ----------
    rho_R
        (n0, n1, n2) float32 or float64, the block.
    C_aq
        (natoms, nq) of the same type, the monomials of each function ordered k, j, i with k + j + i ≤ l_n.
    s_ac
        (natoms, 3) positions in units of grid steps, inside the cell where the grid is periodic.
    steps_cv
        (3, 3) grid steps in the frame (u, v, w), Å, lower triangular with a positive diagonal.
    exponent_n, l_n, cutoff_n
        Å⁻², highest angular momentum, Å; exponents ascending.
    size_c, start_c, stop_c, pbc_c
        The block, see :func:`.gaussians.block`.
    nslabs
        Number of threads; each takes a slab of the block.
    """
    lattice = _lattice(steps_cv, size_c, start_c, stop_c, pbc_c)
    basis = _basis(exponent_n, l_n, cutoff_n)
    C_aq, s_ac = np.ascontiguousarray(C_aq, rho_R.dtype), np.ascontiguousarray(s_ac, float)

    def slab(first: int, last: int) -> None:
        lines, work = _memory(lattice, basis, rho_R.dtype)
        long_R = _long_rows(lattice, rho_R[first:last], len(work.ramp_k))
        kernels.collocate(long_R, first, C_aq, s_ac, lattice, basis, lines, work)
        _fold(rho_R[first:last], long_R, lattice)

    _share(slab, len(rho_R), nslabs)


def integrate(
    C_aq: np.ndarray,
    rho_R: np.ndarray,
    s_ac: np.ndarray,
    steps_cv: np.ndarray,
    exponent_n: np.ndarray,
    l_n: np.ndarray,
    cutoff_n: np.ndarray,
    size_c: np.ndarray,
    start_c: np.ndarray,
    stop_c: np.ndarray,
    pbc_c: np.ndarray,
    nthreads: int = 1,
) -> None:
    """The transpose of :func:`collocate`: C_a,nkji += Σ_R rho_R exp(−α_n r²) wᵏ vʲ uⁱ, the atoms shared by threads."""
    lattice = _lattice(steps_cv, size_c, start_c, stop_c, pbc_c)
    basis = _basis(exponent_n, l_n, cutoff_n)
    s_ac = np.ascontiguousarray(s_ac, float)
    long_R = _long_rows(lattice, rho_R, len(_ramp(lattice, basis.cutoff_n[0], rho_R.dtype)))
    _unfold(long_R, rho_R, lattice)

    def atoms(first: int, last: int) -> None:
        lines, work = _memory(lattice, basis, rho_R.dtype)
        kernels.integrate(long_R, 0, C_aq[first:last], s_ac[first:last], lattice, basis, lines, work)

    _share(atoms, len(s_ac), nthreads)


def add_radial(
    rho_R: np.ndarray,
    table_xp: np.ndarray,
    x_step: float,
    cutoff: float,
    s_ac: np.ndarray,
    steps_cv: np.ndarray,
    size_c: np.ndarray,
    start_c: np.ndarray,
    stop_c: np.ndarray,
    pbc_c: np.ndarray,
    nslabs: int,
) -> None:
    """Add Σ_a f(r²) for one spherical function, piecewise cubic in r²: ``table_xp`` (intervals, 4), Horner order.

    ``x_step`` is the width of an interval, Å², ``cutoff`` where f ends, Å; the rest as for :func:`collocate`.
    """
    lattice = _lattice(steps_cv, size_c, start_c, stop_c, pbc_c)
    dtype = rho_R.dtype
    table_xp, s_ac = np.ascontiguousarray(table_xp, dtype), np.ascontiguousarray(s_ac, float)

    def slab(first: int, last: int) -> None:
        lines, ramp_k = _lines(lattice, cutoff, dtype), _ramp(lattice, cutoff, dtype)
        long_R = _long_rows(lattice, rho_R[first:last], len(ramp_k))
        kernels.add_tables(long_R, first, table_xp, dtype.type(1 / x_step), float(cutoff), s_ac, lattice, lines, ramp_k)
        _fold(rho_R[first:last], long_R, lattice)

    _share(slab, len(rho_R), nslabs)


def _share(work: Callable[[int, int], None], number: int, nthreads: int) -> None:
    """Split range(number) among threads; the compiled loops release the GIL."""
    nthreads = max(1, min(nthreads, number))
    bounds = [i * number // nthreads for i in range(nthreads + 1)]
    if nthreads == 1:
        work(0, number)
        return
    with ThreadPoolExecutor(nthreads) as pool:
        list(pool.map(work, bounds[:-1], bounds[1:]))


def _lattice(
    steps_cv: np.ndarray, size_c: np.ndarray, start_c: np.ndarray, stop_c: np.ndarray, pbc_c: np.ndarray
) -> Lattice:
    """One memory layout, lest numba compile for others; skew within rounding counts as none."""
    step_cv = np.where(np.abs(steps_cv) < 1e-12 * np.abs(steps_cv).max(), 0.0, steps_cv)
    size_c, start_c, stop_c = (np.array(x_c, np.int64) for x_c in (size_c, start_c, stop_c))
    return Lattice(np.ascontiguousarray(step_cv), size_c, start_c, stop_c, np.array(pbc_c, bool))


def _basis(exponent_n: np.ndarray, l_n: np.ndarray, cutoff_n: np.ndarray) -> Basis:
    return Basis(np.array(exponent_n, float), np.array(l_n, np.int64), np.array(cutoff_n, float))


def _ramp(lattice: Lattice, reach: float, dtype: DTypeLike) -> np.ndarray:
    """Multiples of the step along a line on both sides of zero, as far as ``reach`` and some more for whole vectors."""
    half = int(reach / lattice.step_cv[2, 2]) + 2 + LANES
    return (np.arange(-half, half + 1) * lattice.step_cv[2, 2]).astype(dtype)


def _lines(lattice: Lattice, reach: float, dtype: DTypeLike) -> Lines:
    """Memory for the lines of a plane that pass within ``reach``."""
    n = int(2 * reach / lattice.step_cv[1, 1]) + 3
    row_i, first_i, count_i, ramp_i, offset_i = (np.zeros(n, np.int64) for _ in range(5))
    v_i, center_i = np.zeros(n), np.zeros(n)
    w_i, factor_i = np.zeros(n, dtype), np.zeros(n, dtype)
    return Lines(row_i, v_i, center_i, first_i, count_i, w_i, ramp_i, factor_i, offset_i)


def _memory(lattice: Lattice, basis: Basis, dtype: DTypeLike) -> tuple[Lines, Work]:
    lines = _lines(lattice, basis.cutoff_n[0], dtype)
    ramp_k = _ramp(lattice, basis.cutoff_n[0], dtype)
    nlines = len(lines.row_i)
    return lines, Work(
        ramp_k,
        b_p=np.zeros((MAX_L + 1) * (MAX_L + 2) // 2, dtype),
        a_mi=np.zeros((MAX_L + 1, nlines), dtype),
        e_nk=np.zeros((len(basis.exponent_n), len(ramp_k)), dtype),
        e_x=np.zeros(nlines * len(ramp_k), dtype),
    )


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


def _unfold(long_R: np.ndarray, rho_R: np.ndarray, lattice: Lattice) -> None:
    """The transpose of :func:`_fold`: repeat the block along long rows; what is outside the block reads as zero."""
    for start in _periods(lattice, long_R.shape[2]):
        part_R = long_R[:, :, start : start + rho_R.shape[2]]
        part_R[:] = rho_R[:, :, : part_R.shape[2]]
