"""One dashboard's conversation: the hub's end of the live protocol, without its socket."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from hub.live.catch_up import Past, catch_up
from hub.live.group import Group, Key, Member
from hub.live.live import Live
from hub.live.outbox import Outbox
from hub.live.selection import selection
from wire import live as messages
from wire.codec import LIVE_MESSAGES, VIEWER_MESSAGES
from wire.errors import Code, WireError
from wire.live_session import HubLiveSession

MAX_CATCHING_UP = 4
"""Subscriptions of one connection that fetch their past at the same time; the others wait their turn."""


class Viewer:
    """A dashboard: receives its messages, owns its subscriptions and the tasks that bring them up to date."""

    def __init__(self, live: Live, past: Past, tasks: asyncio.TaskGroup, *, on_overflow: Callable[[], None]) -> None:
        self.outbox = Outbox(on_overflow)
        self._live = live
        self._past = past
        self._tasks = tasks
        self._session = HubLiveSession()
        self._subscriptions: dict[int, tuple[Group, Member, asyncio.Task[None]]] = {}
        self._turns = asyncio.Semaphore(MAX_CATCHING_UP)

    def open(self, welcome: messages.Welcome) -> None:
        """The viewer is authenticated."""
        self._session.open()
        self._tell(welcome)

    def receive(self, frame: str | bytes) -> messages.Authenticate | None:
        """Takes in one message; an Authenticate is given back for the edge to judge. Raises WireError to end the
        connection."""
        if isinstance(frame, bytes):
            raise WireError(Code.WRONG_FRAME, "the live protocol is JSON in text frames")
        message = VIEWER_MESSAGES.decode(frame)
        refusal = self._session.receive(message)
        if refusal is not None:
            self._tell(refusal)
            return None
        match message:
            case messages.Authenticate():
                return message
            case messages.Subscribe():
                self._subscribe(message)
            case messages.Unsubscribe(id=id):
                self._end(id)
            case messages.WatchFleet():
                self._live.watch_fleet(self.outbox)
            case messages.Ping(time_ms=time_ms):
                self._tell(messages.Pong(time_ms))
        return None

    def serve_lagging(self) -> None:
        """The connection took some frames: subscriptions that fell behind get their latest values when there is
        room."""
        if self.outbox.has_room:
            for group, member, _ in self._subscriptions.values():
                if member.lagging:
                    self._live.flush(group)

    def close(self) -> None:
        """The connection is gone."""
        for id in list(self._subscriptions):
            self._end(id)
        self._live.forget(self.outbox)
        self._session.close()

    def _subscribe(self, asked: messages.Subscribe) -> None:
        key = Key(selection(asked.devices, asked.metrics), asked.policy, asked.period_ms)
        group, member = self._live.join(asked, key, self.outbox)
        self._tell(group.describe())
        task = self._tasks.create_task(self._catch_up(group, member, asked), name=f"subscription {asked.id}")
        self._subscriptions[asked.id] = (group, member, task)

    async def _catch_up(self, group: Group, member: Member, asked: messages.Subscribe) -> None:
        async with self._turns:
            await catch_up(self._live, self._past, group, member, asked)

    def _end(self, id: int) -> None:
        group, member, task = self._subscriptions.pop(id)
        task.cancel()
        self._live.leave(group, member)

    def _tell(self, message: messages.LiveMessage) -> None:
        self.outbox.control(LIVE_MESSAGES.encode(message))
