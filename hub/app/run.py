"""Start, run and stop a hub."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import gc
import os
import resource
import signal
import sys
import threading
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator

import structlog

from hub.app.check import check_settings, expected_hosts, tls_files, trusted_proxies
from hub.app.demo import DESCRIPTION, demo_fleet
from hub.app.errors import HubError
from hub.app.services import HubServices, open_services
from hub.config.address import RunningHub, published_address
from hub.config.settings import Settings, browser_url
from hub.http.certificate import CertificateError
from hub.http.forwarded import ROOT
from hub.http.server import Server, listen
from hub.http.tls import PortTls
from hub.model.identity import Role
from hub.model.journal import JournalError
from hub.model.store import StoreError
from hub.registry.token import LOGIN_CODE_SECONDS
from hub.storage.operating_system import keep_files_private
from wire.errors import WireError

SWITCH_INTERVAL_S = 0.0005
"""A thread may hold the interpreter this long while another waits. The journal's writer requests it after each step of
a commit; at Python's default of 5 ms a busy event loop would extend a commit of four steps to 20 ms."""

GC_THRESHOLD = 400_000
"""Allocations before the garbage collector examines the young objects. The journal keeps 260,000 objects in memory,
which are freed without it; at 50,000 their examination took a tenth of a flooded hub's core, in pauses of up to 160 ms.
Closed connections are freed without it, too (hub.http.websocket)."""

CLOSING_S = 5.0
"""Connections get this long to receive their last messages."""

DRAIN_S = 20.0
"""The store gets this long to store what the journal has. The rest stays in the journal and is stored after the next
start."""

STOP_AFTER_FAILURE_S = 45.0
"""After a thread has died the process ends within this time, also if a part of the hub waits for that thread. Longer
than an orderly stop: CLOSING_S, DRAIN_S and the last commits."""

FAILED = 1
"""Exit code of a hub that had to stop, the same as after any other failure."""

MAX_FILES = 65_536
"""File descriptors that the hub requests: a gateway's 20,000 connections three times. Systems start a program with
1,024, and allow it more on request."""

OWN_FILES = 256
"""File descriptors for everything else: the databases, connections to a store and a broker, and files of the page."""

FEW_FILES = 4_096
"""With fewer, the hub warns: its usual bounds of connections do not apply."""

DEMO_LABEL = "demo"

log = structlog.get_logger(__name__)


async def run_hub(settings: Settings, *, demo: bool, say: Callable[[str], None]) -> None:
    """Run a hub until SIGINT or SIGTERM. `say` prints lines for people. Raises HubError."""
    check_settings(settings)
    keep_files_private()
    tls = _open_tls(settings)
    max_connections = possible_connections(raise_file_limit())
    sys.setswitchinterval(SWITCH_INTERVAL_S)
    host, port = settings.address
    try:
        settings.data.mkdir(parents=True, exist_ok=True, mode=0o700)
        listener = listen(host, port)
    except UnicodeError:
        raise HubError(f"listen: {host!r} is not a host name") from None
    except OSError as error:
        hint = ": choose another port with --listen" if error.errno == errno.EADDRINUSE else ""
        raise HubError(f"{error.filename or settings.listen}: {error.strerror}{hint}") from None
    # Imported objects are never garbage, and the collector ignores batches (hub.model.batch). With Python's thresholds
    # it took a quarter of the time of each frame and found nothing.
    gc.freeze()
    gc.set_threshold(GC_THRESHOLD, *gc.get_threshold()[1:])
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    if tls is not None and not sys.stdin.isatty():
        # On a terminal the signal reports that the terminal is gone, which ends the hub.
        loop.add_signal_handler(signal.SIGHUP, tls.reload)
    try:
        with contextlib.closing(listener):
            host, port = listener.getsockname()[:2]
            async with open_services(settings, listening_on=host, tls=tls) as services:
                server = Server(
                    services.application,
                    listener,
                    tls=tls,
                    proxies=trusted_proxies(settings),
                    base_path=ROOT if settings.public is None else settings.public.base_path,
                    compression=settings.live.compression,
                    refusals=services.refusals,
                    max_connections=max_connections,
                    long_bodies=services.long_bodies,
                )
                url = browser_url(host, port, tls=tls is not None)
                certificate = settings.tls.certificate
                published = RunningHub(
                    url, settings.public_url, None if certificate is None else str(certificate.absolute())
                )
                with published_address(settings.data, published):
                    await _serve(services, server, stop, url=url, settings=settings, demo=demo, say=say)
    except (JournalError, StoreError, WireError) as error:
        raise HubError(str(error)) from None
    finally:
        # Frozen objects are not freed at exit, and DuckDB would report them as leaked.
        gc.unfreeze()


async def _serve(
    services: HubServices,
    server: Server,
    stop: asyncio.Event,
    *,
    url: str,
    settings: Settings,
    demo: bool,
    say: Callable[[str], None],
) -> None:
    registry = services.registry
    registry.record_event(None, time.time_ns(), "hub started", "")
    services.journal.losses.on_incident(
        lambda incident: registry.record_event(None, time.time_ns(), incident.kind, incident.text)
    )
    async with contextlib.AsyncExitStack() as running:
        # Services start in this order and stop in reverse: agents, bridges, server, journal, store, registry.
        failed = _Failure(stop)
        running.enter_context(failed.threads())
        await running.enter_async_context(failed.running(services.journal.watch(), "journal"))
        await running.enter_async_context(
            failed.running(
                registry.run(lambda ids: services.connections.revoke(set(ids)), services.connections.token_ids),
                "registry",
            )
        )
        await running.enter_async_context(failed.running(services.accounting.run(), "accounting"))
        await running.enter_async_context(failed.running(services.store_consumer.run(), "store"))
        running.push_async_callback(_drain_store, services)
        running.push_async_callback(services.holds.close)
        running.push_async_callback(services.journal.drain)
        await running.enter_async_context(failed.running(services.devices.probe_clocks(), "clocks"))
        await running.enter_async_context(failed.running(services.commands.run(), "commands"))
        await running.enter_async_context(failed.running(services.command_jobs.run(), "command jobs"))
        await running.enter_async_context(failed.running(services.readings.run(), "readings"))
        await running.enter_async_context(failed.running(services.presence.run(), "presence"))
        await running.enter_async_context(failed.running(server.run(), "server"))
        running.push_async_callback(_close_connections, services)
        if services.tls is not None:
            await running.enter_async_context(failed.running(services.tls.run(), "tls"))
        for bridge in services.bridges:
            await running.enter_async_context(failed.running(bridge.run(), f"mqtt {bridge.name}"))
        say(f"listening on {url}" + (f" with {DESCRIPTION}" if demo else ""))
        admin = await registry.ensure_admin()
        if admin.text is not None or demo or sys.stdout.isatty():
            code = await registry.create_login_code(admin.token_id)
            page = settings.public_url or url
            say(f"open {page}/open/{code} to sign in (once, within {LOGIN_CODE_SECONDS // 60} minutes)")
            say("press Ctrl-C to stop")
        if demo:
            token = await running.enter_async_context(_demo_token(services))
            await running.enter_async_context(
                demo_fleet(url, token, settings.data, certificate=settings.tls.certificate)
            )
        await stop.wait()
        log.info("stopping")
        registry.record_event(None, time.time_ns(), "hub stopped", "")
    if failed.error is not None:
        raise HubError(f"{failed.name} failed: {failed.error}") from failed.error


def raise_file_limit() -> int:
    """Raise the limit of open files as far as the system allows, at most to MAX_FILES; return it. Warn if it is low."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = MAX_FILES if hard == resource.RLIM_INFINITY else min(hard, MAX_FILES)
    if soft == resource.RLIM_INFINITY:
        return MAX_FILES
    if soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
        soft = wanted
    if soft < FEW_FILES:
        log.warning(
            "few file descriptors, connections beyond them are reset",
            limit=soft,
            connections=possible_connections(soft),
            remedy="raise the hard limit: LimitNOFILE in systemd, or ulimit -Hn",
        )
    return soft


def possible_connections(files: int) -> int:
    """Return the number of connections that leave OWN_FILES descriptors, or half of them if they are very few. Pure."""
    return max(files - OWN_FILES, files // 2)


def _open_tls(settings: Settings) -> PortTls | None:
    files = tls_files(settings)
    try:
        return None if files is None else PortTls(files, hosts=expected_hosts(settings))
    except CertificateError as error:
        raise HubError(str(error)) from None


class _Failure:
    """Runs tasks and watches threads. The first one that fails stops the hub; `error` is its exception."""

    def __init__(self, stop: asyncio.Event) -> None:
        self.error: BaseException | None = None
        self.name = ""
        self._stop = stop
        self._loop = asyncio.get_running_loop()

    @contextlib.contextmanager
    def threads(self) -> Iterator[None]:
        """Stop the hub when a thread of this process ends with an exception, until the context ends.

        What waits for such a thread would wait forever, so the process is ended if the stop takes too long.
        """

        def ended(arguments: threading.ExceptHookArgs) -> None:
            error = arguments.exc_value or RuntimeError("it ended by itself")
            name = "a thread" if arguments.thread is None else f"thread {arguments.thread.name}"
            with contextlib.suppress(RuntimeError):  # the event loop is closed
                self._loop.call_soon_threadsafe(self._record, name, error)
            timer = threading.Timer(STOP_AFTER_FAILURE_S, _end_process, [name, error])
            timer.daemon = True
            timer.start()

        before, threading.excepthook = threading.excepthook, ended
        try:
            yield
        finally:
            threading.excepthook = before

    @contextlib.asynccontextmanager
    async def running(self, coroutine: Coroutine[object, object, None], name: str) -> AsyncIterator[None]:
        """Run a task that is cancelled when the context ends."""
        task = asyncio.create_task(coroutine, name=name)
        task.add_done_callback(lambda done: self._ended(done, name))
        try:
            yield
        finally:
            task.cancel()
            await asyncio.wait([task])

    def _ended(self, task: asyncio.Task[None], name: str) -> None:
        if not task.cancelled():
            self._record(name, task.exception() or RuntimeError("it ended by itself"))

    def _record(self, name: str, error: BaseException) -> None:
        if self.error is None:
            self.error, self.name = error, name
            log.error("service failed", service=name, exc_info=error)
        self._stop.set()


def _end_process(name: str, error: BaseException) -> None:
    print(f"hub: {name} failed: {error}; the hub could not stop in order", file=sys.stderr, flush=True)
    os._exit(FAILED)


async def _close_connections(services: HubServices) -> None:
    services.connections.close()
    services.long_polls.end()
    try:
        async with asyncio.timeout(CLOSING_S):
            await services.connections.empty()
    except TimeoutError:
        log.warning("connections did not close in time", connections=len(services.connections))


async def _drain_store(services: HubServices) -> None:
    if not await services.store_consumer.drain(DRAIN_S):
        log.warning("store did not write everything before the stop, the journal keeps the rest for the next start")


@contextlib.asynccontextmanager
async def _demo_token(services: HubServices) -> AsyncIterator[str]:
    """Create a gateway token for the demo's agents, and revoke those of earlier runs."""
    await services.registry.revoke([token.id for token in services.registry.tokens() if token.label == DEMO_LABEL])
    made = await services.registry.create_token(Role.GATEWAY, pattern="*", label=DEMO_LABEL)
    yield made.text
    await services.registry.revoke([made.token.id])
