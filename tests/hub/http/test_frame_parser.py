"""Tests of the frame parser: it finds whole messages, and the ends of all other frames."""

from __future__ import annotations

import pytest

from hub.http.frame_parser import FORBIDDEN, INVALID, frame_end, split_messages
from tests.end_to_end.raw_websocket import BINARY, PING, TEXT, frame

LIMIT = 70_000
"""Above 65,535, where a length takes eight bytes."""


@pytest.mark.parametrize("size", [0, 1, 125, 126, 65_535, 65_536])
def test_the_header_determines_the_end_of_a_frame(size: int) -> None:
    """With an incomplete header, the result is not beyond the real end."""
    whole = frame(BINARY, bytes(size))
    assert frame_end(whole, 0, LIMIT) == len(whole)
    for part in range(min(14, len(whole))):
        assert part < frame_end(whole[:part], 0, LIMIT) <= len(whole)


@pytest.mark.parametrize("length", ["fe007d", "ff0000000000000005", "ff000000000000ffff", "ff8000000000000000"])
def test_a_length_in_another_form_than_the_shortest_is_forbidden(length: str) -> None:
    """Or one beyond 2^63. A message of such a frame is not delivered either."""
    forbidden = bytes([0x82]) + bytes.fromhex(length) + bytes(4 + 65_535)
    assert frame_end(forbidden, 0, LIMIT) == FORBIDDEN
    assert split_messages(forbidden, 0, LIMIT, 9) == ([], 0)


def test_a_frame_without_a_mask_or_above_the_limit_is_invalid() -> None:
    """Its header alone is enough, and no message of it is delivered."""
    for wrong in (frame(BINARY, bytes(9), mask=None), frame(BINARY, bytes(LIMIT + 1))):
        assert frame_end(wrong[:10], 0, LIMIT) == INVALID
        assert split_messages(wrong, 0, LIMIT, 9) == ([], 0)


def test_messages_are_split_up_to_the_first_other_frame() -> None:
    """The rest begins exactly with that frame."""
    ordinary = frame(TEXT, b"a") + frame(BINARY, b"")
    for rest in (frame(PING, b""), frame(TEXT, b"half", fin=False), frame(TEXT, b"cut")[:-1]):
        assert split_messages(ordinary + rest, 0, LIMIT, 9) == ([(b"a", True), (b"", False)], len(ordinary))
