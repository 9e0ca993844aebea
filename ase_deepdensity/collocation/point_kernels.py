"""Compiled loops over pairs of a point and an image of an atom (numba, CPU).

An atom's density is a polynomial in x, y, z for each B-spline of the distance, as in :mod:`.kernels`.  The points near
an atom and its images are collected and sorted by the interval between two knots in which their distance lies: those of
one interval share four polynomials, so that vector code runs over them.  Several densities of the same atoms (``x``:
members of an ensemble, components) share what was collected.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from ase_deepdensity.collocation.kernels import LANES, WIDTH, jit, unsigned

POWERS_qv = np.argwhere(np.indices((WIDTH,) * 3).sum(0) < WIDTH)
"""(35, 3) exponents of x, y and z."""
NQ = 48
"""Polynomial coefficients in memory: those of :data:`POWERS_qv`, and zeros up to whole vectors."""
LOWER_vq = np.array(
    [
        [np.flatnonzero((POWERS_qv == np.maximum(power_v - one_v, 0)).all(1))[0] for power_v in POWERS_qv]
        for one_v in np.eye(3, dtype=int)
    ]
)
"""(3, 35) where the power with one x, y or z less stands."""


class Reach(NamedTuple):
    """Images of the atoms of all systems, and the points that they may be near."""

    point_vp: np.ndarray
    """(3, points) Å, those of one system after those of the other, of each in the order of x."""
    order_p: np.ndarray
    """(points,) their places in the caller's order."""
    image_gv: np.ndarray
    """(images, 3) where images of atoms are, Å, those of one atom after those of the other."""
    images_ax: np.ndarray
    """(natoms, 2) for each atom its first image, and the one past its last."""
    points_ax: np.ndarray
    """(natoms, 2) for each atom the first point of its system, and the one past the last."""


class Pairs(NamedTuple):
    """Memory for some pairs of one atom: points near it, and vectors to them; k runs over the pairs."""

    found_k: np.ndarray
    """(capacity,) points as they are found."""
    away_vk: np.ndarray
    """(3, capacity) vectors to them, Å."""
    knots_k: np.ndarray
    """(capacity,) their distances in units of the spacing."""
    point_k: np.ndarray
    """(capacity,) points in the order of the intervals."""
    e_vk: np.ndarray
    """(3, capacity) vectors to them, Å."""
    t_k: np.ndarray
    """(capacity,) where they are in the interval, 0 to 1."""
    start_r: np.ndarray
    """(rows + 1,) where each interval begins."""
    B_mk: np.ndarray
    """(4, capacity) B-splines."""
    value_k: np.ndarray
    """(capacity,) densities."""
    f_q: np.ndarray
    """(NQ,) powers at one point."""
    slope_vq: np.ndarray
    """(3, NQ) their derivatives with respect to x, y and z."""


@jit
def _collect(pairs, reach, a, g, cutoff):
    """Pairs of atom ``a`` from image ``g`` on, as many as there is memory for.

    Returns the next image and the number of pairs.
    """
    point_vp, order_p, found_k, away_vk = reach.point_vp, reach.order_p, pairs.found_k, pairs.away_vk
    first, last = reach.points_ax[a, 0], reach.points_ax[a, 1]
    most = len(found_k) - LANES - (last - first)
    cutoff2 = cutoff * cutoff
    n = 0
    while g < reach.images_ax[a, 1] and n <= most:
        x0, y0, z0 = reach.image_gv[g, 0], reach.image_gv[g, 1], reach.image_gv[g, 2]
        begin = first + np.searchsorted(point_vp[0, first:last], x0 - cutoff)
        end = first + np.searchsorted(point_vp[0, first:last], x0 + cutoff)
        for p in range(unsigned(begin), unsigned(end)):
            x, y, z = point_vp[0, p] - x0, point_vp[1, p] - y0, point_vp[2, p] - z0
            found_k[n], away_vk[0, n], away_vk[1, n], away_vk[2, n] = (
                order_p[p],
                x,
                y,
                z,
            )  # overwritten if it is too far
            n += 1 if x * x + y * y + z * z < cutoff2 else 0
        g += 1
    return g, n


@jit
def _sort(pairs, n, spacing):
    """The first ``n`` pairs in the order of the intervals, with B-splines."""
    away_vk, knots_k, start_r, t_k = pairs.away_vk, pairs.knots_k, pairs.start_r, pairs.t_k
    per_spacing = knots_k.dtype.type(1 / spacing)
    start_r[:] = 0
    for k in range(n):
        knots_k[k] = np.sqrt(away_vk[0, k] ** 2 + away_vk[1, k] ** 2 + away_vk[2, k] ** 2) * per_spacing
    for k in range(n):
        start_r[int(knots_k[k]) + 1] += 1
    for r in range(1, len(start_r)):
        start_r[r] += start_r[r - 1]
    for k in range(n):
        row = int(knots_k[k])
        i = start_r[row]
        start_r[row] = i + 1
        pairs.point_k[i] = pairs.found_k[k]
        pairs.e_vk[0, i], pairs.e_vk[1, i], pairs.e_vk[2, i] = away_vk[0, k], away_vk[1, k], away_vk[2, k]
        t_k[i] = knots_k[k] - row
    for r in range(len(start_r) - 1, 0, -1):
        start_r[r] = start_r[r - 1]
    start_r[0] = 0
    _splines(pairs.B_mk, t_k, n)


@jit
def _splines(B_mk, t_k, n):
    """The four B-splines that are not zero at each place between two knots."""
    B0_k, B1_k, B2_k, B3_k = B_mk[0], B_mk[1], B_mk[2], B_mk[3]
    sixth = t_k.dtype.type(1 / 6)
    for k in range(n):
        t = t_k[k]
        s = 1 - t
        B0_k[k] = s * s * s * sixth
        B1_k[k] = (4 + t * t * (3 * t - 6)) * sixth
        B2_k[k] = (4 + s * s * (3 * s - 6)) * sixth
        B3_k[k] = t * t * t * sixth


@jit
def _add_polynomial(value_k, B_k, C_q, x_k, y_k, z_k):
    """value += B(r) P(x, y, z) at all points, P by Horner's rule, coefficients as in :data:`POWERS_qv`."""
    for k in range(unsigned(len(value_k))):
        x, y, z = x_k[k], y_k[k], z_k[k]
        p0 = C_q[0] + z * (C_q[1] + z * (C_q[2] + z * (C_q[3] + z * C_q[4])))
        p0 += y * (
            C_q[5] + z * (C_q[6] + z * (C_q[7] + z * C_q[8]))
            + y * (C_q[9] + z * (C_q[10] + z * C_q[11]) + y * (C_q[12] + z * C_q[13] + y * C_q[14]))
        )  # fmt: skip
        p1 = C_q[15] + z * (C_q[16] + z * (C_q[17] + z * C_q[18]))
        p1 += y * (C_q[19] + z * (C_q[20] + z * C_q[21]) + y * (C_q[22] + z * C_q[23] + y * C_q[24]))
        p2 = C_q[25] + z * (C_q[26] + z * C_q[27]) + y * (C_q[28] + z * C_q[29] + y * C_q[30])
        p3 = C_q[31] + z * C_q[32] + y * C_q[33]
        value_k[k] += B_k[k] * (p0 + x * (p1 + x * (p2 + x * (p3 + x * C_q[34]))))


@jit
def _powers(f_q, x, y, z):
    """xⁱ yʲ zᵏ in the order of :data:`POWERS_qv`."""
    q = 0
    xi = f_q.dtype.type(1)
    for i in range(WIDTH):
        xy = xi
        for j in range(WIDTH - i):
            xyz = xy
            for _ in range(WIDTH - i - j):
                f_q[q] = xyz
                xyz *= z
                q += 1
            xy *= y
        xi *= x


@jit
def _add_moments(C_rq, f_q, w0, w1, w2, w3):
    """Four rows of C += w f: the transpose of :func:`_add_polynomial` at one point."""
    C0_q, C1_q, C2_q, C3_q = C_rq[0], C_rq[1], C_rq[2], C_rq[3]
    for q in range(unsigned(NQ)):
        f = f_q[q]
        C0_q[q] += w0 * f
        C1_q[q] += w1 * f
        C2_q[q] += w2 * f
        C3_q[q] += w3 * f


@jit
def add_at_points(density_xp, C_xarq, reach, pairs, first, last, spacing, cutoff):
    """Add the densities of the atoms from ``first`` to ``last`` to those at the points."""
    x_k, y_k, z_k, B_mk, value_k = pairs.e_vk[0], pairs.e_vk[1], pairs.e_vk[2], pairs.B_mk, pairs.value_k
    for a in range(first, last):
        g = reach.images_ax[a, 0]
        while g < reach.images_ax[a, 1]:
            g, n = _collect(pairs, reach, a, g, cutoff)
            _sort(pairs, n, spacing)
            for row in range(len(pairs.start_r) - 1):
                i, j = pairs.start_r[row], pairs.start_r[row + 1]
                if i == j:
                    continue
                end = i + (j - i + LANES - 1) // LANES * LANES  # whole vectors: there is memory behind
                for c in range(len(C_xarq)):
                    value_k[i:end] = 0
                    for m in range(4):
                        _add_polynomial(
                            value_k[i:end], B_mk[m, i:end], C_xarq[c, a, row + m], x_k[i:end], y_k[i:end], z_k[i:end]
                        )
                    for k in range(i, j):
                        density_xp[c, pairs.point_k[k]] += value_k[k]


@jit
def integrate_points(C_xarq, weight_xp, reach, pairs, first, last, spacing, cutoff):
    """The transpose: add the moments of ``weight_xp`` to the coefficients of these atoms."""
    x_k, y_k, z_k, B_mk, f_q = pairs.e_vk[0], pairs.e_vk[1], pairs.e_vk[2], pairs.B_mk, pairs.f_q
    for a in range(first, last):
        g = reach.images_ax[a, 0]
        while g < reach.images_ax[a, 1]:
            g, n = _collect(pairs, reach, a, g, cutoff)
            _sort(pairs, n, spacing)
            for row in range(len(pairs.start_r) - 1):
                for k in range(pairs.start_r[row], pairs.start_r[row + 1]):
                    _powers(f_q, x_k[k], y_k[k], z_k[k])
                    for c in range(len(C_xarq)):
                        w = weight_xp[c, pairs.point_k[k]]
                        C_rq = C_xarq[c, a, row : row + 4]
                        _add_moments(C_rq, f_q, w * B_mk[0, k], w * B_mk[1, k], w * B_mk[2, k], w * B_mk[3, k])


# --- derivatives with respect to positions --------------------------------------------------------------------------


@jit
def _power_slopes(slope_vq, f_q):
    """Derivatives of the powers with respect to x, y and z."""
    for v in range(3):
        for q in range(len(LOWER_vq[0])):
            slope_vq[v, q] = POWERS_qv[q, v] * f_q[LOWER_vq[v, q]]


@jit
def _gradient(C_rq, k, pairs, per_spacing):
    """∇[Σ_rows B(r) P_row(x, y, z)] at one point, whose powers and their slopes are at hand."""
    C0_q, C1_q, C2_q, C3_q = C_rq[0], C_rq[1], C_rq[2], C_rq[3]
    x, y, z, t = pairs.e_vk[0, k], pairs.e_vk[1, k], pairs.e_vk[2, k], pairs.t_k[k]
    B0, B1, B2, B3 = pairs.B_mk[0, k], pairs.B_mk[1, k], pairs.B_mk[2, k], pairs.B_mk[3, k]
    number = pairs.t_k.dtype.type
    half, s = number(0.5) * per_spacing, 1 - t
    S0, S1, S2, S3 = -s * s * half, t * (3 * t - 4) * half, s * (4 - 3 * s) * half, t * t * half
    slope0_q, slope1_q, slope2_q = pairs.slope_vq[0], pairs.slope_vq[1], pairs.slope_vq[2]
    radial = along_x = along_y = along_z = number(0)
    for q in range(unsigned(NQ)):
        C0, C1, C2, C3 = C0_q[q], C1_q[q], C2_q[q], C3_q[q]
        c = B0 * C0 + B1 * C1 + B2 * C2 + B3 * C3
        radial += (S0 * C0 + S1 * C1 + S2 * C2 + S3 * C3) * pairs.f_q[q]
        along_x += c * slope0_q[q]
        along_y += c * slope1_q[q]
        along_z += c * slope2_q[q]
    radial /= max(np.sqrt(x * x + y * y + z * z), number(1e-12))
    return radial * x + along_x, radial * y + along_y, radial * z + along_z


@jit
def point_gradients(gradient_av, weight_xp, C_xarq, reach, pairs, first, last, spacing, cutoff):
    """Derivatives of Σ weight_xp ρ_xp with respect to the positions of the atoms from ``first`` to ``last``."""
    x_k, y_k, z_k = pairs.e_vk[0], pairs.e_vk[1], pairs.e_vk[2]
    per_spacing = pairs.t_k.dtype.type(1 / spacing)
    for a in range(first, last):
        g = reach.images_ax[a, 0]
        while g < reach.images_ax[a, 1]:
            g, n = _collect(pairs, reach, a, g, cutoff)
            _sort(pairs, n, spacing)
            for row in range(len(pairs.start_r) - 1):
                for k in range(pairs.start_r[row], pairs.start_r[row + 1]):
                    _powers(pairs.f_q, x_k[k], y_k[k], z_k[k])
                    _power_slopes(pairs.slope_vq, pairs.f_q)
                    for c in range(len(C_xarq)):
                        weight = weight_xp[c, pairs.point_k[k]]
                        along_x, along_y, along_z = _gradient(C_xarq[c, a, row : row + 4], k, pairs, per_spacing)
                        gradient_av[a, 0] -= weight * along_x
                        gradient_av[a, 1] -= weight * along_y
                        gradient_av[a, 2] -= weight * along_z
