"""A dashboard without a page: the viewer's session state machine on a real connection."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Callable, Mapping
from typing import Self

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from wire import live as messages
from wire.codec import LIVE_MESSAGES, VIEWER_MESSAGES
from wire.frames import decode_update, readings
from wire.live_session import Progress, ViewerSession

Point = tuple[float, float | str | None]


class Viewer:
    """Dashboard that keeps every point it received, per (device, metric), in order of arrival."""

    def __init__(self, url: str, token: str | None = None, *, headers: Mapping[str, str] | None = None) -> None:
        """`headers` prove the identity in place of a token."""
        self._url = f"{url}/v1/live"
        self._headers = headers or {"Authorization": f"Bearer {token}"}
        self.session = ViewerSession()
        self.points: dict[tuple[str, str], list[Point]] = defaultdict(list)
        self.resets: list[str] = []
        self.frames = 0
        self.changed = asyncio.Condition()
        self._ws: ClientConnection | None = None
        self._reader: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        await self.connect()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.disconnect()

    async def connect(self) -> None:
        """Open a connection; existing subscriptions continue from their cursors."""
        self._ws = await connect(
            self._url,
            additional_headers=self._headers,
            subprotocols=[messages.SUBPROTOCOL],  # type: ignore[list-item]
            proxy=None,
            compression=None,
            max_size=None,
        )
        self.session.reconnect()
        self.session.receive(LIVE_MESSAGES.decode(await self._ws.recv()))
        for message in self.session.opening_messages():
            await self._send(message)
        self.resume_reading()

    async def disconnect(self) -> None:
        """Close without a close frame."""
        await self.stop_reading()
        assert self._ws is not None
        self._ws.transport.abort()
        await self._ws.wait_closed()

    async def stop_reading(self) -> None:
        """Stop reading from the socket."""
        if self._reader is not None:
            self._reader.cancel()
            await asyncio.wait([self._reader])
            self._reader = None

    def resume_reading(self) -> None:
        """Continue to read."""
        self._reader = asyncio.create_task(self._read())

    async def subscribe(self, id: int, **how: object) -> None:
        """Send a subscription."""
        subscription = messages.Subscribe(id=id, **{"devices": ["*"], "metrics": ["*"], **how})  # type: ignore[arg-type]
        self.session.subscribe(subscription)
        await self._send(subscription)

    async def wait(self, condition: Callable[[], bool]) -> None:
        """Return when the condition holds after something arrived."""
        async with self.changed:
            await self.changed.wait_for(condition)

    async def live(self, id: int = 1) -> None:
        """Return when the subscription has caught up."""
        await self.wait(lambda: self.session.subscriptions[id].progress is Progress.LIVE)

    async def _send(self, message: messages.ViewerMessage) -> None:
        assert self._ws is not None
        await self._ws.send(VIEWER_MESSAGES.encode(message), text=True)

    async def _read(self) -> None:
        assert self._ws is not None
        try:
            async for frame in self._ws:
                self._take(frame)
                async with self.changed:
                    self.changed.notify_all()
        except ConnectionClosed:
            return

    def _take(self, frame: str | bytes) -> None:
        if isinstance(frame, str):
            message = LIVE_MESSAGES.decode(frame)
            self.session.receive(message)
            if isinstance(message, messages.Reset):
                self.resets.append(message.reason)
                self.points.clear()
            return
        self.frames += 1
        update = decode_update(frame)
        if not self.session.receive_update(update):
            return
        names = self.session.schemas[update.schema]
        for column in update.numbers:
            series = names[column.series]
            self.points[series.device, series.metric] += readings(column)
        for text in update.texts:
            series = names[text.series]
            self.points[series.device, series.metric] += zip(text.times_ms, text.values, strict=True)
