"""How the numbers of a model file are laid out so that it packs well, in a wheel or elsewhere.

Bytes of one significance stand together, as the shuffle filter of HDF5 has them: signs and exponents, which are alike,
are not mixed with the last bits, which are noise.  Nothing is lost by it.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

ROUNDED = 'familiarity.whiten_sck', 'error_bars.whiten_lcd', 'error_bars.factor_zlt'
"""Matrices of which files hold 16 bits of the mantissa, three bytes for each number: densities depend on them only far
from the training data, and error bars and distances change by less than 0.3 %."""


def in_planes(array: np.ndarray) -> np.ndarray:
    """(bytes of a number, …) uint8, the lowest bytes first.

    Single precision is without the lowest bytes where all of them are 0.
    """
    array = np.asarray(array, array.dtype.newbyteorder('<'))
    bytes_xb = np.frombuffer(array.tobytes(), np.uint8).reshape(array.size, array.itemsize)
    if array.itemsize == 4 and not bytes_xb[:, 0].any():
        bytes_xb = bytes_xb[:, 1:]
    return np.ascontiguousarray(bytes_xb.T).reshape(bytes_xb.shape[1], *array.shape)


def from_planes(planes: np.ndarray) -> np.ndarray:
    """What :func:`in_planes` was given.

    Raises
    ------
    ValueError
        Other than three, four or eight planes.
    """
    if planes.ndim == 0 or len(planes) not in (3, 4, 8):
        raise ValueError(f'numbers have three, four or eight bytes, and an array of the shape {planes.shape} others')
    bytes_bx = planes.reshape(len(planes), planes.size // len(planes))
    if len(planes) == 3:
        bytes_bx = np.concatenate([np.zeros_like(bytes_bx[:1]), bytes_bx])
    return np.frombuffer(bytearray(bytes_bx.T.tobytes()), f'<f{len(bytes_bx)}').reshape(planes.shape[1:])


def without_planes(arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Numbers for the bytes among some arrays of a file."""
    return {name: from_planes(array) if array.itemsize == 1 else array for name, array in arrays.items()}


def rounded(arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """With those of :data:`ROUNDED` that are of single precision to 16 bits."""
    return {
        name: to_16_bits(array) if name in ROUNDED and array.dtype == np.float32 else array
        for name, array in arrays.items()
    }


def to_16_bits(array: np.ndarray) -> np.ndarray:
    """Single precision to the nearest numbers with 16 bits of the mantissa, by 1.5e-5 of themselves at most.

    The largest numbers stay, so that none becomes infinite.
    """
    bits = (np.asarray(array, order='C').view(np.uint32) + np.uint32(0x80)) & np.uint32(0xFFFFFF00)
    return np.where(abs(array) < 3e38, bits.view(np.float32), array)
