"""Live updates as binary frames that a browser reads without parsing.

Layout, all little-endian; the columns begin at a multiple of 8 so that `new Float64Array(frame, offset, length)` works:

    bytes 0     format      1
    bytes 1     kind        1 live, 2 history, 3 missed (after a reconnect), 4 snapshot
    bytes 2-3   columns     uint16, how many columns follow (the text columns not counted)
    bytes 4-7   schema      uint32
    bytes 8-11  subscription uint32; 0: for every subscription of this schema
    bytes 12-15 conflated   uint32, readings since the last frame that this viewer did not receive one by one
    bytes 16-23 offset      float64, the cursor after this frame; 0: it does not move (history, all but the last of
                            several frames that belong together)
    bytes 24-27 text_bytes  uint32, length of the text columns at the end
    bytes 28-31 zero
    then per column: uint32 series (position in the schema), uint32 length
    (no padding is needed: each head is 8 bytes)
    then per column: float64[length] times in milliseconds since 1970 UTC, float64[length] values (NaN: no value)
    then text_bytes of JSON: [[series, [time_ms, …], ["value", …]], …] for string metrics

Integers and booleans (0 or 1) are sent as float64; the history API returns exact integers beyond 2^53.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from enum import IntEnum
from typing import Annotated, NamedTuple

import msgspec

from wire.columns import ITEM_BYTES, unpack_floats
from wire.errors import Code, WireError
from wire.limits import MAX_SEQ

FORMAT = 1
MAX_COLUMNS = 2**16 - 1
"""Most columns of one frame; the hub splits larger updates."""

_HEADER = struct.Struct("<BBHIIIdII")
_COLUMN = struct.Struct("<II")
HEADER_BYTES = _HEADER.size


class Kind(IntEnum):
    """Origin of the readings in a frame."""

    LIVE = 1
    HISTORY = 2
    MISSED = 3
    SNAPSHOT = 4


class NumberColumn(NamedTuple):
    """The readings of one numeric series: packed little-endian float64 of equal length, times in ms."""

    series: int
    times_ms: bytes
    values: bytes


class TextColumn(NamedTuple):
    """The readings of one string series."""

    series: int
    times_ms: list[float]
    values: list[str | None]


class Update(NamedTuple):
    """A decoded frame."""

    kind: Kind
    schema: int
    subscription: int
    conflated: int
    offset: int
    numbers: list[NumberColumn]
    texts: list[TextColumn]


_encode_json = msgspec.json.Encoder().encode
_Position = Annotated[int, msgspec.Meta(ge=0, le=2**32 - 1)]
_decode_texts = msgspec.json.Decoder(list[tuple[_Position, list[float], list[str | None]]]).decode


def encode_update(
    kind: Kind,
    schema: int,
    *,
    offset: int,
    numbers: Sequence[NumberColumn],
    texts: Sequence[TextColumn] = (),
    subscription: int = 0,
    conflated: int = 0,
) -> bytes:
    """Encode a frame with these columns, of which at most MAX_COLUMNS are numeric."""
    text = _encode_json(texts) if texts else b""
    header = _HEADER.pack(
        FORMAT, kind, len(numbers), schema, subscription, min(conflated, 2**32 - 1), offset, len(text), 0
    )
    heads = b"".join([_COLUMN.pack(series, len(times) // ITEM_BYTES) for series, times, _ in numbers])
    body = b"".join([part for _, times, values in numbers for part in (times, values)])
    return b"".join((header, heads, body, text))


def decode_update(frame: bytes) -> Update:
    """Decode a frame. Raises WireError(BAD_MESSAGE) for bytes that `encode_update` does not make."""
    try:
        return _decode_update(frame)
    except (struct.error, ValueError, msgspec.DecodeError) as error:
        raise WireError(Code.BAD_MESSAGE, f"not a live frame: {error}") from None


def _decode_update(frame: bytes) -> Update:
    version, kind, count, schema, subscription, conflated, offset, text_bytes, spare = _HEADER.unpack_from(frame)
    heads = [_COLUMN.unpack_from(frame, HEADER_BYTES + i * _COLUMN.size) for i in range(count)]
    position = HEADER_BYTES + count * _COLUMN.size
    numbers = []
    for series, length in heads:
        size = length * ITEM_BYTES
        times = frame[position : position + size]
        values = frame[position + size : position + 2 * size]
        numbers.append(NumberColumn(series, times, values))
        position += 2 * size
    if version != FORMAT:
        raise ValueError(f"format {version} is not known")
    if position + text_bytes != len(frame):
        raise ValueError(f"{position + text_bytes} bytes are announced, there are {len(frame)}")
    if not schema or spare or not 0 <= offset <= MAX_SEQ or not offset.is_integer():
        raise ValueError(f"schema {schema}, offset {offset}")
    texts = [TextColumn(*text) for text in _decode_texts(frame[position:])] if text_bytes else []
    if any(len(text.times_ms) != len(text.values) for text in texts):
        raise ValueError("a text column has not as many values as times")
    return Update(Kind(kind), schema, subscription, conflated, int(offset), numbers, texts)


def readings(column: NumberColumn) -> list[tuple[float, float | None]]:
    """Return a column as (time_ms, value) pairs, with None for "no value"."""
    times = unpack_floats(column.times_ms)
    return [(time or 0.0, value) for time, value in zip(times, unpack_floats(column.values), strict=True)]
