"""Release of a port to another program, such as one that flashes the board, and its return to the source."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager, suppress
from typing import Any, Protocol, TypeVar

from device_agent.source_state import SourceHealth
from device_agent.sources.ports.opening import PortFinder

_log = logging.getLogger(__name__)


class Closable(Protocol):
    """An open port, or a line of a bus."""

    def close(self) -> None:
        """Release it at once; a read that waits raises OSError."""


OpenPort = TypeVar("OpenPort", bound=Closable)


class PortHold:
    """Requests of other programs for the port of a source. While there is one, the source does not open it.

    `was_requested` says that there was one since the source last waited for the port.
    """

    def __init__(self) -> None:
        self._requests = 0
        self.was_requested = False
        self._requested = asyncio.Event()
        self._free = asyncio.Event()
        self._free.set()
        self._settled = asyncio.Event()
        self._settled.set()
        self._port: Closable | None = None

    @property
    def is_requested(self) -> bool:
        """Return whether another program has the port, or wants it."""
        return self._requests > 0

    async def wait_free(self) -> None:
        """Wait until no program has the port."""
        await self._free.wait()
        self.was_requested = False

    async def wait_request(self, seconds: float) -> None:
        """Wait for a request, for some seconds at most."""
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._requested.wait()

    async def opened(self, open_port: Coroutine[Any, Any, OpenPort]) -> OpenPort:
        """Return the port when it is open; closed again if it was requested meanwhile. Raises what opening raises."""
        self._settled.clear()
        opening = asyncio.ensure_future(open_port)
        try:
            port = self._port = await asyncio.shield(opening)
        except asyncio.CancelledError:
            # A thread that opens a port cannot be cancelled, and then nobody would close the port.
            opening.add_done_callback(_close_opened)
            raise
        finally:
            self._settled.set()
        if self.is_requested:
            port.close()
        return port

    @asynccontextmanager
    async def request(self) -> AsyncIterator[None]:
        """Have the port closed, and not opened meanwhile."""
        self._requests += 1
        self.was_requested = True
        self._requested.set()
        self._free.clear()
        try:
            if self._port is not None:
                self._port.close()
            await self._settled.wait()
            yield
        finally:
            self._requests -= 1
            if not self._requests:
                self._requested.clear()
                self._free.set()

    @asynccontextmanager
    async def released(self, finder: PortFinder, health: SourceHealth, reason: str) -> AsyncIterator[str]:
        """Release the port meanwhile; yield its path. The health of its source has the reason."""
        health.fail("hold", reason)
        try:
            async with self.request():
                _log.info("released %s: %s", finder.last_path, reason)
                yield finder.last_path
        finally:
            if not self.is_requested:
                finder.forget()
                health.recover("hold")


def _close_opened(opening: asyncio.Future[OpenPort]) -> None:
    if not opening.cancelled() and opening.exception() is None:
        opening.result().close()
