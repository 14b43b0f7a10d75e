"""Packed columns."""

from __future__ import annotations

import math
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wire.columns import ITEM_BYTES, pack_floats, pack_times, unpack_floats, unpack_times
from wire.errors import Code, WireError


@given(st.lists(st.integers(-(2**63), 2**63 - 1)))
def test_times_are_little_endian_int64(times: list[int]) -> None:
    """A time column is 8 bytes a time, and comes back as it was."""
    packed = pack_times(times)
    assert packed == struct.pack(f"<{len(times)}q", *times)
    assert unpack_times(packed) == times


@given(st.lists(st.none() | st.floats(allow_nan=False)))
def test_values_are_little_endian_float64_with_nan_for_no_value(values: list[float | None]) -> None:
    """A value column is 8 bytes a value, and comes back as it was."""
    packed = pack_floats(values)
    assert packed == struct.pack(f"<{len(values)}d", *(math.nan if value is None else value for value in values))
    assert unpack_floats(packed) == values


@given(st.binary(max_size=64))
def test_any_bytes_are_a_column_or_one_error(packed: bytes) -> None:
    """Only the length of a packed column can be wrong."""
    for unpack in (unpack_times, unpack_floats):
        if len(packed) % ITEM_BYTES == 0:
            assert len(unpack(packed)) == len(packed) // ITEM_BYTES
        else:
            with pytest.raises(WireError) as raised:
                unpack(packed)
            assert raised.value.code is Code.LENGTH_MISMATCH


def test_every_nan_means_no_value() -> None:
    """Whatever bits a NaN has."""
    assert unpack_floats(struct.pack("<QQ", 0xFFF8000000000000, 0x7FF0000000000001)) == [None, None]
