"""The client of the device protocol: connects an outbox to a hub, and connects again when the connection ends."""

from __future__ import annotations

import asyncio
import logging
import os
import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from math import inf
from typing import NamedTuple, NoReturn

from websockets.asyncio.client import ClientConnection
from websockets.exceptions import ConnectionClosed, InvalidHandshake
from websockets.typing import Subprotocol

from agent_client.bounds import bounded_ending, parse_retry_after
from agent_client.endpoint import SUBPROTOCOLS, Endpoint
from agent_client.reconnect import FIRST_DELAY_MS, MAX_DELAY_MS, Ending, delay_ms
from agent_client.refusal import HandshakeAnswer, explain_answer, explain_no_http
from agent_client.session import ClientSession, DeviceOutbox, OutboxUnavailable
from agent_client.tls import describe_tls_failure, is_wrong_name, read_certificate_names
from agent_client.websocket import CLOSE_SECONDS, UNREADABLE, BoundedConnection, ConnectWithoutRedirect, UpgradeRefused
from wire.errors import CLOSE_FOR_CODE, Close, WireError

MAX_HUB_MESSAGE_BYTES = 64 * 1024
"""Largest message accepted from a hub; an error message is under 4 kB."""

OPEN_SECONDS = 10.0
"""Longest time for the connection and the upgrade."""

PING_SECONDS = 20.0
"""Time between pings, and the time to answer one: detects a peer that disappeared without closing."""

FILES_SECONDS = 0.5
"""Time between two looks at the files of credentials while the client waits."""

STABLE_SECONDS = 30.0
"""A connection that lasted this long, or brought an acknowledgement, resets the backoff."""

MIN_FIRST_DELAY_MS = 100
"""Least bound of the first delay, so that agents do not flood a hub that asks for no delay."""

_log = logging.getLogger(__name__)


class ConnectionState(Enum):
    """State of the connection to the hub."""

    CONNECTING = "connecting"
    ONLINE = "online"
    WAITING = "waiting"
    """The last attempt failed; the next one follows after a delay."""
    STOPPED = "stopped"


class Surroundings(NamedTuple):
    """Clocks, randomness and the longest delay of a client. Tests replace them."""

    time_ns: Callable[[], int] = time.time_ns
    monotonic: Callable[[], float] = time.monotonic
    random: Callable[[], float] = random.random
    max_delay_ms: int = MAX_DELAY_MS


class _Ended(Exception):
    def __init__(self, ending: Ending) -> None:
        super().__init__(ending.reason)
        self.ending = ending


class ConnectFailed(_Ended):
    """The connection could not be opened; `ending` has the reason."""


class ClientStopped(_Ended):
    """The connection ended for a reason that reconnecting would only repeat; `ending` has the reason."""


async def connect(endpoint: Endpoint, *, name: str) -> ClientConnection:
    """Open a connection that speaks the device protocol; `name` is the User-Agent. Raises ConnectFailed."""
    url, tls = endpoint.url, endpoint.client_tls
    try:
        connection = await ConnectWithoutRedirect(
            url,
            subprotocols=[Subprotocol(name) for name in SUBPROTOCOLS[endpoint.format]],
            additional_headers=endpoint.headers,
            user_agent_header=name or None,
            proxy=endpoint.proxy,
            ssl=None if tls is None else tls.context,
            create_connection=BoundedConnection,
            compression="deflate" if endpoint.compression else None,
            open_timeout=OPEN_SECONDS,
            close_timeout=CLOSE_SECONDS,
            ping_interval=PING_SECONDS,
            ping_timeout=PING_SECONDS,
            max_size=MAX_HUB_MESSAGE_BYTES,
        )
    except UpgradeRefused as refusal:
        raise ConnectFailed(_refused(url, refusal.answer)) from None
    except (OSError, InvalidHandshake) as error:
        raise ConnectFailed(Ending(await _describe_failure(error, endpoint))) from None
    if connection.subprotocol is None:
        await connection.close()
        raise ConnectFailed(Ending(f"the server at {url} does not speak the device protocol", status=101))
    return connection


@dataclass(slots=True, eq=False)
class Client:
    """Client that sends the batches of an outbox over one connection at a time, until it is cancelled or stopped.

    `on_change` is called when `state` changes. `on_wait` is called before each delay with the ending, the delay in
    seconds, and how many attempts failed since the last progress.
    """

    endpoint: Endpoint
    outbox: DeviceOutbox
    name: str
    on_change: Callable[[], None] = lambda: None
    on_wait: Callable[[Ending, float, int], None] = lambda ending, delay_s, attempt: None
    surroundings: Surroundings = Surroundings()  # noqa: RUF009 - immutable
    state: ConnectionState = ConnectionState.CONNECTING
    _first_delay_ms: int = FIRST_DELAY_MS
    _acked: int = 0

    async def run(self) -> NoReturn:
        """Connect, transmit and reconnect. Raises ClientStopped and what the outbox raises."""
        surroundings = self.surroundings
        attempt = 0
        try:
            while True:
                self._set_state(ConnectionState.CONNECTING)
                ending, progressed = await self._converse()
                if progressed:
                    attempt = 0
                ending, sentences = bounded_ending(await self.outbox.disconnected(ending))
                for sentence in sentences:
                    _log.warning("%s", sentence)
                delay = delay_ms(
                    ending,
                    attempt,
                    first_ms=self._first_delay_ms,
                    max_ms=surroundings.max_delay_ms,
                    random=surroundings.random,
                )
                if delay is None:
                    raise ClientStopped(ending)
                self.on_wait(ending, delay / 1000, attempt)
                self._set_state(ConnectionState.WAITING)
                attempt += 1
                await self._wait(delay / 1000)
        finally:
            self._set_state(ConnectionState.STOPPED)

    async def _wait(self, delay_s: float) -> None:
        """Wait before the next attempt; end early when a person has corrected a file of credentials."""
        before = self.endpoint.files
        until_s = time.monotonic() + delay_s
        while before and (rest_s := until_s - time.monotonic()) > FILES_SECONDS:
            await asyncio.sleep(FILES_SECONDS)
            if self.endpoint.files != before:
                return
            delay_s = rest_s - FILES_SECONDS
        await asyncio.sleep(max(0.0, delay_s))

    async def _converse(self) -> tuple[Ending, bool]:
        """Use one connection until it ends; return the reason, and whether the connection made progress."""
        monotonic, stable_from = self.surroundings.monotonic, inf
        acked_before = self._acked
        try:
            connection = await connect(self.endpoint, name=self.name)
        except ConnectFailed as failure:
            return failure.ending, False
        session = ClientSession(connection, self.outbox, format=self.endpoint.format, time_ns=self.surroundings.time_ns)
        state = session.state
        try:
            ending = await session.open()
            if ending is None:
                stable_from = monotonic() + STABLE_SECONDS
                acked_before = min(acked_before, state.acked)
                self._first_delay_ms = max(state.retry_ms, MIN_FIRST_DELAY_MS)
                self._set_state(ConnectionState.ONLINE)
                ending = await session.run()
        except ConnectionClosed as closed:
            ending = _closed(closed)
        except OutboxUnavailable as error:
            ending = Ending(str(error))
        except WireError as error:
            await connection.close(CLOSE_FOR_CODE.get(error.code, Close.BAD_MESSAGE), error.code)
            ending = Ending(f"the session failed: {error.message}", error=error.code)
        finally:
            # Also when the client is cancelled: `async with` would then report a failure (1011).
            await connection.close()
        if stable_from < inf:
            self._acked = state.acked
        return ending, self._acked > acked_before or monotonic() >= stable_from

    def _set_state(self, state: ConnectionState) -> None:
        self.state = state
        self.on_change()


async def _describe_failure(error: Exception, endpoint: Endpoint) -> str:
    """Return a sentence for a connection that could not be opened."""
    url, tls = endpoint.url, endpoint.client_tls
    names: list[str] = []
    if tls is not None and endpoint.proxy is None and is_wrong_name(error):
        names = await asyncio.to_thread(read_certificate_names, url, tls)
    described = describe_tls_failure(error, url, names)
    if described is None and isinstance(error, UNREADABLE):
        described = explain_no_http(url)
    return described or f"{url} does not answer: {_reason(error)}"


def _refused(url: str, answer: HandshakeAnswer) -> Ending:
    """Return the ending for an HTTP answer in place of an upgrade."""
    return Ending(
        explain_answer(url, answer),
        status=answer.status,
        retry_ms=parse_retry_after(answer.headers.get("retry-after", ""), time.time_ns()),
    )


def _closed(closed: ConnectionClosed) -> Ending:
    if closed.rcvd is None:
        return Ending(f"the connection broke: {closed.__cause__ or closed}", close=1006)
    detail = f": {closed.rcvd.reason}" if closed.rcvd.reason else ""
    return Ending(f"the hub closed the connection ({closed.rcvd.code}){detail}", close=closed.rcvd.code)


def _reason(error: Exception) -> str:
    # asyncio's text for a refused connection repeats the address; the system's text does not.
    if isinstance(error, OSError) and error.errno and error.errno > 0:
        return os.strerror(error.errno)
    return str(error) or type(error).__name__
