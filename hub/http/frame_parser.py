"""Frames of agents found in a stream of bytes (RFC 6455, 5.2). Pure.

An agent sends hardly anything but whole messages: one final, masked data frame for each, without extensions. websockets
reads a stream with generators and makes an object of each frame, in 5.8 µs; `split_messages` takes 0.9 µs on the same
core. For every other frame `frame_end` finds the end, and websockets reads it.
"""

from __future__ import annotations

# `apply_mask` is the one in C if it is available; websockets.utils has the one in Python.
from websockets.frames import apply_mask  # type: ignore[attr-defined]

TEXT, BINARY = 0x81, 0x82
"""First bytes of final frames without reserved bits: FIN and the opcode."""

MASKED = 0x80
"""A bit of the second byte. The other seven bits are the length, or the number of the following bytes that are."""

IN_TWO_BYTES, IN_EIGHT_BYTES = MASKED | 126, MASKED | 127

SHORTEST_LENGTH = {2: 0, 4: 126, 10: 65_536}
"""The shortest length for each size of a header, without its mask."""

MASK_BYTES = 4

INVALID = -1
"""The end of a frame that websockets has to reject, whatever follows it."""

FORBIDDEN = -2
"""The end of a frame whose length is written in more bytes than it needs, or is beyond 2^63: websockets accepts it."""

ReceivedMessage = tuple[bytes, bool]
"""A payload, and whether it is a text (not yet known to be UTF-8)."""


def split_messages(data: bytes, at: int, limit: int, count: int) -> tuple[list[ReceivedMessage], int]:
    """Return the complete messages in `data` from `at` on, up to the first frame that is incomplete or of another kind.

    Return at most `count` of them, and where the rest begins. A message longer than `limit` is of another kind. Pure.
    """
    messages: list[ReceivedMessage] = []
    # A frame without a payload has two bytes and its mask.
    last = len(data) - 2 - MASK_BYTES
    size = len(data)
    while at <= last and len(messages) < count:
        first, second = data[at], data[at + 1]
        if first != TEXT and first != BINARY:
            break
        if MASKED <= second < IN_TWO_BYTES:
            body = at + 6
            end = body + second - MASKED
        elif second == IN_TWO_BYTES:
            body = at + 8
            end = body + (data[at + 2] << 8 | data[at + 3])
            if end - body < 126:
                break
        else:
            break
        if end > size or end - body > limit:
            break
        messages.append((apply_mask(data[body:end], data[body - MASK_BYTES : body]), first == TEXT))
        at = end
    return messages, at


def frame_end(data: bytes, at: int, limit: int) -> int:
    """Return where the frame that begins at `at` ends, or its earliest possible end if its header is incomplete.

    Return INVALID for a frame without a mask, or with a payload longer than `limit`, and FORBIDDEN for a length that is
    not written as RFC 6455, 5.2 requires. Pure.
    """
    if at + 2 > len(data):
        return at + 2
    second = data[at + 1]
    if second < MASKED:
        return INVALID
    header = 2 + {IN_TWO_BYTES: 2, IN_EIGHT_BYTES: 8}.get(second, 0)
    if at + header > len(data):
        return at + header
    length = int.from_bytes(data[at + 2 : at + header], "big") if header > 2 else second - MASKED
    if length < SHORTEST_LENGTH[header] or length >= 1 << 63:
        return FORBIDDEN
    return INVALID if length > limit else at + header + MASK_BYTES + length
