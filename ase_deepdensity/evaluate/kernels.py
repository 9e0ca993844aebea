"""Compiled loops over the grid points near each atom (numba, CPU).

All kernels walk along *lines* of the grid, the third lattice direction, because points of a line are neighbours in
memory.  Positions are measured in a frame (u, v, w) with w along the third step vector, v in the plane of the second
and third, so that u depends on i₀ alone, v on i₀ and i₁, and a Gaussian factorises along each line in every cell,
skewed ones included:

    exp(−α r²) uⁱ vʲ wᵏ = [exp(−α u²) uⁱ] [exp(−α v²) vʲ] [exp(−α w²) wᵏ]

An atom is worked off plane by plane: the sums over i are done once per plane, those over j once per line, and what
remains per point is the Horner sum of a polynomial in w times a table.

Three habits make the loops fast.  They write into rows longer than the cell, folded back at the end, so that nothing
wraps inside (:mod:`.sums`).  Loops over points run over whole multiples of ``LANES`` and mask the excess, which
gives vector code without remainders.  Indices are unsigned, which spares a test for negative ones.

The compiled code stands in one file because numba's cache does not notice changes in other files, and calls are no more
than three deep because numba optimises a callee again at each level.
"""

from __future__ import annotations

from math import factorial, log
from typing import NamedTuple

import numba
import numpy as np
from numba.extending import overload

MAX_L = 6
LANES = 16

jit = numba.njit(cache=True, nogil=True, fastmath=True, error_model='numpy')
unsigned = np.uint64


class Lattice(NamedTuple):
    """Grid steps in the frame (u, v, w), Å, and the block (see :func:`.gaussians.block`)."""

    step_cv: np.ndarray
    size_c: np.ndarray
    start_c: np.ndarray
    stop_c: np.ndarray
    pbc_c: np.ndarray


class Basis(NamedTuple):
    """Exponents (Å⁻²), their highest angular momenta and where they end (Å), the farthest first."""

    exponent_n: np.ndarray
    l_n: np.ndarray
    cutoff_n: np.ndarray


class Lines(NamedTuple):
    """The lines of one plane near an atom, and the part of each within the cutoff of one function."""

    row_i: np.ndarray  # index of the long row
    v_i: np.ndarray  # Å
    center_i: np.ndarray  # where w = 0, in steps from the beginning of the long row
    first_i: np.ndarray  # first point within the cutoff
    count_i: np.ndarray  # number of points within the cutoff
    w_i: np.ndarray  # w of the point nearest to the centre, Å
    ramp_i: np.ndarray  # place of the first point in the ramp
    factor_i: np.ndarray  # exp(−α (u² + v²))
    offset_i: np.ndarray  # place of the first point in the table of exp(−α w²)


class Work(NamedTuple):
    """Memory used again and again."""

    ramp_k: np.ndarray  # multiples of the step, Å, zero in the middle: w less that of the point nearest to the centre
    b_p: np.ndarray  # polynomial in v and w of a plane
    a_mi: np.ndarray  # polynomial in w of each line
    e_nk: np.ndarray  # exp(−α w²) where it is the same for all lines of an atom
    e_x: np.ndarray  # exp(−α w²) of all lines of a plane


# --- exponential ----------------------------------------------------------------------------------------------------

LOG2E = 1 / log(2)
C0, C1, C2, C3, C4, C5, C6, C7, C8, C9, C10, C11, C12 = (log(2) ** i / factorial(i) for i in range(13))
SLOG2E = np.float32(LOG2E)
S0, S1, S2, S3, S4, S5, S6, S7 = (np.float32(log(2) ** i / factorial(i)) for i in range(8))


def _exp(x):
    """eˣ, not below e⁻⁸⁰, in vector instructions: a power of two from the bits of its exponent, the rest by Taylor."""
    raise NotImplementedError('for compiled code only')


@overload(_exp, jit_options={'fastmath': True, 'error_model': 'numpy'})
def _compile_exp(x):
    def double(x):
        y = max(x, -80.0) * LOG2E
        n = np.rint(y)
        t = y - n
        high = C7 + t * (C8 + t * (C9 + t * (C10 + t * (C11 + t * C12))))
        p = C0 + t * (C1 + t * (C2 + t * (C3 + t * (C4 + t * (C5 + t * (C6 + t * high))))))
        return p * np.int64(np.int64(np.int32(n) + 1023) << 52).view(np.float64)

    def single(x):
        y = max(x, np.float32(-80.0)) * SLOG2E
        n = np.rint(y)
        t = y - n
        p = S0 + t * (S1 + t * (S2 + t * (S3 + t * (S4 + t * (S5 + t * (S6 + t * S7))))))
        return p * np.int32((np.int32(n) + 127) << 23).view(np.float32)

    return single if x == numba.float32 else double


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


@jit
def _find_lines(lines, lattice, s_c, d0, first_row, reach):
    """Lines of the plane ``d0`` steps from the atom that pass within ``reach``; returns their number."""
    step_cv = lattice.step_cv
    h0u, h0v, h0w = step_cv[0, 0], step_cv[0, 1], step_cv[0, 2]
    h1v, h1w, h2w = step_cv[1, 1], step_cv[1, 2], step_cv[2, 2]
    half = np.sqrt(max(reach**2 - (d0 * h0u) ** 2, 0.0))
    first, last = _chord(lattice, 1, s_c[1] - d0 * h0v / h1v, half / h1v)
    n = 0
    for i1 in range(first, last):
        row = _wrapped(lattice, 1, i1)
        if row < 0:
            continue
        d1 = i1 - s_c[1]
        center = s_c[2] - (d1 * h1w + d0 * h0w) / h2w
        if lattice.pbc_c[2]:  # the period in which the line begins is the first of the long row
            center -= np.floor((center - reach / h2w) / lattice.size_c[2]) * lattice.size_c[2]
        else:
            center -= lattice.start_c[2]
        lines.row_i[n] = first_row + row
        lines.v_i[n] = d1 * h1v + d0 * h0v
        lines.center_i[n] = center
        n += 1
    return n


@jit
def _cut_lines(lines, lattice, n, u, cutoff, middle):
    """Points of the ``n`` lines of a plane within ``cutoff``; returns first line that has any and one past the last."""
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
        lines.w_i[i] = (np.rint(center) - center) * h2w
        lines.ramp_i[i] = middle + int(first - np.rint(center))
    return unsigned(begin), unsigned(end)


# --- Gaussians ------------------------------------------------------------------------------------------------------


@jit
def _tabulate_for_atom(work, exponent_n, w0):
    """exp(−α w²) of every function along the ramp, which holds for all lines where these have no skew."""
    e_nk, ramp_k = work.e_nk, work.ramp_k
    w0 = e_nk.dtype.type(w0)
    for n in range(len(exponent_n)):
        minus_alpha = e_nk.dtype.type(-exponent_n[n])
        e_k = e_nk[n]
        for k in range(unsigned(len(ramp_k))):
            w = w0 + ramp_k[k]
            e_k[k] = _exp(minus_alpha * w * w)


@jit
def _tabulate_for_lines(work, lines, alpha, begin, end):
    """exp(−α w²) along each line."""
    e_x, ramp_k, w_i, count_i = work.e_x, work.ramp_k, lines.w_i, lines.count_i
    minus_alpha = e_x.dtype.type(-alpha)
    for i in range(begin, end):
        offset, ramp, w0 = i * unsigned(len(ramp_k)), unsigned(lines.ramp_i[i]), w_i[i]
        lines.offset_i[i] = offset
        for k in range(unsigned((count_i[i] + LANES - 1) // LANES * LANES)):
            w = w0 + ramp_k[ramp + k]
            e_x[offset + k] = _exp(minus_alpha * w * w)


@jit
def _line_factors(lines, alpha, u2, begin, end):
    """exp(−α (u² + v²)) of each line."""
    v_i, factor_i = lines.v_i, lines.factor_i
    for i in range(begin, end):
        factor_i[i] = _exp(factor_i.dtype.type(-alpha * (u2 + v_i[i] * v_i[i])))


# --- coefficients → density -----------------------------------------------------------------------------------------


@jit
def _plane_coefficients(b_p, C_q, q, l, u):
    """b_kj = Σ_i C_kji uⁱ; monomials are ordered k, j, i with k + j + i ≤ l, those of this function begin at ``q``."""
    p = 0
    for k in range(l + 1):
        for j in range(l + 1 - k):
            top = q + l - k - j
            b = C_q[top]
            for i in range(l - k - j):
                b = b * u + C_q[top - 1 - i]
            b_p[p] = b
            p += 1
            q = top + 1


@jit
def _line_coefficients(a_mi, b_p, l, lines, begin, end):
    """a_k = exp(−α (u² + v²)) Σ_j b_kj vʲ, and zero for the powers k that the loops over points assume beyond l."""
    v_i, factor_i = lines.v_i, lines.factor_i
    p = 0
    for k in range(l + 1):
        a_i = a_mi[k]
        top = p + l - k
        for i in range(begin, end):
            a_i[i] = b_p[top]
        for j in range(l - k):
            b = b_p[top - 1 - j]
            for i in range(begin, end):
                a_i[i] = a_i[i] * v_i[i] + b
        for i in range(begin, end):
            a_i[i] *= factor_i[i]
        p = top + 1
    for k in range(l + 1, 5 if l <= 4 else MAX_L + 1):
        for i in range(begin, end):
            a_mi[k, i] = 0


@jit
def _add_degree_4(rho_x, length, e_x, work, lines, begin, end):
    a_mi, ramp_k = work.a_mi, work.ramp_k
    for i in range(begin, end):
        a0, a1, a2, a3, a4 = a_mi[0, i], a_mi[1, i], a_mi[2, i], a_mi[3, i], a_mi[4, i]
        start, offset = unsigned(lines.row_i[i] * length + lines.first_i[i]), unsigned(lines.offset_i[i])
        ramp, count, w0 = unsigned(lines.ramp_i[i]), unsigned(lines.count_i[i]), lines.w_i[i]
        for k in range((count + unsigned(LANES - 1)) // unsigned(LANES) * unsigned(LANES)):
            w = w0 + ramp_k[ramp + k]
            x = e_x[offset + k] * (a0 + w * (a1 + w * (a2 + w * (a3 + w * a4))))
            rho_x[start + k] += x if k < count else 0 * a0


@jit
def _add_degree_6(rho_x, length, e_x, work, lines, begin, end):
    a_mi, ramp_k = work.a_mi, work.ramp_k
    for i in range(begin, end):
        a0, a1, a2, a3 = a_mi[0, i], a_mi[1, i], a_mi[2, i], a_mi[3, i]
        a4, a5, a6 = a_mi[4, i], a_mi[5, i], a_mi[6, i]
        start, offset = unsigned(lines.row_i[i] * length + lines.first_i[i]), unsigned(lines.offset_i[i])
        ramp, count, w0 = unsigned(lines.ramp_i[i]), unsigned(lines.count_i[i]), lines.w_i[i]
        for k in range((count + unsigned(LANES - 1)) // unsigned(LANES) * unsigned(LANES)):
            w = w0 + ramp_k[ramp + k]
            x = e_x[offset + k] * (a0 + w * (a1 + w * (a2 + w * (a3 + w * (a4 + w * (a5 + w * a6))))))
            rho_x[start + k] += x if k < count else 0 * a0


# --- density → coefficients -----------------------------------------------------------------------------------------


@jit
def _moments(rho_x, length, e_x, work, lines, begin, end):
    """a_m = Σ_k rho_k exp(−α w²) wᵐ, m ≤ 4: the transpose of :func:`_add_degree_4`."""
    a_mi, ramp_k = work.a_mi, work.ramp_k
    zero = ramp_k[0] * 0
    for i in range(begin, end):
        a0, a1, a2, a3, a4 = zero, zero, zero, zero, zero
        start, offset = unsigned(lines.row_i[i] * length + lines.first_i[i]), unsigned(lines.offset_i[i])
        ramp, count, w0 = unsigned(lines.ramp_i[i]), unsigned(lines.count_i[i]), lines.w_i[i]
        for k in range((count + unsigned(LANES - 1)) // unsigned(LANES) * unsigned(LANES)):
            w = w0 + ramp_k[ramp + k]
            t = rho_x[start + k] * (e_x[offset + k] if k < count else zero)
            w2 = w * w
            a0 += t
            a1 += t * w
            a2 += t * w2
            a3 += t * w * w2
            a4 += t * w2 * w2
        a_mi[0, i], a_mi[1, i], a_mi[2, i], a_mi[3, i], a_mi[4, i] = a0, a1, a2, a3, a4


@jit
def _high_moments(rho_x, length, e_x, work, lines, begin, end):
    """The same for m = 5 and 6."""
    a_mi, ramp_k = work.a_mi, work.ramp_k
    for i in range(begin, end):
        a5, a6 = ramp_k[0] * 0, ramp_k[0] * 0
        start, offset = lines.row_i[i] * length + lines.first_i[i], lines.offset_i[i]
        for k in range(lines.count_i[i]):
            w = lines.w_i[i] + ramp_k[lines.ramp_i[i] + k]
            t = rho_x[start + k] * e_x[offset + k] * w**5
            a5 += t
            a6 += t * w
        a_mi[5, i], a_mi[6, i] = a5, a6


@jit
def _plane_moments(b_p, a_mi, l, lines, begin, end):
    """b_kj = Σ_lines exp(−α (u² + v²)) a_k vʲ: the transpose of :func:`_line_coefficients`."""
    v_i, factor_i = lines.v_i, lines.factor_i
    p = 0
    for k in range(l + 1):
        a_i = a_mi[k]
        for i in range(begin, end):
            a_i[i] *= factor_i[i]
        for _ in range(l + 1 - k):
            b = 0 * b_p[p]
            for i in range(begin, end):
                b += a_i[i]
                a_i[i] *= v_i[i]
            b_p[p] = b
            p += 1


@jit
def _add_moments(C_q, q, b_p, l, u):
    """C_kji += b_kj uⁱ: the transpose of :func:`_plane_coefficients`."""
    p = 0
    for k in range(l + 1):
        for j in range(l + 1 - k):
            b = b_p[p]
            p += 1
            for _ in range(l + 1 - k - j):
                C_q[q] += b
                b *= u
                q += 1


# --- atoms ----------------------------------------------------------------------------------------------------------


def _walker(transpose):
    """The walk over all atoms, compiled for one of the two directions, as each is slow to compile."""

    @jit
    def walk(long_R, first0, C_aq, s_ac, lattice, basis, lines, work):
        """Add the atoms' densities to the planes ``long_R`` from ``first0`` on, or the atoms' moments to ``C_aq``."""
        n0, n1, length = long_R.shape
        rho_x = long_R.reshape(-1)
        a_mi, b_p = work.a_mi, work.b_p
        reach, h0u, h2w = basis.cutoff_n[0], lattice.step_cv[0, 0], lattice.step_cv[2, 2]
        middle = len(work.ramp_k) // 2
        straight = lattice.step_cv[0, 2] == 0 and lattice.step_cv[1, 2] == 0  # w = 0 at the same height on all lines
        for a in range(len(s_ac)):
            height = -1e300
            i0_first, i0_last = _chord(lattice, 0, s_ac[a, 0], reach / h0u)
            for i0 in range(i0_first, i0_last):
                g0 = _wrapped(lattice, 0, i0) - first0
                if g0 < 0 or g0 >= n0:
                    continue
                u = (i0 - s_ac[a, 0]) * h0u
                nlines = _find_lines(lines, lattice, s_ac[a], i0 - s_ac[a, 0], g0 * n1, reach)
                if straight and nlines > 0 and lines.center_i[0] != height:
                    height = lines.center_i[0]
                    _tabulate_for_atom(work, basis.exponent_n, (np.rint(height) - height) * h2w)
                q = 0
                for n in range(len(basis.exponent_n)):
                    l, alpha, cutoff = basis.l_n[n], basis.exponent_n[n], basis.cutoff_n[n]
                    if u * u >= cutoff * cutoff:
                        break
                    begin, end = _cut_lines(lines, lattice, nlines, u, cutoff, middle)
                    _line_factors(lines, alpha, u * u, begin, end)
                    if straight:
                        e_x = work.e_nk[n]
                        for i in range(begin, end):
                            lines.offset_i[i] = lines.ramp_i[i]
                    else:
                        e_x = work.e_x
                        _tabulate_for_lines(work, lines, alpha, begin, end)
                    if transpose:
                        _moments(rho_x, length, e_x, work, lines, begin, end)
                        if l > 4:
                            _high_moments(rho_x, length, e_x, work, lines, begin, end)
                        _plane_moments(b_p, a_mi, l, lines, begin, end)
                        _add_moments(C_aq[a], q, b_p, l, b_p.dtype.type(u))
                    else:
                        _plane_coefficients(b_p, C_aq[a], q, l, b_p.dtype.type(u))
                        _line_coefficients(a_mi, b_p, l, lines, begin, end)
                        if l <= 4:
                            _add_degree_4(rho_x, length, e_x, work, lines, begin, end)
                        else:
                            _add_degree_6(rho_x, length, e_x, work, lines, begin, end)
                    q += (l + 1) * (l + 2) * (l + 3) // 6

    return walk


collocate = _walker(False)
integrate = _walker(True)


@jit
def _add_table(rho_x, length, table_xp, per_step, u2, ramp_k, lines, begin, end):
    """rho_x += f(u² + v² + w²) along lines; ``per_step``: intervals per Å²."""
    top = len(table_xp) - 1
    for i in range(begin, end):
        start, ramp = unsigned(lines.row_i[i] * length + lines.first_i[i]), unsigned(lines.ramp_i[i])
        w0 = lines.w_i[i]
        x0 = ramp_k.dtype.type((u2 + lines.v_i[i] * lines.v_i[i]) * per_step)
        for k in range(unsigned(lines.count_i[i])):
            w = w0 + ramp_k[ramp + k]
            x = x0 + w * w * per_step
            p = unsigned(min(int(x), top))
            t = x - ramp_k.dtype.type(p)
            rho_x[start + k] += ((table_xp[p, 0] * t + table_xp[p, 1]) * t + table_xp[p, 2]) * t + table_xp[p, 3]


@jit
def add_tables(long_R, first0, table_xp, per_step, cutoff, s_ac, lattice, lines, ramp_k):
    """Add f(r²) of each atom to the planes ``long_R`` from ``first0`` on."""
    n0, n1, length = long_R.shape
    rho_x = long_R.reshape(-1)
    h0u = lattice.step_cv[0, 0]
    for a in range(len(s_ac)):
        i0_first, i0_last = _chord(lattice, 0, s_ac[a, 0], cutoff / h0u)
        for i0 in range(i0_first, i0_last):
            g0 = _wrapped(lattice, 0, i0) - first0
            if g0 < 0 or g0 >= n0:
                continue
            d0 = i0 - s_ac[a, 0]
            nlines = _find_lines(lines, lattice, s_ac[a], d0, g0 * n1, cutoff)
            begin, end = _cut_lines(lines, lattice, nlines, d0 * h0u, cutoff, len(ramp_k) // 2)
            _add_table(rho_x, length, table_xp, per_step, (d0 * h0u) ** 2, ramp_k, lines, begin, end)
