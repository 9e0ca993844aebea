"""Compiled loops over the grid points near each atom (numba, CPU).

All kernels walk along *lines* of the grid, the third lattice direction, because points of a line are neighbours in
memory.  Positions are measured along unit vectors u, v, w: w along the third step vector, v in the plane of the second
and third, so that u depends on i₀ alone, v on i₀ and i₁, in every cell, skewed ones included.

An atom's density is a polynomial in u, v, w for each B-spline of the distance.  The sum over powers of u is done once
per plane, that over powers of v once per line; what remains per point are the four B-splines that are not zero there,
each with a polynomial in w.

Three habits make the loops fast.  They write into rows longer than the cell, folded back at the end, so that nothing
wraps inside (:mod:`.sums`).  Loops that become vector code run over whole multiples of ``LANES``, which needs no
remainders.  Indices are unsigned, which spares a test for negative ones.

The compiled code stands in one file because numba's cache does not notice changes in other files, and calls are no more
than three deep because numba optimises a callee again at each level.
"""

from __future__ import annotations

import functools
import warnings
from typing import NamedTuple

import numba
import numpy as np

from ase_deepdensity.basis import MAX_L
from ase_deepdensity.collocation.vectors import POINTS, add_cubics, add_polynomials

LANES = 16
WIDTH = MAX_L + 1
"""Powers of u, v and w that the loops are written out for."""

unsigned = np.uint64


def jit(function, forceinline=False):
    """Compile for numba; the machine code is kept beside this file, or else in the user's cache, where there is one."""
    options = {'nogil': True, 'fastmath': True, 'error_model': 'numpy', 'forceinline': forceinline}
    try:
        return numba.njit(cache=True, **options)(function)
    except RuntimeError as error:  # numba finds no folder that it can write to
        if 'no locator' not in str(error):
            raise
        _warn_not_kept()
        return numba.njit(**options)(function)


def inlined(function):
    """The same, without calls: an array is eight arguments of one, which for a line of points takes as long as work."""
    return jit(function, forceinline=True)


@functools.cache
def _warn_not_kept() -> None:
    warnings.warn(
        'no folder to keep compiled kernels in: each process compiles them anew, which takes some seconds; '
        'set NUMBA_CACHE_DIR to a folder that can be written to',
        stacklevel=3,
    )


class Lattice(NamedTuple):
    """A block of a grid, as :class:`.Grid` has it."""

    step_cv: np.ndarray
    """(3, 3) steps along u, v and w, Å: lower triangular with a positive diagonal."""
    size_c: np.ndarray
    """(3,) intervals of the whole grid."""
    start_c: np.ndarray
    """(3,) first point of the block."""
    stop_c: np.ndarray
    """(3,) the point after its last."""
    pbc_c: np.ndarray
    """(3,) do images count along this axis?"""


class Lines(NamedTuple):
    """The lines of one plane near an atom, and the part of each within the cutoff; all arrays are (lines,)."""

    row_i: np.ndarray
    """Index of the long row."""
    v_i: np.ndarray
    """Å."""
    center_i: np.ndarray
    """Where w = 0, in steps from the beginning of the long row."""
    first_i: np.ndarray
    """First point within the cutoff."""
    count_i: np.ndarray
    """Number of points within the cutoff."""
    w_i: np.ndarray
    """w of the first point, Å."""


class Work(NamedTuple):
    """Memory used again and again.  x runs over rows of B-splines and powers of w, k over the points of a line."""

    ramp_k: np.ndarray
    """(points,) multiples of the step along a line, Å."""
    b_jx: np.ndarray
    """(WIDTH, rows · WIDTH) polynomials in v and w of a plane."""
    a_x: np.ndarray
    """(rows · WIDTH,) polynomials in w of a line."""
    B_mk: np.ndarray
    """(4, points) the four B-splines along a line."""
    row_k: np.ndarray
    """(points,) the first of them."""


class Places(NamedTuple):
    """Memory used again and again: where the points of a line are in a table."""

    ramp_k: np.ndarray
    """(points,) multiples of the step along a line, Å."""
    row_k: np.ndarray
    """(points,) the interval of each."""
    t_k: np.ndarray
    """(points,) where in it, 0 to 1."""


class Slopes(NamedTuple):
    """The same where derivatives are wanted; i is the axis of the derivative: u, v, or no derivative."""

    S_mk: np.ndarray
    """(4, points) derivatives of the B-splines, 1/Å."""
    inverse_k: np.ndarray
    """(points,) 1/r, 1/Å."""
    b_ijx: np.ndarray
    """(2, WIDTH, rows · WIDTH) derivatives with respect to u, and no derivative, of the polynomials of a plane."""
    a_ix: np.ndarray
    """(3, rows · WIDTH) those of a line."""


# --- which points ---------------------------------------------------------------------------------------------------


@jit
def _chord(lattice, c, center, half):
    """First index and one past the last within ``half`` of ``center`` along axis c, in the block or its images."""
    first = int(np.ceil(center - half))
    last = int(np.floor(center + half)) + 1
    if not lattice.pbc_c[c]:
        first = max(first, lattice.start_c[c])
        last = min(last, lattice.stop_c[c])
    return first, last


@jit
def _wrapped(lattice, c, index):
    """Index inside the block along axis c, or −1."""
    i = index % lattice.size_c[c] if lattice.pbc_c[c] else index
    return i - lattice.start_c[c] if lattice.start_c[c] <= i < lattice.stop_c[c] else -1


@inlined
def _find_lines(lines, lattice, s_c, d0, first_row, reach):
    """Lines of the plane ``d0`` steps from the atom that pass within ``reach``; returns their number."""
    step_cv = lattice.step_cv
    h0u, h0v, h0w = step_cv[0, 0], step_cv[0, 1], step_cv[0, 2]
    h1v, h1w, h2w = step_cv[1, 1], step_cv[1, 2], step_cv[2, 2]
    half = np.sqrt(max(reach**2 - (d0 * h0u) ** 2, 0.0))
    first, last = _chord(lattice, 1, s_c[1] - d0 * h0v / h1v, half / h1v)
    size, begin, end = lattice.size_c[1], lattice.start_c[1], lattice.stop_c[1]
    row = first % size if lattice.pbc_c[1] else first
    n = 0
    for i1 in range(first, last):
        if begin <= row < end:
            d1 = i1 - s_c[1]
            lines.row_i[n] = first_row + row - begin
            lines.v_i[n] = d1 * h1v + d0 * h0v
            lines.center_i[n] = s_c[2] - (d1 * h1w + d0 * h0w) / h2w
            n += 1
        row += 1
        if lattice.pbc_c[1] and row == size:
            row = 0
    if lattice.pbc_c[2]:  # the period in which the line begins is the first of the long row
        half, period = reach / h2w, float(lattice.size_c[2])
        for i in range(unsigned(n)):
            lines.center_i[i] -= np.floor((lines.center_i[i] - half) / period) * period
    else:
        for i in range(unsigned(n)):
            lines.center_i[i] -= lattice.start_c[2]
    return n


@inlined
def _cut_lines(lines, lattice, n, u, cutoff):
    """Points of the ``n`` lines of a plane within ``cutoff``; returns which lines have any."""
    h2w = lattice.step_cv[2, 2]
    left2 = cutoff**2 - u**2
    begin, end = 0, n
    while begin < end and lines.v_i[begin] ** 2 >= left2:
        begin += 1
    while begin < end and lines.v_i[end - 1] ** 2 >= left2:
        end -= 1
    for i in range(unsigned(begin), unsigned(end)):
        center = lines.center_i[i]
        half = np.sqrt(left2 - lines.v_i[i] ** 2) / h2w
        first, last = np.ceil(center - half), np.floor(center + half)
        if not lattice.pbc_c[2]:
            first, last = max(first, 0.0), min(last, lattice.stop_c[2] - lattice.start_c[2] - 1.0)
        lines.first_i[i] = int(first)
        lines.count_i[i] = max(int(last - first) + 1, 0)
        lines.w_i[i] = (first - center) * h2w
    return unsigned(begin), unsigned(end)


@inlined
def _whole(number):
    """Up to a multiple of ``LANES``."""
    return (unsigned(number) + unsigned(LANES - 1)) // unsigned(LANES) * unsigned(LANES)


# --- B-splines ------------------------------------------------------------------------------------------------------


@inlined
def _splines(work, uv2, w0, per_spacing, count):
    """The four B-splines that are not zero at each point of a line, and the row of the first."""
    ramp_k, row_k = work.ramp_k, work.row_k
    B0_k, B1_k, B2_k, B3_k = work.B_mk[0], work.B_mk[1], work.B_mk[2], work.B_mk[3]
    sixth = ramp_k.dtype.type(1 / 6)
    last = np.int32(len(work.a_x) // WIDTH - 4)  # zeros from here on
    for k in range(_whole(count)):
        w = w0 + ramp_k[k]
        x = np.sqrt(uv2 + w * w) * per_spacing
        row = np.int32(x)
        t = x - ramp_k.dtype.type(row)
        s = 1 - t
        row_k[k] = min(row, last)
        B0_k[k] = s * s * s * sixth
        B1_k[k] = (4 + t * t * (3 * t - 6)) * sixth
        B2_k[k] = (4 + s * s * (3 * s - 6)) * sixth
        B3_k[k] = t * t * t * sixth


@inlined
def _spline_slopes(slopes, work, uv2, w0, per_spacing, count):
    """dB/dr of the same four B-splines, 1/Å, and 1/r."""
    ramp_k = work.ramp_k
    S0_k, S1_k, S2_k, S3_k = slopes.S_mk[0], slopes.S_mk[1], slopes.S_mk[2], slopes.S_mk[3]
    half = ramp_k.dtype.type(0.5) * per_spacing
    tiny = ramp_k.dtype.type(1e-12)
    for k in range(_whole(count)):
        w = w0 + ramp_k[k]
        r = np.sqrt(uv2 + w * w)
        x = r * per_spacing
        t = x - ramp_k.dtype.type(np.int32(x))
        s = 1 - t
        slopes.inverse_k[k] = 1 / max(r, tiny)
        S0_k[k] = -s * s * half
        S1_k[k] = t * (3 * t - 4) * half
        S2_k[k] = s * (4 - 3 * s) * half
        S3_k[k] = t * t * half


# --- coefficients → density -----------------------------------------------------------------------------------------


@inlined
def _sum_powers(out_x, C_ix, u, first, number):
    """Σ_i C_ix uⁱ of so many x from ``first`` on."""
    C0_x, C1_x, C2_x, C3_x, C4_x = C_ix[0], C_ix[1], C_ix[2], C_ix[3], C_ix[4]
    for x in range(first, first + number):
        out_x[x] = C0_x[x] + u * (C1_x[x] + u * (C2_x[x] + u * (C3_x[x] + u * C4_x[x])))


@inlined
def _add_line(rho_x, start, work, w0, count):
    """rho += Σ_rows B(r) Σ_k a_row,k wᵏ along a line that begins at ``start``; beyond its end B is zero."""
    B_mk = work.B_mk
    for k in range(unsigned(0), count, unsigned(POINTS)):
        add_polynomials(rho_x, start, work.a_x, work.row_k, B_mk[0], B_mk[1], B_mk[2], B_mk[3], work.ramp_k, w0, k)


# --- density → coefficients -----------------------------------------------------------------------------------------


@inlined
def _add_moments(a_x, x, value, w):
    a_x[x] += value
    value *= w
    a_x[x + unsigned(1)] += value
    value *= w
    a_x[x + unsigned(2)] += value
    value *= w
    a_x[x + unsigned(3)] += value
    value *= w
    a_x[x + unsigned(4)] += value


@inlined
def _line_moments(rho_x, start, work, w0, count):
    """a_row,k += Σ_points rho B(r) wᵏ: the transpose of :func:`_add_line`."""
    a_x, ramp_k, row_k = work.a_x, work.ramp_k, work.row_k
    B0_k, B1_k, B2_k, B3_k = work.B_mk[0], work.B_mk[1], work.B_mk[2], work.B_mk[3]
    for k in range(count):
        x = unsigned(row_k[k]) * unsigned(WIDTH)
        rho, w = rho_x[start + k], w0 + ramp_k[k]
        _add_moments(a_x, x, rho * B0_k[k], w)
        _add_moments(a_x, x + unsigned(5), rho * B1_k[k], w)
        _add_moments(a_x, x + unsigned(10), rho * B2_k[k], w)
        _add_moments(a_x, x + unsigned(15), rho * B3_k[k], w)


@inlined
def _spread_powers(C_ix, out_x, u, first):
    """C_ix += out_x uⁱ, then out_x = 0: the transpose of :func:`_sum_powers`."""
    C0_x, C1_x, C2_x, C3_x, C4_x = C_ix[0], C_ix[1], C_ix[2], C_ix[3], C_ix[4]
    u2 = u * u
    for x in range(first, unsigned(len(out_x))):
        value = out_x[x]
        C0_x[x] += value
        C1_x[x] += u * value
        C2_x[x] += u2 * value
        C3_x[x] += u * u2 * value
        C4_x[x] += u2 * u2 * value
        out_x[x] = 0


# --- derivatives with respect to positions --------------------------------------------------------------------------


@inlined
def _sum_slopes(out_x, C_ix, u, first):
    """Σ_i C_ix i uⁱ⁻¹ from x = ``first`` on."""
    C1_x, C2_x, C3_x, C4_x = C_ix[1], C_ix[2], C_ix[3], C_ix[4]
    for x in range(first, unsigned(len(out_x))):
        out_x[x] = C1_x[x] + u * (2 * C2_x[x] + u * (3 * C3_x[x] + u * 4 * C4_x[x]))


@jit
def _in_w(a_x, x, w):
    """The polynomial in w of a row."""
    return a_x[x] + w * (
        a_x[x + unsigned(1)] + w * (a_x[x + unsigned(2)] + w * (a_x[x + unsigned(3)] + w * a_x[x + unsigned(4)]))
    )


@inlined
def _line_gradient(rho_x, start, work, slopes, u, v, w0, count):
    """Σ_points rho ∇[Σ_rows B(r) P_row(u, v, w)] along a line: its components along u, v and w."""
    au_x, av_x, a_x = slopes.a_ix[0], slopes.a_ix[1], slopes.a_ix[2]
    ramp_k, row_k = work.ramp_k, work.row_k
    sum_u = sum_v = sum_w = ramp_k.dtype.type(0)
    for k in range(count):
        w = w0 + ramp_k[k]
        radial = along_u = along_v = along_w = ramp_k.dtype.type(0)
        for m in range(unsigned(4)):
            x = (unsigned(row_k[k]) + m) * unsigned(WIDTH)
            B, S = work.B_mk[m, k], slopes.S_mk[m, k]
            radial += S * _in_w(a_x, x, w)
            along_u += B * _in_w(au_x, x, w)
            along_v += B * _in_w(av_x, x, w)
            along_w += B * (
                a_x[x + unsigned(1)]
                + w * (2 * a_x[x + unsigned(2)] + w * (3 * a_x[x + unsigned(3)] + w * 4 * a_x[x + unsigned(4)]))
            )
        rho = rho_x[start + k]
        radial *= slopes.inverse_k[k]
        sum_u += rho * (radial * u + along_u)
        sum_v += rho * (radial * v + along_v)
        sum_w += rho * (radial * w + along_w)
    return sum_u, sum_v, sum_w


# --- atoms ----------------------------------------------------------------------------------------------------------


def _walker(transpose):
    """The walk over all atoms, compiled for one of the two directions, as each is slow to compile."""

    @jit
    def walk(long_R, first0, C_aix, s_ac, lattice, spacing, cutoff, lines, work):
        """Add the atoms' densities to the planes ``long_R`` from ``first0`` on, or the atoms' moments to ``C_aix``."""
        n0, n1, length = long_R.shape
        rho_x = long_R.reshape(-1)
        b_jx, a_x = work.b_jx, work.a_x
        b_x = b_jx.reshape(-1)
        number = a_x.dtype.type
        h0u = lattice.step_cv[0, 0]
        for a in range(len(s_ac)):
            i0_first, i0_last = _chord(lattice, 0, s_ac[a, 0], cutoff / h0u)
            for i0 in range(i0_first, i0_last):
                g0 = _wrapped(lattice, 0, i0) - first0
                if g0 < 0 or g0 >= n0:
                    continue
                d0 = i0 - s_ac[a, 0]
                u = d0 * h0u
                nlines = _find_lines(lines, lattice, s_ac[a], d0, g0 * n1, cutoff)
                begin, end = _cut_lines(lines, lattice, nlines, u, cutoff)
                if begin == end:
                    continue
                if not transpose:
                    _sum_powers(b_x, C_aix[a], number(u), unsigned(0), unsigned(len(b_x)))
                for i in range(begin, end):
                    count, w0, v = unsigned(lines.count_i[i]), lines.w_i[i], lines.v_i[i]
                    start = unsigned(lines.row_i[i] * length + lines.first_i[i])
                    uv2 = u * u + v * v
                    nearest = unsigned(int(np.sqrt(uv2) / spacing * (1 - 1e-6)) * WIDTH)
                    _splines(work, number(uv2), w0, number(1 / spacing), lines.count_i[i])
                    if transpose:
                        _line_moments(rho_x, start, work, w0, count)
                        _spread_powers(b_jx, a_x, number(v), nearest)
                    else:
                        _sum_powers(a_x, b_jx, number(v), nearest, _whole(unsigned(len(a_x)) - nearest))
                        _add_line(rho_x, start, work, number(w0), count)
                if transpose:
                    _spread_powers(C_aix[a], b_x, number(u), unsigned(0))

    return walk


collocate = _walker(False)
integrate = _walker(True)


@jit
def position_gradients(long_R, gradient_av, C_aix, s_ac, lattice, spacing, cutoff, lines, work, slopes):
    """Derivatives of Σ_R long_R ρ_a with respect to the positions, along u, v and w, at fixed coefficients."""
    n1, length = long_R.shape[1:]
    rho_x = long_R.reshape(-1)
    bu_x, b_x = slopes.b_ijx[0].reshape(-1), slopes.b_ijx[1].reshape(-1)
    number = slopes.S_mk.dtype.type
    h0u = lattice.step_cv[0, 0]
    for a in range(len(s_ac)):
        i0_first, i0_last = _chord(lattice, 0, s_ac[a, 0], cutoff / h0u)
        for i0 in range(i0_first, i0_last):
            g0 = _wrapped(lattice, 0, i0)
            if g0 < 0:
                continue
            d0 = i0 - s_ac[a, 0]
            u = d0 * h0u
            nlines = _find_lines(lines, lattice, s_ac[a], d0, g0 * n1, cutoff)
            begin, end = _cut_lines(lines, lattice, nlines, u, cutoff)
            if begin == end:
                continue
            _sum_slopes(bu_x, C_aix[a], number(u), unsigned(0))
            _sum_powers(b_x, C_aix[a], number(u), unsigned(0), unsigned(len(b_x)))
            for i in range(begin, end):
                count, w0, v = unsigned(lines.count_i[i]), lines.w_i[i], lines.v_i[i]
                start = unsigned(lines.row_i[i] * length + lines.first_i[i])
                uv2 = u * u + v * v
                nearest = unsigned(int(np.sqrt(uv2) / spacing * (1 - 1e-6)) * WIDTH)
                beyond = unsigned(slopes.a_ix.shape[1]) - nearest
                _splines(work, number(uv2), w0, number(1 / spacing), lines.count_i[i])
                _spline_slopes(slopes, work, number(uv2), w0, number(1 / spacing), lines.count_i[i])
                _sum_powers(slopes.a_ix[0], slopes.b_ijx[0], number(v), nearest, beyond)
                _sum_slopes(slopes.a_ix[1], slopes.b_ijx[1], number(v), nearest)
                _sum_powers(slopes.a_ix[2], slopes.b_ijx[1], number(v), nearest, beyond)
                along_u, along_v, along_w = _line_gradient(rho_x, start, work, slopes, number(u), number(v), w0, count)
                gradient_av[a, 0] -= along_u
                gradient_av[a, 1] -= along_v
                gradient_av[a, 2] -= along_w


# --- spherical functions in a table ---------------------------------------------------------------------------------


@inlined
def _add_table(rho_x, start, table_x, places, per_step, uv2, w0, count):
    """rho += f(u² + v² + w²) along a line; ``per_step``: intervals per Å².  Beyond its end f is zero."""
    ramp_k, row_k, t_k = places.ramp_k, places.row_k, places.t_k
    last = np.int32(len(table_x) // 4 - 1)  # the row of zeros
    x0 = ramp_k.dtype.type(uv2 * per_step)
    for k in range(_whole(count)):
        w = w0 + ramp_k[k]
        x = x0 + w * w * per_step
        row = max(min(np.int32(x), last), np.int32(0))  # inside the table whatever x is
        row_k[k] = row
        t_k[k] = x - ramp_k.dtype.type(row)
    for k in range(unsigned(0), count, unsigned(POINTS)):
        add_cubics(rho_x, start, table_x, row_k, t_k, k)


@jit
def _table_slopes(rho_x, start, table_xp, per_step, uv2, w0, ramp_k, count):
    """Σ rho f'(r²) and Σ rho f'(r²) w along a line."""
    top = len(table_xp) - 1
    x0 = ramp_k.dtype.type(uv2 * per_step)
    sum0 = sum1 = ramp_k.dtype.type(0)
    for k in range(count):
        w = w0 + ramp_k[k]
        x = x0 + w * w * per_step
        p = min(unsigned(int(x)), unsigned(top))  # unsigned: inside the table whatever x is
        t = x - ramp_k.dtype.type(p)
        slope = (3 * table_xp[p, 0] * t + 2 * table_xp[p, 1]) * t + table_xp[p, 2]
        sum0 += rho_x[start + k] * slope
        sum1 += rho_x[start + k] * slope * w
    return sum0 * per_step, sum1 * per_step


def _table_walker(gradient):
    @jit
    def walk(long_R, first0, out_av, table_xp, per_step, cutoff, s_ac, lattice, lines, places):
        """Add f(r²) of each atom to the planes ``long_R`` from ``first0`` on, or to ``out_av`` the derivative of
        Σ_R long_R f(r²) with respect to the position along u, v and w."""
        n0, n1, length = long_R.shape
        rho_x, table_x, ramp_k = long_R.reshape(-1), table_xp.reshape(-1), places.ramp_k
        h0u = lattice.step_cv[0, 0]
        for a in range(len(s_ac)):
            i0_first, i0_last = _chord(lattice, 0, s_ac[a, 0], cutoff / h0u)
            for i0 in range(i0_first, i0_last):
                g0 = _wrapped(lattice, 0, i0) - first0
                if g0 < 0 or g0 >= n0:
                    continue
                d0 = i0 - s_ac[a, 0]
                u = d0 * h0u
                nlines = _find_lines(lines, lattice, s_ac[a], d0, g0 * n1, cutoff)
                begin, end = _cut_lines(lines, lattice, nlines, u, cutoff)
                for i in range(begin, end):
                    start, count = unsigned(lines.row_i[i] * length + lines.first_i[i]), unsigned(lines.count_i[i])
                    v, w0 = lines.v_i[i], lines.w_i[i]
                    if gradient:
                        sum0, sum1 = _table_slopes(rho_x, start, table_xp, per_step, u * u + v * v, w0, ramp_k, count)
                        out_av[a, 0] -= 2 * u * sum0
                        out_av[a, 1] -= 2 * v * sum0
                        out_av[a, 2] -= 2 * sum1
                    else:
                        _add_table(rho_x, start, table_x, places, per_step, u * u + v * v, w0, count)

    return walk


add_tables = _table_walker(False)
table_gradients = _table_walker(True)
