"""Compiled loops over pairs of a point and an image of an atom (numba, CPU).

An atom's density is a polynomial in x, y, z for each B-spline of the distance, as in :mod:`.kernels`; points that stand
on no common lines share nothing of it, which makes one of them several times as dear.
"""

from __future__ import annotations

import numpy as np

from ase_deepdensity.collocation.kernels import WIDTH, jit

POWERS_qv = np.argwhere(np.indices((WIDTH,) * 3).sum(0) < WIDTH)
"""(35, 3) exponents of x, y and z."""
NQ = len(POWERS_qv)
FIRST, SECOND, THIRD = (np.ascontiguousarray(POWERS_qv[:, v]) for v in range(3))


@jit
def _powers(out_vn, x, y, z):
    """Powers 0 to MAX_L of three numbers."""
    out_vn[0, 0] = out_vn[1, 0] = out_vn[2, 0] = 1
    for n in range(1, WIDTH):
        out_vn[0, n] = out_vn[0, n - 1] * x
        out_vn[1, n] = out_vn[1, n - 1] * y
        out_vn[2, n] = out_vn[2, n - 1] * z


@jit
def _monomials(out_q, power_vn):
    """x^i y^j z^k for all exponents of :data:`POWERS_qv`."""
    q = 0
    for i in range(WIDTH):
        for j in range(WIDTH - i):
            xy = power_vn[0, i] * power_vn[1, j]
            for k in range(WIDTH - i - j):
                out_q[q] = xy * power_vn[2, k]
                q += 1


@jit
def _four_splines(out_m, t):
    """The four B-splines that are not zero at a place between two knots."""
    s = 1 - t
    out_m[0] = s * s * s / 6
    out_m[1] = (4 + t * t * (3 * t - 6)) / 6
    out_m[2] = (4 + s * s * (3 * s - 6)) / 6
    out_m[3] = t * t * t / 6


def _pair_walker(transpose):
    @jit
    def walk(density_p, C_apq, point_pv, atom_g, image_gv, first, last, spacing, cutoff):
        """Add the atoms' density to ``density_p``, or its moments to ``C_apq`` of atoms ``first`` to ``last``."""
        power_vn, f_q, B_m = np.zeros((3, WIDTH), C_apq.dtype), np.zeros(NQ, C_apq.dtype), np.zeros(4, C_apq.dtype)
        for p in range(len(point_pv)):
            for g in range(len(atom_g)):
                a = atom_g[g]
                if a < first or a >= last:
                    continue
                x, y, z = (
                    point_pv[p, 0] - image_gv[g, 0], point_pv[p, 1] - image_gv[g, 1], point_pv[p, 2] - image_gv[g, 2],
                )  # fmt: skip
                r2 = x * x + y * y + z * z
                if r2 >= cutoff * cutoff:
                    continue
                knots = np.sqrt(r2) / spacing
                row = int(knots)
                _four_splines(B_m, knots - row)
                _powers(power_vn, x, y, z)
                _monomials(f_q, power_vn)
                if transpose:
                    for m in range(4):
                        weight = density_p[p] * B_m[m]
                        for q in range(NQ):
                            C_apq[a, row + m, q] += weight * f_q[q]
                else:
                    sum_ = C_apq.dtype.type(0)
                    C0_q, C1_q, C2_q, C3_q = C_apq[a, row], C_apq[a, row + 1], C_apq[a, row + 2], C_apq[a, row + 3]
                    for q in range(NQ):
                        sum_ += f_q[q] * (B_m[0] * C0_q[q] + B_m[1] * C1_q[q] + B_m[2] * C2_q[q] + B_m[3] * C3_q[q])
                    density_p[p] += sum_

    return walk


add_at_points = _pair_walker(False)
integrate_points = _pair_walker(True)


@jit
def point_gradients(gradient_av, weight_p, C_apq, point_pv, atom_g, image_gv, first, last, spacing, cutoff):
    """Derivatives of Σ_p weight_p ρ_p with respect to the positions of the atoms from ``first`` to ``last``."""
    power_vn, f_q = np.zeros((3, WIDTH)), np.zeros(NQ)
    B_m, S_m, e_v = np.zeros(4), np.zeros(4), np.zeros(3)
    for p in range(len(point_pv)):
        for g in range(len(atom_g)):
            a = atom_g[g]
            if a < first or a >= last:
                continue
            for v in range(3):
                e_v[v] = point_pv[p, v] - image_gv[g, v]
            r2 = e_v[0] ** 2 + e_v[1] ** 2 + e_v[2] ** 2
            if r2 >= cutoff * cutoff:
                continue
            r = np.sqrt(r2)
            row = int(r / spacing)
            t = r / spacing - row
            s = 1 - t
            _four_splines(B_m, t)
            S_m[0], S_m[1], S_m[2], S_m[3] = -s * s / 2, t * (3 * t - 4) / 2, s * (4 - 3 * s) / 2, t * t / 2
            _powers(power_vn, e_v[0], e_v[1], e_v[2])
            _monomials(f_q, power_vn)
            radial = 0.0
            for q in range(NQ):
                i, j, k = FIRST[q], SECOND[q], THIRD[q]
                c = slope = 0.0
                for m in range(4):
                    c += B_m[m] * C_apq[a, row + m, q]
                    slope += S_m[m] * C_apq[a, row + m, q]
                radial += slope * f_q[q]
                c *= weight_p[p]
                if i > 0:
                    gradient_av[a, 0] -= c * i * power_vn[0, i - 1] * power_vn[1, j] * power_vn[2, k]
                if j > 0:
                    gradient_av[a, 1] -= c * j * power_vn[0, i] * power_vn[1, j - 1] * power_vn[2, k]
                if k > 0:
                    gradient_av[a, 2] -= c * k * power_vn[0, i] * power_vn[1, j] * power_vn[2, k - 1]
            radial *= weight_p[p] / (spacing * max(r, 1e-12))
            for v in range(3):
                gradient_av[a, v] -= radial * e_v[v]
