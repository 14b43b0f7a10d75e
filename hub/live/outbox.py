"""Bounded queue of frames for one dashboard: in order, data may be conflated, control frames are never dropped."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable

MAX_DATA_BYTES = 512 * 1024
"""Data that wait for one dashboard: about a second of a wall of charts. At the bound a frame is not queued: its
subscription records which series changed and how many readings it had, and sends the latest values when there is
room."""

MAX_CONTROL_FRAMES = 20_000
"""Control frames that wait: the states of a fleet of 10,000 that disconnects and reconnects. They are never dropped: a
dashboard that does not read more than this is closed with 1013."""

MAX_CONTROL_BYTES = 64 * 1024 * 1024
"""Bytes of control frames that wait: a fleet of 100,000 devices. Beyond them a dashboard is closed with 1013, too."""

CONTROL_ROOM_BYTES = 256 * 1024
"""Above these bytes of waiting control frames, changes of the fleet are collected by device and not queued, and the
next message of the dashboard is not read: its answers, such as a whole fleet, must not pile up for a dashboard that
does not read them."""


class Outbox:
    """Queue of frames for one connection. Adding never waits; the connection removes them one by one."""

    __slots__ = (
        "_control_bytes",
        "_control_frames",
        "_control_room",
        "_data_bytes",
        "_frames",
        "_on_overflow",
        "_room",
        "_wake",
    )

    def __init__(self, on_overflow: Callable[[], None]) -> None:
        self._on_overflow = on_overflow
        self._frames: deque[str | bytes] = deque()
        self._data_bytes = 0
        self._control_frames = 0
        self._control_bytes = 0
        self._wake = asyncio.Event()
        self._room = asyncio.Event()
        self._room.set()
        self._control_room = asyncio.Event()

    @property
    def data_bytes(self) -> int:
        """Return the bytes of data that wait."""
        return self._data_bytes

    @property
    def has_room(self) -> bool:
        """Return whether half of the data bound is free: then a dashboard that fell behind is served again."""
        return self._data_bytes <= MAX_DATA_BYTES // 2

    @property
    def has_control_room(self) -> bool:
        """Return whether there is room for frames that a later one can replace."""
        return self._control_bytes <= CONTROL_ROOM_BYTES

    def control(self, frame: bytes) -> None:
        """Queue a JSON message. An outbox without any has room for one of any size."""
        size_bytes = self._control_bytes + len(frame)
        if self._control_frames >= MAX_CONTROL_FRAMES or (self._control_frames and size_bytes > MAX_CONTROL_BYTES):
            self._on_overflow()
            return
        text = frame.decode()
        self._control_frames += 1
        self._control_bytes += len(text)
        self._frames.append(text)
        self._wake.set()

    def offer(self, frame: bytes) -> bool:
        """Queue a data frame and return True if there is room. An empty outbox has room for a frame of any size."""
        if self._data_bytes and self._data_bytes + len(frame) > MAX_DATA_BYTES:
            self._room.clear()
            return False
        self._frames.append(frame)
        self._data_bytes += len(frame)
        self._wake.set()
        return True

    async def room(self) -> None:
        """Wait until there is room for more data."""
        if not self.has_room:
            self._room.clear()
        await self._room.wait()

    async def control_room(self) -> None:
        """Wait until there is room for the answers to another message of the dashboard."""
        while not self.has_control_room:
            self._control_room.clear()
            await self._control_room.wait()

    async def next_frame(self) -> str | bytes:
        """Wait for the next frame to send, and remove it: text for control, bytes for data."""
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
            self._control_bytes -= len(frame)
            if self.has_control_room:
                self._control_room.set()
        return frame
