"""The queue of frames for one dashboard."""

from __future__ import annotations

import asyncio

from hypothesis import given
from hypothesis import strategies as st

from hub.live.outbox import (
    CONTROL_ROOM_BYTES,
    MAX_CONTROL_BYTES,
    MAX_CONTROL_FRAMES,
    MAX_DATA_BYTES,
    Outbox,
)


def failing() -> None:
    raise AssertionError("the outbox overflowed")


@given(st.lists(st.tuples(st.booleans(), st.integers(1, MAX_DATA_BYTES)), max_size=20))
async def test_frames_leave_in_order_and_data_are_bounded(frames: list[tuple[bool, int]]) -> None:
    """Control frames are text and are all kept; a data frame that does not fit is not queued."""
    outbox = Outbox(failing)
    expected: list[str | bytes] = []
    waiting = 0
    for is_control, size in frames:
        if is_control:
            outbox.control(b"%d" % size)
            expected.append(str(size))
            continue
        fits = waiting == 0 or waiting + size <= MAX_DATA_BYTES
        assert outbox.offer(bytes(size)) is fits
        if fits:
            expected.append(bytes(size))
            waiting += size
        assert outbox.data_bytes == waiting
        assert outbox.has_room is (waiting <= MAX_DATA_BYTES // 2)
    assert [await outbox.next_frame() for _ in expected] == expected
    assert outbox.data_bytes == 0


async def test_an_empty_outbox_accepts_a_frame_of_any_size() -> None:
    """A snapshot of a large schema can exceed the bound, and must still reach the dashboard."""
    outbox = Outbox(failing)
    assert outbox.offer(bytes(MAX_DATA_BYTES * 2))
    assert not outbox.offer(b"x")


async def test_room_returns_at_half_of_the_bound() -> None:
    """One small frame that left is not enough: a slow dashboard would be served in tiny pieces."""
    outbox = Outbox(failing)
    for _ in range(4):
        assert outbox.offer(bytes(MAX_DATA_BYTES // 4))
    waiting = asyncio.ensure_future(outbox.room())
    for left in (3, 2):
        await asyncio.sleep(0)
        assert not waiting.done()
        await outbox.next_frame()
        assert outbox.data_bytes == left * (MAX_DATA_BYTES // 4)
    await waiting
    await outbox.room()


async def test_a_reader_waits_for_a_frame() -> None:
    """Control and data both end the wait."""
    outbox = Outbox(failing)
    for send, expected in ((lambda: outbox.control(b"{}"), "{}"), (lambda: outbox.offer(b"1"), b"1")):
        reading = asyncio.ensure_future(outbox.next_frame())
        await asyncio.sleep(0)
        assert not reading.done()
        send()
        assert await reading == expected


async def test_too_many_control_frames_overflow() -> None:
    """The bound counts what waits: a frame that left makes room for another one."""
    overflows: list[int] = []
    outbox = Outbox(lambda: overflows.append(1))
    for _ in range(MAX_CONTROL_FRAMES):
        outbox.control(b"{}")
    assert overflows == []
    await outbox.next_frame()
    outbox.control(b"{}")
    assert overflows == []
    outbox.control(b"{}")
    assert overflows == [1]


async def test_control_room_returns_with_the_frames_that_leave() -> None:
    """The answers to one message may exceed the room; the next message waits for them."""
    outbox = Outbox(failing)
    await outbox.control_room()
    for _ in range(2):
        outbox.control(b"x" * CONTROL_ROOM_BYTES)
    waiting = asyncio.ensure_future(outbox.control_room())
    await asyncio.sleep(0)
    assert not waiting.done()
    await outbox.next_frame()
    await waiting


async def test_control_frames_have_a_bound_of_bytes() -> None:
    """One frame fits at any size."""
    overflows: list[bool] = []
    outbox = Outbox(lambda: overflows.append(True))
    outbox.control(bytes(MAX_CONTROL_BYTES + 1))
    assert not overflows
    outbox.control(b"x")
    assert overflows
