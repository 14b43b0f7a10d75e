"""Requests that wait for a change, such as the next state of a command. A stop of the hub ends their waits."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress


class LongPolls:
    """The waits of requests. Their number is bounded by those who report the changes."""

    def __init__(self) -> None:
        self._open: set[asyncio.Timeout] = set()
        self._is_ended = False

    @asynccontextmanager
    async def within(self, wait_s: float) -> AsyncIterator[None]:
        """Run a block for at most this time in seconds. Its end is no error."""
        with suppress(TimeoutError):
            async with asyncio.timeout(0 if self._is_ended else wait_s) as timeout:
                self._open.add(timeout)
                try:
                    yield
                finally:
                    self._open.discard(timeout)

    def end(self) -> None:
        """End every wait, also later ones: the server then stops without cancelling a request."""
        self._is_ended = True
        now = asyncio.get_running_loop().time()
        for timeout in self._open:
            if not timeout.expired():
                timeout.reschedule(now)
