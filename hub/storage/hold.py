"""The hold on the store: another process copies the store's files while nothing changes them."""

from __future__ import annotations

import asyncio
import secrets
from contextlib import suppress
from typing import NamedTuple

import structlog

from hub.model.store import Store, StoreCursor

LEASE_S = 30.0
"""A hold ends this long after its holder has renewed it last. A holder that was killed must not stop the store."""

MAX_HOLD_S = 3_600.0
"""A hold ends after this time in any case. Readings wait in the journal meanwhile, which has room for more than a week
of 1,000 readings a second; an hour is enough to copy 360 GB at 100 MB/s."""

log = structlog.get_logger(__name__)


class StoreHold(NamedTuple):
    """A hold: its id, and the position that the files of the store have as long as it lasts."""

    id: str
    cursor: StoreCursor


class _Current(NamedTuple):
    id: str
    task: asyncio.Task[None]
    lease: asyncio.Timeout
    released: asyncio.Event


class StoreHolds:
    """Begins, renews and ends holds on a store, one at a time. `close` ends the current one."""

    def __init__(self, store: Store, *, lease_s: float = LEASE_S, max_s: float = MAX_HOLD_S) -> None:
        self._store = store
        self._lease_s = lease_s
        self._max_s = max_s
        self._current: _Current | None = None

    async def begin(self) -> StoreHold | None:
        """Wait until the files of the store are complete, and keep them so; None if there is a hold already.

        Raises StoreUnavailable.
        """
        if self._current is not None:
            return None
        began: asyncio.Future[StoreCursor] = asyncio.get_running_loop().create_future()
        released, lease = asyncio.Event(), asyncio.timeout(self._lease_s)
        task = asyncio.create_task(self._hold(began, released, lease), name="store hold")
        current = self._current = _Current(secrets.token_hex(8), task, lease, released)
        try:
            return StoreHold(current.id, await began)
        except BaseException:
            await self._end(current)
            raise

    def renew(self, id: str) -> bool:
        """Let a hold last for another LEASE_S; return whether it still exists."""
        current = self._current
        if current is None or current.id != id or current.released.is_set() or current.lease.expired():
            return False
        current.lease.reschedule(asyncio.get_running_loop().time() + self._lease_s)
        return True

    async def end(self, id: str) -> bool:
        """End a hold; return whether it lasted until now."""
        current = self._current
        if current is None or current.id != id:
            return False
        return await self._end(current)

    async def close(self) -> None:
        """End the current hold, because the hub stops. Its holder learns that it has ended."""
        if self._current is not None:
            await self._end(self._current)

    async def _end(self, current: _Current) -> bool:
        lasted = not current.task.done()
        current.released.set()
        await asyncio.wait([current.task])
        return lasted

    async def _hold(self, began: asyncio.Future[StoreCursor], released: asyncio.Event, lease: asyncio.Timeout) -> None:
        try:
            async with self._store.hold() as cursor:
                if not began.done():
                    began.set_result(cursor)
                with suppress(TimeoutError):
                    async with asyncio.timeout(self._max_s), lease:
                        await released.wait()
                self._current = None
                if not released.is_set():
                    log.warning("hold on the store has ended, its holder does not answer")
        except Exception as error:  # noqa: BLE001 - the caller of begin() gets the error
            if not began.done():
                began.set_exception(error)
        finally:
            self._current = None
