"""Requests that wait for a change of something, within a bound."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Generic, TypeVar

MAX_WATCHES = 256
"""Requests that wait for a change. Each holds a connection; further ones are answered at once."""

T = TypeVar("T")


class Watch(Generic[T]):
    """A request that waits for changes."""

    _newest: T

    def __init__(self) -> None:
        self._changed = asyncio.Event()

    def notify(self, change: T) -> None:
        """Report a change, which is durable. Only the newest one is kept."""
        self._newest = change
        self._changed.set()

    async def next(self) -> T:
        """Wait for a change since the previous call, and return the newest one."""
        await self._changed.wait()
        self._changed.clear()
        return self._newest


class Watches(Generic[T]):
    """The requests that wait for changes, each of what has a key."""

    def __init__(self, max_watches: int = MAX_WATCHES) -> None:
        self._max_watches = max_watches
        self._count = 0
        self._watches: dict[str, set[Watch[T]]] = {}

    @contextmanager
    def watch(self, key: str) -> Iterator[Watch[T] | None]:
        """Yield what reports each change from now on; None at the bound."""
        if self._count >= self._max_watches:
            yield None
            return
        watch = Watch[T]()
        watches = self._watches.setdefault(key, set())
        watches.add(watch)
        self._count += 1
        try:
            yield watch
        finally:
            self._count -= 1
            watches.discard(watch)
            if not watches:
                del self._watches[key]

    def notify(self, key: str, change: T) -> None:
        """Report a change to those that wait for this key."""
        for watch in self._watches.get(key, ()):
            watch.notify(change)
