"""Packed columns: little-endian int64 times and float64 values, as they are sent in batches and live frames."""

from __future__ import annotations

import math
import sys
from array import array
from collections.abc import Iterable
from typing import Any

from wire.errors import Code, WireError

ITEM_BYTES = 8
_BIG_ENDIAN = sys.byteorder == "big"


def pack_times(times: Iterable[int]) -> bytes:
    """Return nanoseconds as packed little-endian int64."""
    return _pack(array("q", times))


def pack_floats(values: Iterable[float | None]) -> bytes:
    """Return values as packed little-endian float64, None as NaN."""
    column: list[Any] = list(values)
    try:
        # A column without gaps, the usual one, takes a quarter of the time.
        return _pack(array("d", column))
    except TypeError:
        return _pack(array("d", (math.nan if value is None else value for value in column)))


def unpack_times(packed: bytes) -> list[int]:
    """Return the times of a packed column. Raises WireError(LENGTH_MISMATCH) for a broken length."""
    return _unpack("q", packed).tolist()


def unpack_floats(packed: bytes) -> list[float | None]:
    """Return the values of a packed column, NaN as None. Raises WireError(LENGTH_MISMATCH) for a broken length."""
    return [None if value != value else value for value in _unpack("d", packed)]


def _pack(column: array[int] | array[float]) -> bytes:
    if _BIG_ENDIAN:
        column.byteswap()
    return column.tobytes()


def _unpack(typecode: str, packed: bytes) -> array[int]:
    if len(packed) % ITEM_BYTES:
        raise WireError(Code.LENGTH_MISMATCH, f"a packed column of {len(packed)} bytes is not made of 8-byte items")
    column = array(typecode, packed)
    if _BIG_ENDIAN:
        column.byteswap()
    return column
