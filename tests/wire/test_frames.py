"""Live updates as binary frames."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.wire.strategies import damaged, updates
from wire.columns import ITEM_BYTES, pack_floats, unpack_floats
from wire.errors import Code, WireError
from wire.frames import HEADER_BYTES, Kind, NumberColumn, TextColumn, Update, decode_update, encode_update, readings


@given(updates)
def test_an_update_survives_its_way(update: Update) -> None:
    """Whatever a frame can hold is decoded to what it held."""
    assert decode_update(encode_update(**update._asdict())) == update


@given(updates)
def test_the_columns_are_aligned(update: Update) -> None:
    """Each column begins at a multiple of 8 bytes, where a Float64Array can begin."""
    frame = encode_update(**update._asdict())
    position = HEADER_BYTES + 8 * len(update.numbers)
    for column in update.numbers:
        for part in (column.times_ms, column.values):
            assert position % ITEM_BYTES == 0
            assert frame[position : position + len(part)] == part
            position += len(part)


@given(st.binary(max_size=200))
def test_any_bytes_are_an_update_or_one_error(frame: bytes) -> None:
    """No bytes at all get anything else out of the decoder."""
    check_decoding(frame)


@given(damaged(updates.map(lambda update: encode_update(**update._asdict()))))
def test_a_damaged_frame_is_an_update_or_one_error(frame: bytes) -> None:
    """Nor do frames that are nearly right; what decodes holds what an encoder can say."""
    check_decoding(frame)


@given(st.binary(min_size=HEADER_BYTES, max_size=HEADER_BYTES), st.integers(0, 40))
def test_any_header_is_an_update_or_one_error(header: bytes, more: int) -> None:
    """Nor do headers that announce anything."""
    check_decoding(b"\x01\x01" + header[2:] + bytes(more))


def check_decoding(frame: bytes) -> None:
    """Assert that the frame decodes to an update that encodes to the same, or raises one error."""
    try:
        update = decode_update(frame)
    except WireError as refusal:
        assert refusal.code is Code.BAD_MESSAGE
        return
    assert decode_update(encode_update(**update._asdict())) == update


def test_a_count_that_does_not_fit_stays_at_its_bound() -> None:
    """More conflated readings than 32 bits hold are sent as the largest 32-bit number."""
    frame = encode_update(Kind.LIVE, 1, offset=1, numbers=[], conflated=2**40)
    assert decode_update(frame).conflated == 2**32 - 1


def test_columns_beyond_the_bound_are_refused_by_the_encoder() -> None:
    """A frame holds at most 65,535 numeric columns; the hub splits what has more."""
    with pytest.raises(struct.error):
        encode_update(Kind.LIVE, 1, offset=1, numbers=[NumberColumn(0, b"", b"")] * 2**16)


def test_readings_pair_times_with_values() -> None:
    """A column as pairs, None for no value."""
    column = NumberColumn(0, pack_floats([1.0, 2.5]), pack_floats([7.0, None]))
    assert readings(column) == [(1.0, 7.0), (2.5, None)]
    assert unpack_floats(column.times_ms) == [1.0, 2.5]


def test_the_position_of_a_text_column_has_32_bits() -> None:
    """As that of a numeric column; the page keeps no other series."""
    last = TextColumn(2**32 - 1, [1.0], ["on"])
    assert decode_update(encode_update(Kind.LIVE, 1, offset=1, numbers=[], texts=[last])).texts == [last]
    for position in (2**32, -1):
        frame = encode_update(Kind.LIVE, 1, offset=1, numbers=[], texts=[TextColumn(position, [1.0], ["on"])])
        with pytest.raises(WireError):
            decode_update(frame)
