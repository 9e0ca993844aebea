"""Eight points at a time against sums written out with NumPy."""

import numpy as np
import pytest

from ase_deepdensity.collocation.kernels import jit, unsigned
from ase_deepdensity.collocation.vectors import POINTS, add_cubics, add_polynomials

NUMBER, START, ROWS = 4 * POINTS, 3, 28


@jit
def polynomials(rho_x, start, a_x, row_k, B_mk, w_k, w0):
    for k in range(unsigned(0), unsigned(len(row_k)), unsigned(POINTS)):
        add_polynomials(rho_x, start, a_x, row_k, B_mk[0], B_mk[1], B_mk[2], B_mk[3], w_k, w0, k)


@jit
def cubics(rho_x, start, table_x, row_k, t_k):
    for k in range(unsigned(0), unsigned(len(row_k)), unsigned(POINTS)):
        add_cubics(rho_x, start, table_x, row_k, t_k, k)


@pytest.mark.parametrize(('dtype', 'tolerance'), [(np.float32, 1e-5), (np.float64, 1e-13)])
def test_against_sums(dtype, tolerance):
    rng = np.random.default_rng(0)
    row_k = rng.integers(0, ROWS - 3, NUMBER).astype(np.int32)
    a_x, B_mk, w_k = (rng.normal(size=shape).astype(dtype) for shape in (5 * ROWS + 3, (4, NUMBER), NUMBER))
    before_x = rng.normal(size=NUMBER + 2 * START).astype(dtype)
    here = slice(START, START + NUMBER)

    rho_x, expected_x = before_x.copy(), before_x.copy()
    polynomials(rho_x, unsigned(START), a_x, row_k, B_mk, w_k, dtype(0.2))
    expected_x[here] += sum(
        B_mk[m] * sum(a_x[5 * (row_k + m) + j] * (w_k + dtype(0.2)) ** j for j in range(5)) for m in range(4)
    )
    np.testing.assert_allclose(rho_x, expected_x, rtol=0, atol=tolerance * np.abs(expected_x).max())

    rho_x, expected_x = before_x.copy(), before_x.copy()
    cubics(rho_x, unsigned(START), a_x, row_k, w_k)
    expected_x[here] += sum(a_x[4 * row_k + j] * w_k ** (3 - j) for j in range(4))
    np.testing.assert_allclose(rho_x, expected_x, rtol=0, atol=tolerance * np.abs(expected_x).max())
