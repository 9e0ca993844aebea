"""Sums of polynomials that stand in other places for each point: the compiled code of eight points at a time.

Left to itself the compiler multiplies one number at a time here.  So the few instructions are written out as LLVM has
them: the polynomial of a point is loaded as one vector, and the vectors of eight points are transposed.

Numba's cache does not notice changes in this file: touch :mod:`.kernels` after one.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba.core import types
from numba.extending import intrinsic

POINTS = 8
"""That are worked on at a time; memory must reach to a whole multiple."""
FAST = ('fast',)


@intrinsic
def add_polynomials(typingctx, rho_x, start, a_x, row_k, B0_k, B1_k, B2_k, B3_k, w_k, w0, k):  # type: ignore[no-untyped-def]
    """rho[start + k] += Σ_m B_m,k Σ_j a[5 (row_k + m) + j] (w0 + w_k)ʲ, m < 4, j < 5, for eight points from ``k`` on.

    ``a_x`` is read up to three numbers beyond the last polynomial.
    """

    def codegen(context, builder, signature, arguments):  # type: ignore[no-untyped-def]
        rho_x, start, a_x, row_k, *B_mk, w_k, w0, k = _pointers(context, builder, signature, arguments)
        c_ij = []
        for i in range(POINTS):
            point = builder.add(k, k.type(i))
            x = builder.mul(builder.sext(_load(builder, row_k, point), k.type), k.type(5))
            terms = [
                builder.fmul(
                    _splat(builder, _load(builder, B_k, point)),
                    _load(builder, a_x, builder.add(x, x.type(5 * m)), 8),
                    FAST,
                )
                for m, B_k in enumerate(B_mk)
            ]
            pairs = builder.fadd(terms[0], terms[1], FAST), builder.fadd(terms[2], terms[3], FAST)
            c_ij.append(builder.fadd(*pairs, FAST))
        w = builder.fadd(_splat(builder, w0), _load(builder, w_k, k, POINTS), FAST)
        value = _horner(builder, _transposed(builder, c_ij)[4::-1], w)
        _add(builder, rho_x, builder.add(start, k), value)
        return context.get_dummy_value()

    return types.void(rho_x, start, a_x, row_k, B0_k, B1_k, B2_k, B3_k, w_k, w0, k), codegen


@intrinsic
def add_cubics(typingctx, rho_x, start, table_x, row_k, t_k, k):  # type: ignore[no-untyped-def]
    """rho[start + k] += Σ_j table[4 row_k + j] t_k³⁻ʲ, j < 4, for eight points from ``k`` on."""

    def codegen(context, builder, signature, arguments):  # type: ignore[no-untyped-def]
        rho_x, start, table_x, row_k, t_k, k = _pointers(context, builder, signature, arguments)
        c_ij = []
        for i in range(POINTS):
            row = builder.sext(_load(builder, row_k, builder.add(k, k.type(i))), k.type)
            c_ij.append(_load(builder, table_x, builder.mul(row, k.type(4)), 4))
        both = [_shuffled(builder, c_ij[i], c_ij[i + 4], range(8)) for i in range(4)]  # of points i and i + 4
        halves = _transposed_fours(builder, both)
        value = _horner(builder, halves, _load(builder, t_k, k, POINTS))
        _add(builder, rho_x, builder.add(start, k), value)
        return context.get_dummy_value()

    return types.void(rho_x, start, table_x, row_k, t_k, k), codegen


# --- what they are made of ------------------------------------------------------------------------------------------


def _pointers(context, builder, signature, arguments) -> list[Any]:  # type: ignore[no-untyped-def]
    """The operands, of arrays the pointer to the first number."""
    return [
        context.make_array(kind)(context, builder, value).data if isinstance(kind, types.Array) else value
        for kind, value in zip(signature.args, arguments, strict=True)
    ]


def _load(builder, pointer, index, count: int = 1) -> Any:  # type: ignore[no-untyped-def]
    """One number, or a vector of neighbours."""
    number = pointer.type.pointee
    place = builder.gep(pointer, [index])
    if count == 1:
        return builder.load(place)
    vector = builder.bitcast(place, ir.VectorType(number, count).as_pointer())
    return builder.load(vector, align=8 if isinstance(number, ir.DoubleType) else 4)


def _add(builder, pointer, index, value) -> None:  # type: ignore[no-untyped-def]
    """Add a vector to neighbours in memory."""
    place = builder.bitcast(builder.gep(pointer, [index]), value.type.as_pointer())
    align = 8 if isinstance(value.type.element, ir.DoubleType) else 4
    builder.store(builder.fadd(builder.load(place, align=align), value, FAST), place, align=align)


def _splat(builder, number) -> Any:  # type: ignore[no-untyped-def]
    """A vector of eight times the same."""
    vector = builder.insert_element(ir.Constant(ir.VectorType(number.type, 8), ir.Undefined), number, ir.IntType(32)(0))
    return _shuffled(builder, vector, vector, [0] * 8)


def _shuffled(builder, first, second, places) -> Any:  # type: ignore[no-untyped-def]
    """Some elements of two vectors, those of the second counted on from the first."""
    mask = ir.Constant(ir.VectorType(ir.IntType(32), len(places)), list(places))
    return builder.shuffle_vector(first, second, mask)


def _transposed(builder, c_ij) -> list[Any]:  # type: ignore[no-untyped-def]
    """Eight vectors of eight → eight vectors, the j-th of the j-th elements."""
    low, high = range(4), range(4, 8)
    halves = []
    for half in low, high:
        both = [_shuffled(builder, c_ij[i], c_ij[i + 4], [*half, *(8 + j for j in half)]) for i in range(4)]
        halves += _transposed_fours(builder, both)
    return halves


def _transposed_fours(builder, c_ij) -> list[Any]:  # type: ignore[no-untyped-def]
    """Four vectors of two halves of four → four vectors, the j-th of the j-th elements of the halves of all.

    Both halves are treated alike, as processors have it.
    """
    low, high = [0, 8, 1, 9, 4, 12, 5, 13], [2, 10, 3, 11, 6, 14, 7, 15]
    pairs = [[_shuffled(builder, c_ij[i], c_ij[i + 1], places) for places in (low, high)] for i in (0, 2)]
    low, high = [0, 1, 8, 9, 4, 5, 12, 13], [2, 3, 10, 11, 6, 7, 14, 15]
    return [_shuffled(builder, pairs[0][p], pairs[1][p], places) for p in (0, 1) for places in (low, high)]


def _horner(builder, c_j, x) -> Any:  # type: ignore[no-untyped-def]
    """Σ_j c_j x^(n−j), highest power first."""
    value = c_j[0]
    for c in c_j[1:]:
        value = builder.fadd(c, builder.fmul(value, x, FAST), FAST)
    return value
