"""Collocation as two kernels for GPUs, in Triton: densities on a grid, and the transpose, the derivatives of that.

Each program sums what it stores, in a fixed order, so that nothing is added up in memory by several.  Numbers that
come as Python floats would be rounded to single precision: they come in tensors, and constants are whole.  Arguments
are those of :class:`.on_device._Launch`; indices are int64.
"""

from __future__ import annotations

import triton
import triton.language as tl

from ase_deepdensity.collocation.tiles import SHAPE

T0, T1, T2 = (tl.constexpr(n) for n in SHAPE)
POINTS = tl.constexpr(SHAPE[0] * SHAPE[1] * SHAPE[2])


@triton.jit
def _three(numbers, first):
    """Those from ``first`` on."""
    return tl.load(numbers + first), tl.load(numbers + first + 1), tl.load(numbers + first + 2)


@triton.jit
def _of_atom(s0, s1, s2, h0_v, h1_v, h2_v):
    """x, y, z and r² of points that lie ``s`` steps ``h`` of the grid from an atom."""
    e0 = s0 * h0_v[0] + s1 * h1_v[0] + s2 * h2_v[0]
    e1 = s0 * h0_v[1] + s1 * h1_v[1] + s2 * h2_v[1]
    e2 = s0 * h0_v[2] + s1 * h1_v[2] + s2 * h2_v[2]
    return e0, e1, e2, e0 * e0 + e1 * e1 + e2 * e2


@triton.jit
def density(
    rho_xR, C_xarq, grid_i, geometry_i, origin_ac, away_ac, first_ac, pair_y, start_k,
    element_a, table_ip, begin_z, count_z, scale_z, cutoff2_z,
    ROWS: tl.constexpr, LMAX: tl.constexpr, NQ: tl.constexpr, WITH_ATOMS: tl.constexpr,
):  # fmt: skip
    """ρ_xR = Σ_a Σ_p 6 B(r/h + 1 − p) Σ_ijk C_xap,ijk xⁱ yʲ zᵏ, to the first of which the superposition is added.

    Programs: (tiles, densities).  B is the cubic B-spline of unit spacing, and r = (x, y, z) from the atom.
    """
    tile, x = tl.program_id(0).to(tl.int64), tl.program_id(1).to(tl.int64)
    natoms, npoints = tl.load(grid_i), tl.load(grid_i + 1)
    size0, size1, size2 = _three(grid_i, 2)
    n0, n1, n2 = _three(grid_i, 5)
    number0, number1, number2 = _three(grid_i, 8)
    window0, window1, window2 = _three(grid_i, 11)
    h0_v, h1_v, h2_v = _three(geometry_i, 0), _three(geometry_i, 3), _three(geometry_i, 6)
    cutoff2, knots = tl.load(geometry_i + 9), tl.load(geometry_i + 10)

    p = tl.arange(0, POINTS)
    i0 = tile // (number1 * number2) * T0 + p // (T1 * T2)
    i1 = tile // number2 % number1 * T1 + p // T2 % T1
    i2 = tile % number2 * T2 + p % T2
    zero = tl.zeros([POINTS], rho_xR.dtype.element_ty)
    value = zero
    for y in range(tl.load(start_k + tile), tl.load(start_k + tile + 1)):
        pair = tl.load(pair_y + y)
        a, w = pair // (window0 * window1 * window2), pair % (window0 * window1 * window2)
        period0 = (tl.load(first_ac + 3 * a) + w // (window1 * window2)) // number0
        period1 = (tl.load(first_ac + 3 * a + 1) + w // window2 % window1) // number1
        period2 = (tl.load(first_ac + 3 * a + 2) + w % window2) // number2
        s0 = (i0 + (period0 * size0 + tl.load(origin_ac + 3 * a))).to(value.dtype) - tl.load(away_ac + 3 * a)
        s1 = (i1 + (period1 * size1 + tl.load(origin_ac + 3 * a + 1))).to(value.dtype) - tl.load(away_ac + 3 * a + 1)
        s2 = (i2 + (period2 * size2 + tl.load(origin_ac + 3 * a + 2))).to(value.dtype) - tl.load(away_ac + 3 * a + 2)
        e0, e1, e2, r2 = _of_atom(s0, s1, s2, h0_v, h1_v, h2_v)
        if WITH_ATOMS:  # known when this is compiled
            if x == 0:
                z = tl.load(element_a + a)
                last = tl.load(count_z + z) - 1
                t = r2 * tl.load(scale_z + z)
                i = tl.minimum(t, last.to(value.dtype)).to(tl.int32)
                t -= i.to(value.dtype)
                row = table_ip + 4 * tl.load(begin_z + z) + 4 * i
                atom = ((tl.load(row) * t + tl.load(row + 1)) * t + tl.load(row + 2)) * t + tl.load(row + 3)
                value += tl.where(r2 < tl.load(cutoff2_z + z), atom, zero)
        if tl.min(r2, axis=0) < cutoff2:
            t = tl.minimum(tl.sqrt(r2) * knots, ROWS - 4)  # beyond the cutoff: the rows of zeros
            i = t.to(tl.int32)
            f = t - i.to(value.dtype)
            g = 1 - f
            b0, b1, b2, b3 = g * g * g, 4 + 3 * f * f * (f - 2), 4 + 3 * g * g * (g - 2), f * f * f
            row0 = C_xarq + (x * natoms + a) * (ROWS * NQ) + i * NQ
            row1, row2, row3 = row0 + NQ, row0 + 2 * NQ, row0 + 3 * NQ
            q = NQ
            of_x = zero
            for power_x in tl.static_range(LMAX + 1):  # from the highest one down: Horner's rule
                of_y = zero
                for power_y in tl.static_range(power_x + 1):
                    of_z = zero
                    for _ in tl.static_range(power_y + 1):
                        q = q - 1
                        c = b0 * tl.load(row0 + q) + b1 * tl.load(row1 + q)
                        of_z = of_z * e2 + c + b2 * tl.load(row2 + q) + b3 * tl.load(row3 + q)
                    of_y = of_y * e1 + of_z
                of_x = of_x * e0 + of_y
            value += of_x
    is_inside = (i0 < n0) & (i1 < n1) & (i2 < n2)
    tl.store(rho_xR + x * npoints + (i0 * n1 + i1) * n2 + i2, value, mask=is_inside)


@triton.jit
def moments(
    C_xarq, weight_xR, grid_i, geometry_i, origin_ac, away_ac, first_ac, count_ac, power_qv,
    ROWS: tl.constexpr, ALL_ROWS: tl.constexpr, LMAX: tl.constexpr, NQ: tl.constexpr,
):  # fmt: skip
    """The transpose of :func:`density`: C_xap,ijk = Σ_R weight_xR 6 B(r/h + 1 − p) xⁱ yʲ zᵏ.

    Programs: (atoms, densities × powers).  ALL_ROWS: the power of two from ROWS on.
    """
    a, xq = tl.program_id(0).to(tl.int64), tl.program_id(1).to(tl.int64)
    x, q = xq // NQ, xq % NQ
    natoms, npoints = tl.load(grid_i), tl.load(grid_i + 1)
    size0, size1, size2 = _three(grid_i, 2)
    n0, n1, n2 = _three(grid_i, 5)
    number0, number1, number2 = _three(grid_i, 8)
    h0_v, h1_v, h2_v = _three(geometry_i, 0), _three(geometry_i, 3), _three(geometry_i, 6)
    cutoff2, knots = tl.load(geometry_i + 9), tl.load(geometry_i + 10)
    first0, first1, first2 = _three(first_ac, 3 * a)
    count0, count1, count2 = _three(count_ac, 3 * a)
    away0, away1, away2 = _three(away_ac, 3 * a)
    origin0, origin1, origin2 = _three(origin_ac, 3 * a)
    power0, power1, power2 = _three(power_qv, 3 * q)

    p = tl.arange(0, POINTS)
    row_r = tl.arange(0, ALL_ROWS)
    moment_pr = tl.zeros([POINTS, ALL_ROWS], C_xarq.dtype.element_ty)
    for w in range(count0 * count1 * count2):
        u0, u1, u2 = first0 + w // (count1 * count2), first1 + w // count2 % count1, first2 + w % count2
        i0 = u0 % number0 * T0 + p // (T1 * T2)
        i1 = u1 % number1 * T1 + p // T2 % T1
        i2 = u2 % number2 * T2 + p % T2
        s0 = (i0 + (u0 // number0 * size0 + origin0)).to(moment_pr.dtype) - away0
        s1 = (i1 + (u1 // number1 * size1 + origin1)).to(moment_pr.dtype) - away1
        s2 = (i2 + (u2 // number2 * size2 + origin2)).to(moment_pr.dtype) - away2
        e0, e1, e2, r2 = _of_atom(s0, s1, s2, h0_v, h1_v, h2_v)
        if tl.min(r2, axis=0) < cutoff2:
            is_inside = (i0 < n0) & (i1 < n1) & (i2 < n2)
            weight = tl.load(weight_xR + x * npoints + (i0 * n1 + i1) * n2 + i2, mask=is_inside, other=0)
            for n in tl.static_range(LMAX):
                weight *= tl.where(power0 > n, e0, 1) * tl.where(power1 > n, e1, 1) * tl.where(power2 > n, e2, 1)
            t_pr = tl.abs((tl.sqrt(r2) * knots + 1)[:, None] - row_r[None, :])
            far_pr, near_pr = tl.maximum(2 - t_pr, 0), tl.maximum(1 - t_pr, 0)
            moment_pr += (far_pr * far_pr * far_pr - 4 * near_pr * near_pr * near_pr) * weight[:, None]
    C_r = C_xarq + ((x * natoms + a) * ROWS + row_r) * NQ + q
    tl.store(C_r, tl.sum(moment_pr, axis=0), mask=row_r < ROWS)
