"""What waits to be sent to one dashboard: in order, bounded, data conflated when it does not read, control never
dropped."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable

MAX_DATA_BYTES = 512 * 1024
"""Data that wait for one dashboard: about a second of a wall of charts. At the bound a frame is not taken; its
subscription keeps which series changed and how many readings that were, and sends the latest values when there is
room."""

MAX_CONTROL_FRAMES = 20_000
"""Control frames that wait: the states of a fleet of 10,000 that disconnects and comes back. They are never dropped; a
dashboard that lets more pile up is closed with 1013."""


class Outbox:
    """Frames for one connection; adding never waits, the connection's edge takes them out one by one."""

    __slots__ = ("_control_frames", "_data_bytes", "_frames", "_on_overflow", "_room", "_wake")

    def __init__(self, on_overflow: Callable[[], None]) -> None:
        self._on_overflow = on_overflow
        self._frames: deque[str | bytes] = deque()
        self._data_bytes = 0
        self._control_frames = 0
        self._wake = asyncio.Event()
        self._room = asyncio.Event()
        self._room.set()

    @property
    def data_bytes(self) -> int:
        """Bytes of data that wait."""
        return self._data_bytes

    @property
    def has_room(self) -> bool:
        """Whether half of the data bound is free: a dashboard that fell behind is served again from here on."""
        return self._data_bytes <= MAX_DATA_BYTES // 2

    def control(self, frame: bytes) -> None:
        """Queues a JSON message."""
        if self._control_frames >= MAX_CONTROL_FRAMES:
            self._on_overflow()
            return
        self._control_frames += 1
        self._frames.append(frame.decode())
        self._wake.set()

    def offer(self, frame: bytes) -> bool:
        """Queues a data frame if there is room; a single frame of any size has room in an empty outbox."""
        if self._data_bytes and self._data_bytes + len(frame) > MAX_DATA_BYTES:
            self._room.clear()
            return False
        self._frames.append(frame)
        self._data_bytes += len(frame)
        self._wake.set()
        return True

    async def room(self) -> None:
        """Returns when there is room for more data."""
        if not self.has_room:
            self._room.clear()
        await self._room.wait()

    async def next_frame(self) -> str | bytes:
        """The next frame to send: text for control, bytes for data."""
        while not self._frames:
            self._wake.clear()
            await self._wake.wait()
        frame = self._frames.popleft()
        if isinstance(frame, bytes):
            self._data_bytes -= len(frame)
            if self.has_room:
                self._room.set()
        else:
            self._control_frames -= 1
        return frame
