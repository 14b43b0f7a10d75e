"""The uplink: takes what waits in a spool to a hub, over one connection at a time, for as long as it runs."""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Callable
from enum import Enum
from math import inf
from typing import NamedTuple, NoReturn

from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidStatus
from websockets.http11 import Response
from websockets.typing import Subprotocol

from agent_client.reconnect import FIRST_DELAY_MS, MAX_DELAY_MS, Ending, delay_ms
from device_agent.conversation import Conversation, Events, Introduction
from device_agent.endpoint import SUBPROTOCOLS, Endpoint
from device_agent.errors import SpoolError, SpoolFailed, UplinkStopped
from device_agent.spool import Spool
from device_agent.tally import Tally
from wire import device
from wire.device_session import AgentDeviceSession
from wire.errors import CLOSE_FOR_CODE, Close, Code, WireError

MAX_HUB_MESSAGE_BYTES = 64 * 1024
"""Largest message taken from a hub; an error with its sentence is under 4 kB."""

OPEN_SECONDS = 10.0
"""For the connection and the upgrade."""

CLOSE_SECONDS = 2.0
"""For the closing handshake; everything that counts is acknowledged or in the spool by then."""

PING_SECONDS = 20.0
"""Between pings, and for the answer to one: how a peer is noticed that vanished without a word."""

STABLE_SECONDS = 30.0
"""A connection that lasted so long, or brought an acknowledgement, was a good one: the backoff begins anew."""

MIN_FIRST_DELAY_MS = 100
"""Least bound of the first delay, so that a hub that asks for none is not stormed."""

_log = logging.getLogger(__name__)


class Link(Enum):
    """Where the uplink is."""

    CONNECTING = "connecting"
    ONLINE = "online"
    WAITING = "waiting"
    """The last attempt failed; the next comes after a delay."""
    STOPPED = "stopped"


class Surroundings(NamedTuple):
    """What an uplink takes from outside: the device's clock, a clock for durations, randomness, the longest delay."""

    time_ns: Callable[[], int] = time.time_ns
    monotonic: Callable[[], float] = time.monotonic
    random: Callable[[], float] = random.random
    max_delay_ms: int = MAX_DELAY_MS


class Uplink:
    """Runs until it is cancelled, or stopped by what coming back would only repeat.

    `on_welcome` is called with the largest frame that the hub takes, `on_ack` with the highest acknowledged number,
    `on_reject` with each batch that the hub put in quarantine.
    """

    def __init__(
        self,
        endpoint: Endpoint,
        introduction: Introduction,
        spool: Spool,
        *,
        on_welcome: Callable[[int], None] | None = None,
        on_ack: Callable[[int], None] | None = None,
        on_reject: Callable[[device.Reject], None] | None = None,
        surroundings: Surroundings | None = None,
    ) -> None:
        self.state = Link.CONNECTING
        self.tally = Tally()
        self._endpoint = endpoint
        self._introduction = introduction
        self._spool = spool
        self._on_welcome = on_welcome
        self._on_ack = on_ack
        self._on_reject = on_reject
        self._surroundings = surroundings or Surroundings()
        self._first_delay_ms = FIRST_DELAY_MS
        self._stable_from = inf
        self._codes_rejected: set[Code] = set()
        self._reported: tuple[object, ...] | None = None
        self._changed = asyncio.Event()

    async def run(self) -> NoReturn:
        """Connects, transmits, comes back. Raises UplinkStopped, SpoolFailed."""
        try:
            await self._run()
        finally:
            self._set_state(Link.STOPPED)

    async def _run(self) -> NoReturn:
        attempt = 0
        around = self._surroundings
        while True:
            self._set_state(Link.CONNECTING)
            acknowledged, self._stable_from = self.tally.acknowledged, inf
            ending = await self._converse()
            if self.tally.acknowledged != acknowledged or around.monotonic() >= self._stable_from:
                attempt, self._reported = 0, None
            if ending.error is Code.ROLLED_BACK:
                ending = await self._begin_epoch(ending)
            delay = delay_ms(
                ending, attempt, first_ms=self._first_delay_ms, max_ms=around.max_delay_ms, random=around.random
            )
            self._report(ending, delay)
            if delay is None:
                raise UplinkStopped(ending.reason, ending.error)
            self._set_state(Link.WAITING)
            attempt += 1
            await asyncio.sleep(delay / 1000)

    async def wait_change(self) -> None:
        """Returns at the next acknowledgement or change of state, or when it is woken."""
        await self._changed.wait()

    def wake(self) -> None:
        """Ends every wait_change."""
        # Whoever waits now goes on and looks again; whoever comes later looks first.
        self._changed.set()
        self._changed.clear()

    async def _converse(self) -> Ending:
        """One connection, from the first packet to its end."""
        endpoint = self._endpoint
        try:
            connection = await connect(
                endpoint.url,
                subprotocols=[Subprotocol(SUBPROTOCOLS[endpoint.format])],
                additional_headers=endpoint.headers,
                user_agent_header=self._introduction.agent or None,
                proxy=endpoint.proxy,
                compression=None,
                open_timeout=OPEN_SECONDS,
                close_timeout=CLOSE_SECONDS,
                ping_interval=PING_SECONDS,
                ping_timeout=PING_SECONDS,
                max_size=MAX_HUB_MESSAGE_BYTES,
            )
        except InvalidStatus as refusal:
            return _refused(refusal.response)
        except (OSError, InvalidHandshake) as error:
            return Ending(f"no connection: {error}")
        try:
            if connection.subprotocol is None:
                return Ending("what answers there does not speak the device protocol", status=101)
            conversation = Conversation(
                connection,
                self._spool,
                introduction=self._introduction,
                format=endpoint.format,
                tally=self.tally,
                events=Events(self._welcomed, self._acknowledged, self._rejected),
                time_ns=self._surroundings.time_ns,
            )
            try:
                return await conversation.run()
            except ConnectionClosed as closed:
                return _closed(closed)
            except SpoolFailed:
                raise
            except SpoolError as error:
                return Ending(str(error))
            except WireError as error:
                await connection.close(CLOSE_FOR_CODE.get(error.code, Close.BAD_MESSAGE), error.code)
                return Ending(f"the conversation failed: {error.message}", error=error.code)
        finally:
            # Also when the agent is stopped: `async with` would then say that something failed (1011).
            await connection.close()

    def _welcomed(self, session: AgentDeviceSession) -> None:
        self._stable_from = self._surroundings.monotonic() + STABLE_SECONDS
        self._first_delay_ms = max(session.retry_ms, MIN_FIRST_DELAY_MS)
        self.tally.connections += 1
        if self._on_welcome is not None:
            self._on_welcome(session.max_batch_bytes)
        self._set_state(Link.ONLINE)
        _log.info("connected to %s; %d batches wait", self._endpoint.url, self._spool.waiting)

    def _acknowledged(self, acked: int) -> None:
        if self._on_ack is not None:
            self._on_ack(acked)
        self.wake()

    def _rejected(self, reject: device.Reject) -> None:
        level = logging.DEBUG if reject.code in self._codes_rejected else logging.WARNING
        self._codes_rejected.add(reject.code)
        _log.log(level, "the hub put batch %d in quarantine: %s (%s)", reject.seq, reject.message, reject.code)
        if self._on_reject is not None:
            self._on_reject(reject)

    async def _begin_epoch(self, ending: Ending) -> Ending:
        before = self._spool.epoch
        try:
            await self._spool.begin_epoch()
        except SpoolFailed:
            raise
        except SpoolError as error:
            return Ending(str(error))  # the hub says it again
        self.tally.begin_epoch()
        _log.warning(
            "the spool is older than what the hub holds of it (was it restored from a copy?): epoch %s follows %s, "
            "and what waits is sent under it",
            self._spool.epoch,
            before,
        )
        return ending

    def _report(self, ending: Ending, delay: float | None) -> None:
        """Once per episode: the same trouble again is told only to who wants to know everything."""
        kind = (ending.status, ending.error, ending.close)
        if delay is None:
            _log.error("stopped: %s", ending.reason)
            return
        level = logging.DEBUG if kind == self._reported else logging.WARNING
        self._reported = kind
        _log.log(level, "%s; readings stay in the spool, next attempt in %.1f s", ending.reason, delay / 1000)

    def _set_state(self, state: Link) -> None:
        self.state = state
        self.wake()


def _refused(response: Response) -> Ending:
    """What an HTTP answer in place of an upgrade says."""
    status = response.status_code
    reason = {
        401: "the hub does not know this token",
        403: "this token may not write as this device",
        404: "there is no hub under this address",
        503: "the hub is busy",
    }.get(status, "the connection was refused")
    retry_after = response.headers.get("Retry-After", "")
    return Ending(
        f"{reason} (HTTP {status})",
        status=status,
        retry_ms=int(retry_after) * 1000 if retry_after.isdecimal() and len(retry_after) < 6 else None,
    )


def _closed(closed: ConnectionClosed) -> Ending:
    if closed.rcvd is None:
        return Ending(f"the connection broke: {closed.__cause__ or closed}", close=1006)
    said = f": {closed.rcvd.reason}" if closed.rcvd.reason else ""
    return Ending(f"the connection was closed ({closed.rcvd.code}){said}", close=closed.rcvd.code)
