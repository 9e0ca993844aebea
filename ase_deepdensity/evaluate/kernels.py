"""Compiled loops over the grid points near each atom (numba, CPU).

All kernels walk along *lines* of the grid, the third lattice direction, because points of a line are neighbours in
memory.  Positions are measured in a frame (u, v, w) with w along the third step vector, v in the plane of the second
and third, so that u depends on i₀ alone, v on i₀ and i₁, and a Gaussian factorises along each line in every cell,
skewed ones included:

    exp(−α r²) uⁱ vʲ wᵏ = [exp(−α u²) uⁱ] [exp(−α v²) vʲ] [exp(−α w²) wᵏ]

Work on one line and one exponent is then the Horner sum of a polynomial in w times one table: no exponential, no
square root and no branch per grid point.
"""

from __future__ import annotations

import numba
import numpy as np

jit = numba.njit(cache=True, fastmath=True, nogil=True)
parallel_jit = numba.njit(cache=True, fastmath=True, nogil=True, parallel=True)

MAX_L = 6


@jit
def _chord(center, half, start, stop, periodic):  # type: ignore[no-untyped-def]
    """First index and one past the last within ``half`` of ``center``; clipped to the block if not periodic."""
    i0 = int(np.ceil(center - half))
    i1 = int(np.floor(center + half)) + 1
    if not periodic:
        i0 = max(i0, start)
        i1 = min(i1, stop)
    return i0, i1


@jit
def _gaussian_along_line(e_k, alpha, step, center, first, last):  # type: ignore[no-untyped-def]
    """exp(−α w²) for w = (k − center)·step, k = first … last−1: powers outwards from the nearest point, no exp per point.

    With k = k₀ + m and δ = center − k₀ the exponent is −αh²(m² − 2mδ + δ²), so neighbours have the ratio
    exp(−αh²(2m + 1 − 2δ)), and neighbouring ratios the constant ratio exp(−2αh²).
    """
    ah2 = alpha * step * step
    middle = min(max(int(np.rint(center)), first), last - 1)
    d = middle - center
    start = np.exp(-ah2 * d * d)
    shrink = np.exp(-2 * ah2)
    e_k[middle - first] = start
    value = start
    ratio = np.exp(-ah2 * (1 + 2 * d))
    for k in range(middle + 1, last):
        value *= ratio
        ratio *= shrink
        e_k[k - first] = value
    value = start
    ratio = np.exp(-ah2 * (1 - 2 * d))
    for k in range(middle - 1, first - 1, -1):
        value *= ratio
        ratio *= shrink
        e_k[k - first] = value


@jit
def _plane_coefficients(b_q, C_q, l, u):  # type: ignore[no-untyped-def]
    """b_kj = Σ_i C_kji uⁱ; monomials are ordered k, j, i with k + j + i ≤ l."""
    q = 0
    p = 0
    for k in range(l + 1):
        for j in range(l + 1 - k):
            top = q + l - k - j
            b = C_q[top]
            for i in range(l - k - j):
                b = b * u + C_q[top - 1 - i]
            b_q[p] = b
            p += 1
            q = top + 1


@jit
def _line_coefficients(a_k, b_q, l, v, factor):  # type: ignore[no-untyped-def]
    """a_k = factor · Σ_j b_kj vʲ."""
    p = 0
    for k in range(l + 1):
        top = p + l - k
        a = b_q[top]
        for j in range(l - k):
            a = a * v + b_q[top - 1 - j]
        a_k[k] = a * factor
        p = top + 1


@jit
def _add_polynomial(out_k, e_k, w_k, a_k, l):  # type: ignore[no-untyped-def]
    """out_k += e_k · Σ_m a_m w_kᵐ, unrolled for the common l so that it vectorises."""
    n = len(out_k)
    if l == 0:
        a0 = a_k[0]
        for k in range(n):
            out_k[k] += e_k[k] * a0
    elif l == 1:
        a0, a1 = a_k[0], a_k[1]
        for k in range(n):
            out_k[k] += e_k[k] * (a0 + w_k[k] * a1)
    elif l == 2:
        a0, a1, a2 = a_k[0], a_k[1], a_k[2]
        for k in range(n):
            out_k[k] += e_k[k] * (a0 + w_k[k] * (a1 + w_k[k] * a2))
    elif l == 3:
        a0, a1, a2, a3 = a_k[0], a_k[1], a_k[2], a_k[3]
        for k in range(n):
            out_k[k] += e_k[k] * (a0 + w_k[k] * (a1 + w_k[k] * (a2 + w_k[k] * a3)))
    elif l == 4:
        a0, a1, a2, a3, a4 = a_k[0], a_k[1], a_k[2], a_k[3], a_k[4]
        for k in range(n):
            out_k[k] += e_k[k] * (a0 + w_k[k] * (a1 + w_k[k] * (a2 + w_k[k] * (a3 + w_k[k] * a4))))
    else:
        for k in range(n):
            p = a_k[l]
            for m in range(l):
                p = p * w_k[k] + a_k[l - 1 - m]
            out_k[k] += e_k[k] * p


@jit
def _polynomial_moments(a_k, g_k, e_k, w_k, l):  # type: ignore[no-untyped-def]
    """a_m = Σ_k g_k e_k w_kᵐ: the transpose of :func:`_add_polynomial`."""
    n = len(g_k)
    zero = g_k[0] * 0
    a0, a1, a2, a3, a4 = zero, zero, zero, zero, zero
    if l <= 1:
        for k in range(n):
            t = g_k[k] * e_k[k]
            a0 += t
            a1 += t * w_k[k]
    elif l == 2:
        for k in range(n):
            t = g_k[k] * e_k[k]
            w = w_k[k]
            a0 += t
            a1 += t * w
            a2 += t * w * w
    else:
        for k in range(n):
            t = g_k[k] * e_k[k]
            w = w_k[k]
            w2 = w * w
            a0 += t
            a1 += t * w
            a2 += t * w2
            a3 += t * w2 * w
            a4 += t * w2 * w2
    a_k[0], a_k[1], a_k[2], a_k[3], a_k[4] = a0, a1, a2, a3, a4
    for m in range(5, l + 1):
        a = zero
        for k in range(n):
            a += g_k[k] * e_k[k] * w_k[k] ** m
        a_k[m] = a


@jit
def _wrapped(index, size, start, stop, periodic):  # type: ignore[no-untyped-def]
    """Index inside the block, or −1."""
    i = index % size if periodic else index
    return i - start if start <= i < stop else -1


@jit
def _add_line(rho_k, line_k, first, size, start, stop, periodic):  # type: ignore[no-untyped-def]
    """Fold a line that may leave the cell back onto the block."""
    n = len(line_k)
    k = 0
    while k < n:
        i = (first + k) % size if periodic else first + k
        run = min(n - k, size - i)
        lo = max(start - i, 0)
        hi = min(stop - i, run)
        for m in range(lo, hi):
            rho_k[i + m - start] += line_k[k + m]
        k += run


@jit
def _take_line(line_k, rho_k, first, size, start, stop, periodic):  # type: ignore[no-untyped-def]
    """The transpose of :func:`_add_line`: points outside the block read as zero."""
    n = len(line_k)
    k = 0
    while k < n:
        i = (first + k) % size if periodic else first + k
        run = min(n - k, size - i)
        for m in range(run):
            line_k[k + m] = rho_k[i + m - start] if start <= i + m < stop else 0
        k += run


@jit
def _walk(transpose, rho_R, C_q, s_c, steps_cv, exponent_n, l_n, cutoff_n, size_c, start_c, stop_c, pbc_c, lo0, hi0):
    # type: ignore[no-untyped-def]
    """All lines of one atom with lo0 ≤ i₀ − start < hi0: add its density to ``rho_R`` (or its moments to ``C_q``)."""
    dtype = rho_R.dtype
    nexp = len(exponent_n)
    h0u, h0v, h0w = steps_cv[0]
    h1v, h1w = steps_cv[1, 1], steps_cv[1, 2]
    h2 = steps_cv[2, 2]
    straight = abs(h0w) < 1e-12 * h2 and abs(h1w) < 1e-12 * h2
    reach = cutoff_n[0]
    width = int(2 * reach / h2) + 3

    nb = (MAX_L + 1) * (MAX_L + 2) // 2
    b_nq = np.empty((nexp, nb), dtype)
    db_nq = np.empty((nexp, nb), dtype)
    eu_n = np.empty(nexp)
    a_k = np.empty(MAX_L + 1, dtype)
    e_nk = np.empty((nexp, width), dtype)
    first_n = np.empty(nexp, np.int64)
    w_k = np.empty(width, dtype)
    line_k = np.empty(width, dtype)

    if straight:
        k0, k1 = _chord(s_c[2], reach / h2, start_c[2], stop_c[2], pbc_c[2])
        if k1 <= k0:
            return
        for k in range(k0, k1):
            w_k[k - k0] = (k - s_c[2]) * h2
        for n in range(nexp):
            first_n[n] = k0
            for k in range(k0, k1):
                e_nk[n, k - k0] = np.exp(-exponent_n[n] * ((k - s_c[2]) * h2) ** 2)

    i0_first, i0_last = _chord(s_c[0], reach / h0u, start_c[0], stop_c[0], pbc_c[0])
    for i0 in range(i0_first, i0_last):
        g0 = _wrapped(i0, size_c[0], start_c[0], stop_c[0], pbc_c[0])
        if g0 < lo0 or g0 >= hi0:
            continue
        d0 = i0 - s_c[0]
        u = d0 * h0u
        u2 = u * u
        nplane = 0
        q = 0
        while nplane < nexp and u2 < cutoff_n[nplane] ** 2:
            l = l_n[nplane]
            eu_n[nplane] = np.exp(-exponent_n[nplane] * u2)
            if not transpose:
                _plane_coefficients(b_nq[nplane], C_q[q:], l, dtype.type(u))
            q += (l + 1) * (l + 2) * (l + 3) // 6
            nplane += 1
        if nplane == 0:
            continue
        if transpose:
            db_nq[:nplane] = 0
        half1 = np.sqrt(reach * reach - u2) / h1v
        center1 = s_c[1] - d0 * h0v / h1v
        i1_first, i1_last = _chord(center1, half1, start_c[1], stop_c[1], pbc_c[1])
        for i1 in range(i1_first, i1_last):
            g1 = _wrapped(i1, size_c[1], start_c[1], stop_c[1], pbc_c[1])
            if g1 < 0:
                continue
            d1 = i1 - s_c[1]
            v = d1 * h1v + d0 * h0v
            r2 = u2 + v * v
            if r2 >= reach * reach:
                continue
            center = s_c[2] - (d1 * h1w + d0 * h0w) / h2
            k0, k1 = _chord(center, np.sqrt(reach * reach - r2) / h2, start_c[2], stop_c[2], pbc_c[2])
            if k1 <= k0:
                continue
            if straight:
                shift = k0 - first_n[0]
            else:
                shift = 0
                for k in range(k0, k1):
                    w_k[k - k0] = (k - center) * h2
            line = line_k[: k1 - k0]
            if transpose:
                _take_line(line, rho_R[g0, g1], k0, size_c[2], start_c[2], stop_c[2], pbc_c[2])
            else:
                line[:] = 0
            for n in range(nplane):
                c2 = cutoff_n[n] ** 2 - r2
                if c2 <= 0:
                    break
                l = l_n[n]
                m0, m1 = _chord(center, np.sqrt(c2) / h2, start_c[2], stop_c[2], pbc_c[2])
                if m1 <= m0:
                    continue
                if straight:
                    e_k = e_nk[n, m0 - first_n[n] : m1 - first_n[n]]
                else:
                    e_k = e_nk[n, : m1 - m0]
                    _gaussian_along_line(e_k, exponent_n[n], h2, center, m0, m1)
                w = w_k[shift + m0 - k0 : shift + m1 - k0]
                factor = dtype.type(eu_n[n] * np.exp(-exponent_n[n] * v * v))
                if transpose:
                    _polynomial_moments(a_k, line[m0 - k0 : m1 - k0], e_k, w, l)
                    p = 0
                    for k in range(l + 1):
                        t = a_k[k] * factor
                        for _ in range(l + 1 - k):
                            db_nq[n, p] += t
                            t *= dtype.type(v)
                            p += 1
                else:
                    _line_coefficients(a_k, b_nq[n], l, dtype.type(v), factor)
                    _add_polynomial(line[m0 - k0 : m1 - k0], e_k, w, a_k, l)
            if not transpose:
                _add_line(rho_R[g0, g1], line, k0, size_c[2], start_c[2], stop_c[2], pbc_c[2])
        if transpose:
            q = 0
            for n in range(nplane):
                l = l_n[n]
                p = 0
                for k in range(l + 1):
                    for j in range(l + 1 - k):
                        t = db_nq[n, p]
                        p += 1
                        for _ in range(l + 1 - k - j):
                            C_q[q] += t
                            t *= dtype.type(u)
                            q += 1


@parallel_jit
def collocate(rho_R, C_aq, s_ac, steps_cv, exponent_n, l_n, cutoff_n, size_c, start_c, stop_c, pbc_c, nslabs):
    # type: ignore[no-untyped-def]
    """Add Σ_a Σ_n Σ_kji C_a,nkji exp(−α_n r²) wᵏ vʲ uⁱ to ``rho_R``; see :mod:`.gaussians` for the arguments."""
    n0 = rho_R.shape[0]
    for slab in numba.prange(nslabs):
        lo0 = slab * n0 // nslabs
        hi0 = (slab + 1) * n0 // nslabs
        for a in range(len(s_ac)):
            _walk(
                False, rho_R, C_aq[a], s_ac[a], steps_cv, exponent_n, l_n, cutoff_n, size_c, start_c, stop_c, pbc_c,
                lo0, hi0,
            )  # fmt: skip


@parallel_jit
def integrate(C_aq, rho_R, s_ac, steps_cv, exponent_n, l_n, cutoff_n, size_c, start_c, stop_c, pbc_c):
    # type: ignore[no-untyped-def]
    """The transpose of :func:`collocate`: C_a,nkji += Σ_R rho_R exp(−α_n r²) wᵏ vʲ uⁱ."""
    for a in numba.prange(len(s_ac)):
        _walk(
            True, rho_R, C_aq[a], s_ac[a], steps_cv, exponent_n, l_n, cutoff_n, size_c, start_c, stop_c, pbc_c,
            0, rho_R.shape[0],
        )  # fmt: skip


@parallel_jit
def add_radial(rho_R, table_xp, x_step, cutoff, s_ac, steps_cv, size_c, start_c, stop_c, pbc_c, nslabs):
    # type: ignore[no-untyped-def]
    """Add Σ_a f(r²) for one spherical function, piecewise cubic in r²: ``table_xp`` (intervals, 4), Horner order."""
    dtype = rho_R.dtype
    h0u, h0v, h0w = steps_cv[0]
    h1v, h1w = steps_cv[1, 1], steps_cv[1, 2]
    h2 = steps_cv[2, 2]
    n0 = rho_R.shape[0]
    for slab in numba.prange(nslabs):
        lo0 = slab * n0 // nslabs
        hi0 = (slab + 1) * n0 // nslabs
        line_k = np.empty(int(2 * cutoff / h2) + 3, dtype)
        for a in range(len(s_ac)):
            s0, s1, s2 = s_ac[a]
            i0_first, i0_last = _chord(s0, cutoff / h0u, start_c[0], stop_c[0], pbc_c[0])
            for i0 in range(i0_first, i0_last):
                g0 = _wrapped(i0, size_c[0], start_c[0], stop_c[0], pbc_c[0])
                if g0 < lo0 or g0 >= hi0:
                    continue
                u = (i0 - s0) * h0u
                half2 = max(cutoff * cutoff - u * u, 0.0)
                center1 = s1 - (i0 - s0) * h0v / h1v
                i1_first, i1_last = _chord(center1, np.sqrt(half2) / h1v, start_c[1], stop_c[1], pbc_c[1])
                for i1 in range(i1_first, i1_last):
                    g1 = _wrapped(i1, size_c[1], start_c[1], stop_c[1], pbc_c[1])
                    if g1 < 0:
                        continue
                    v = (i1 - s1) * h1v + (i0 - s0) * h0v
                    r2 = u * u + v * v
                    if r2 >= cutoff * cutoff:
                        continue
                    center = s2 - ((i1 - s1) * h1w + (i0 - s0) * h0w) / h2
                    k0, k1 = _chord(center, np.sqrt(cutoff * cutoff - r2) / h2, start_c[2], stop_c[2], pbc_c[2])
                    if k1 <= k0:
                        continue
                    for k in range(k0, k1):
                        w = (k - center) * h2
                        x = (r2 + w * w) / x_step
                        p = min(int(x), len(table_xp) - 1)
                        t = dtype.type(x - p)
                        line_k[k - k0] = table_xp[p, 3] + t * (
                            table_xp[p, 2] + t * (table_xp[p, 1] + t * table_xp[p, 0])
                        )
                    _add_line(rho_R[g0, g1], line_k[: k1 - k0], k0, size_c[2], start_c[2], stop_c[2], pbc_c[2])
