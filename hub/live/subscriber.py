"""Session of one dashboard: the hub's end of the live protocol, without its socket."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from hub.live.catch_up import CatchUpSource, catch_up
from hub.live.group import Group, GroupKey, Member
from hub.live.hub import LiveHub
from hub.live.outbox import Outbox
from hub.live.selection import selection
from wire import live as messages
from wire.codec import LIVE_MESSAGES, VIEWER_MESSAGES
from wire.errors import Code, WireError
from wire.live_session import HubLiveSession, LiveSessionState

MAX_CATCHING_UP = 4
"""Subscriptions of one connection that read history at the same time; the others wait."""


class Subscriber:
    """Dashboard connection: receives messages, owns the subscriptions and the tasks that bring them up to date."""

    def __init__(
        self,
        live: LiveHub,
        source: CatchUpSource,
        tasks: asyncio.TaskGroup,
        *,
        fleet: Callable[[], list[messages.DeviceState]],
        on_overflow: Callable[[], None],
    ) -> None:
        """`fleet` returns the state of every device in service; `on_overflow` closes the connection."""
        self.outbox = Outbox(on_overflow)
        self._live = live
        self._source = source
        self._tasks = tasks
        self._fleet = fleet
        self._session = HubLiveSession()
        self._subscriptions: dict[int, tuple[Group, Member, asyncio.Task[None]]] = {}
        self._catching_up = asyncio.Semaphore(MAX_CATCHING_UP)

    @property
    def is_open(self) -> bool:
        """True after the welcome."""
        return self._session.state is LiveSessionState.OPEN

    def open(self, welcome: messages.Welcome, *, replaceable: bool = False) -> None:
        """Send the welcome: the dashboard is authenticated. A token in its first message may replace the identity."""
        self._session.open(replaceable=replaceable)
        self._send(welcome)

    def receive(self, frame: str | bytes) -> messages.Authenticate | None:
        """Process one message; return an Authenticate, which the endpoint verifies. Raises WireError to end the
        session.
        """
        if isinstance(frame, bytes):
            raise WireError(Code.WRONG_FRAME, "the live protocol is JSON in text frames")
        message = VIEWER_MESSAGES.decode(frame)
        error = self._session.receive(message)
        if error is not None:
            self._send(error)
            return None
        match message:
            case messages.Authenticate():
                return message
            case messages.Subscribe():
                self._subscribe(message)
            case messages.Unsubscribe(id=id):
                self._end(id)
            case messages.WatchFleet(progress=progress, presence=presence):
                self._live.fleet.watch(self.outbox, self._fleet(), progress=progress, presence=presence)
            case messages.Ping(time_ms=time_ms):
                self._send(messages.Pong(time_ms))
        return None

    def serve_lagging(self) -> None:
        """Send what fell behind, after the connection accepted frames: latest values, and changes of the fleet."""
        self._live.fleet.serve(self.outbox)
        if self.outbox.has_room:
            for group, member, _ in self._subscriptions.values():
                if member.lagging:
                    self._live.flush(group)

    def close(self) -> None:
        """End the subscriptions, after the connection closed."""
        for id in list(self._subscriptions):
            self._end(id)
        self._live.fleet.unwatch(self.outbox)
        self._session.close()

    def _subscribe(self, request: messages.Subscribe) -> None:
        key = GroupKey(selection(request.devices, request.metrics), request.policy, request.period_ms)
        group, member = self._live.join(request, key, self.outbox)
        self._send(group.describe())
        task = self._tasks.create_task(self._catch_up(group, member, request), name=f"subscription {request.id}")
        self._subscriptions[request.id] = (group, member, task)

    async def _catch_up(self, group: Group, member: Member, request: messages.Subscribe) -> None:
        async with self._catching_up:
            await catch_up(self._live, self._source, group, member, request)

    def _end(self, id: int) -> None:
        group, member, task = self._subscriptions.pop(id)
        task.cancel()
        self._live.leave(group, member)

    def _send(self, message: messages.LiveMessage) -> None:
        self.outbox.control(LIVE_MESSAGES.encode(message))
