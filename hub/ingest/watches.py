"""Requests that wait for a change of something, within a bound."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager

MAX_WATCHES = 256
"""Requests that wait for a change. Each holds a connection; further ones are answered at once."""


class Watches:
    """The requests that wait for changes, each of what has a key."""

    def __init__(self, max_watches: int = MAX_WATCHES) -> None:
        self._max_watches = max_watches
        self._count = 0
        self._events: dict[str, set[asyncio.Event]] = {}

    @contextmanager
    def watch(self, key: str) -> Iterator[asyncio.Event | None]:
        """Yield an event that is set at each change; None at the bound."""
        if self._count >= self._max_watches:
            yield None
            return
        event = asyncio.Event()
        events = self._events.setdefault(key, set())
        events.add(event)
        self._count += 1
        try:
            yield event
        finally:
            self._count -= 1
            events.discard(event)
            if not events and self._events.get(key) is events:
                del self._events[key]

    def notify(self, key: str) -> None:
        """Set the events of those that wait for this key."""
        for event in self._events.get(key, ()):
            event.set()
