"""Starting, running and stopping a hub."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import signal
import sys
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from pathlib import Path

import structlog

from hub.app.check import check_settings
from hub.app.demo import DESCRIPTION, demo_fleet
from hub.app.errors import HubError
from hub.app.rooms import Rooms, open_rooms
from hub.config import Settings, browser_url
from hub.http.server import Server, listen
from hub.ingest.clocks import probe_clocks
from hub.model.identity import Role
from hub.model.journal import JournalError
from hub.model.store import StoreError
from hub.registry import LOGIN_CODE_SECONDS
from wire.errors import WireError

SWITCH_INTERVAL_S = 0.0005
"""How long a thread may hold the interpreter while another waits. The journal's writer takes it back after each step of
a commit; at Python's default of 5 ms a busy event loop would make a commit of four steps last 20 ms."""

GC_THRESHOLD = 400_000
"""Objects made and not freed before the garbage collector looks at the young ones. What the journal keeps in memory
comes to 260,000 objects and goes again by itself; at 50,000 looking at them took a tenth of a flooded hub's core, in
pauses of up to 160 ms. What only the collector can free (closed connections, 25 KB each) comes to some 150 MB at
most."""

CLOSING_S = 5.0
"""Connections get this long to take their last messages."""

DRAIN_S = 20.0
"""The store gets this long to take what the journal has; the rest stays in the journal and is stored at the next
start."""

DEMO_LABEL = "demo"

log = structlog.get_logger(__name__)


async def run_hub(settings: Settings, *, demo: bool, say: Callable[[str], None]) -> None:
    """Runs a hub until SIGINT or SIGTERM. `say` is given the lines for people. Raises HubError."""
    check_settings(settings)
    sys.setswitchinterval(SWITCH_INTERVAL_S)
    host, port = settings.address
    try:
        settings.data.mkdir(parents=True, exist_ok=True, mode=0o700)
        listener = listen(host, port)
    except UnicodeError:
        raise HubError(f"listen: {host!r} is not a host name") from None
    except OSError as error:
        raise HubError(f"{error.filename or settings.listen}: {error.strerror}") from None
    # What was imported is never garbage, and batches are not the collector's work (hub.model.batch): at Python's
    # thresholds it still took a quarter of the time of each frame, to find nothing.
    gc.freeze()
    gc.set_threshold(GC_THRESHOLD, *gc.get_threshold()[1:])
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    try:
        with contextlib.closing(listener):
            host, port = listener.getsockname()[:2]
            async with open_rooms(settings, listening_on=host) as rooms:
                server = Server(
                    rooms.application,
                    listener,
                    certificate=settings.tls.certificate,
                    key=settings.tls.key,
                    behind_proxy=settings.access.behind_proxy,
                    compression=settings.live.compression,
                )
                url = browser_url(host, port, tls=settings.tls.certificate is not None)
                await _serve(rooms, server, stop, url=url, data=settings.data, demo=demo, say=say)
    except (JournalError, StoreError, WireError) as error:
        raise HubError(str(error)) from None
    finally:
        # What is frozen is not freed at exit either, and DuckDB would report it as leaked.
        gc.unfreeze()


async def _serve(
    rooms: Rooms, server: Server, stop: asyncio.Event, *, url: str, data: Path, demo: bool, say: Callable[[str], None]
) -> None:
    registry = rooms.registry
    registry.record_event(None, time.time_ns(), "hub started", "")
    async with contextlib.AsyncExitStack() as running:
        # In the order in which they start; they stop the other way round: agents, bridges, server, commits, store,
        # registry.
        failed = _Failure(stop)
        await running.enter_async_context(
            failed.running(registry.run(lambda ids: rooms.connections.revoke(set(ids))), "registry")
        )
        await running.enter_async_context(failed.running(rooms.books.run(), "books"))
        await running.enter_async_context(failed.running(rooms.writer.run(), "store writer"))
        running.push_async_callback(_drain_store, rooms)
        await running.enter_async_context(failed.running(rooms.intake.run(), "commits"))
        running.push_async_callback(rooms.intake.drain)
        await running.enter_async_context(failed.running(probe_clocks(rooms.intake), "clocks"))
        await running.enter_async_context(failed.running(server.run(), "server"))
        running.push_async_callback(_close_connections, rooms)
        for bridge in rooms.bridges:
            await running.enter_async_context(failed.running(bridge.run(), f"mqtt {bridge.name}"))
        say(f"listening on {url}" + (f" with {DESCRIPTION}" if demo else ""))
        admin = await registry.ensure_admin()
        if admin.text is not None or demo or sys.stdout.isatty():
            code = await registry.create_login_code(admin.token_id)
            say(f"open {url}/open/{code} to sign in (once, within {LOGIN_CODE_SECONDS // 60} minutes)")
            say("press Ctrl-C to stop")
        if demo:
            token = await running.enter_async_context(_demo_token(rooms))
            await running.enter_async_context(demo_fleet(url, token, data))
        await stop.wait()
        log.info("stopping")
        registry.record_event(None, time.time_ns(), "hub stopped", "")
    if failed.error is not None:
        raise HubError(f"{failed.name} failed: {failed.error}") from failed.error


class _Failure:
    """Runs tasks; the first that fails stops the hub, and is remembered."""

    def __init__(self, stop: asyncio.Event) -> None:
        self.error: BaseException | None = None
        self.name = ""
        self._stop = stop

    @contextlib.asynccontextmanager
    async def running(self, coroutine: Coroutine[object, object, None], name: str) -> AsyncIterator[None]:
        """A task that is cancelled when the context ends."""
        task = asyncio.create_task(coroutine, name=name)
        task.add_done_callback(lambda done: self._ended(done, name))
        try:
            yield
        finally:
            task.cancel()
            await asyncio.wait([task])

    def _ended(self, task: asyncio.Task[None], name: str) -> None:
        if task.cancelled():
            return
        if self.error is None:
            self.error = task.exception() or RuntimeError("it ended by itself")
            self.name = name
            log.error("a part of the hub failed", part=name, exc_info=self.error)
        self._stop.set()


async def _close_connections(rooms: Rooms) -> None:
    rooms.connections.close()
    try:
        async with asyncio.timeout(CLOSING_S):
            await rooms.connections.empty()
    except TimeoutError:
        log.warning("connections did not close in time", connections=len(rooms.connections))


async def _drain_store(rooms: Rooms) -> None:
    if not await rooms.writer.drain(DRAIN_S):
        log.warning("the store has not taken everything yet; the journal keeps it for the next start")


@contextlib.asynccontextmanager
async def _demo_token(rooms: Rooms) -> AsyncIterator[str]:
    """A gateway token for the demo's agents; those of earlier runs end."""
    await rooms.registry.revoke([token.id for token in rooms.registry.tokens() if token.label == DEMO_LABEL])
    made = await rooms.registry.create_token(Role.GATEWAY, pattern="*", label=DEMO_LABEL)
    yield made.text
    await rooms.registry.revoke([made.token.id])
