"""One connection of an uplink, from the hello to its end.

The machine of wire.device_session decides; this gives it what arrives and sends what it allows. One coroutine listens,
one transmits. What goes out next is always the machine's `sent + 1`, asked for anew each time, because an
acknowledgement can move it.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import NamedTuple

from websockets.asyncio.client import ClientConnection
from websockets.exceptions import ConnectionClosed

from agent_client.reconnect import Ending
from device_agent.batch import EncodedBatch, decode_batch, encode_batch, encode_frame, encode_within
from device_agent.spool import Entry, Spool
from device_agent.tally import Tally
from wire import device, limits
from wire.codec import AGENT_MESSAGES, HUB_MESSAGES, Format
from wire.device_session import AgentDeviceSession
from wire.model import Metric

WELCOME_SECONDS = 10.0
"""From the hello to the welcome: a hub that needs longer is as good as away."""

DECLARE_BYTES = limits.MAX_BATCH_BYTES // 2
"""Definitions of one message; more are sent in several."""

FORGOTTEN_REASON = "acknowledged before, and unknown to this hub"

_log = logging.getLogger(__name__)


class Introduction(NamedTuple):
    """What a hello says of the agent besides its spool."""

    device: str
    tags: Mapping[str, str] = {}
    agent: str = ""


class Events(NamedTuple):
    """Who is told what the hub said: the machine after a welcome, the highest acknowledged number, a rejected batch."""

    welcomed: Callable[[AgentDeviceSession], None]
    acknowledged: Callable[[int], None]
    rejected: Callable[[device.Reject], None]


class Conversation:
    """What is said over one connection. `run` may be called once."""

    def __init__(
        self,
        connection: ClientConnection,
        spool: Spool,
        *,
        introduction: Introduction,
        format: Format,
        tally: Tally,
        events: Events,
        time_ns: Callable[[], int],
    ) -> None:
        self._connection = connection
        self._spool = spool
        self._introduction = introduction
        self._format = format
        self._tally = tally
        self._events = events
        self._time_ns = time_ns
        self._session = AgentDeviceSession(next_seq=spool.hello_seq)
        self._declared: dict[str, Metric] = {}
        self._revision = -1
        self._room = asyncio.Event()
        self._failure: Exception | None = None

    async def run(self) -> Ending:
        """Says hello and goes on until the hub ends it. Raises ConnectionClosed, WireError, SpoolError."""
        ending = await self._greet()
        if ending is not None:
            return ending
        # No TaskGroup: in Python 3.11 it forgets a cancellation that comes while it ends for another reason.
        transmitting = asyncio.create_task(self._transmit())
        try:
            return await self._listen()
        except ConnectionClosed:
            if self._failure is not None:
                raise self._failure from None
            raise
        finally:
            transmitting.cancel()
            await asyncio.wait((transmitting,))

    async def _greet(self) -> Ending | None:
        """Hello and welcome; None when the conversation is open."""
        metrics = next(_portions(self._undeclared()), [])
        self._declared.update((metric.name, metric) for metric in metrics)
        spool, introduction = self._spool, self._introduction
        hello = device.Hello(
            introduction.device,
            spool.epoch,
            self._session.next_seq,
            spool.durable,
            self._time_ns(),
            metrics=metrics,
            tags=dict(introduction.tags),
            agent=introduction.agent,
        )
        await self._say(hello)
        try:
            async with asyncio.timeout(WELCOME_SECONDS):
                reply = await self._hear()
        except TimeoutError:
            return Ending("the hub did not answer the hello")
        if isinstance(reply, device.Error):
            return _ending(reply)
        await spool.confirm()
        self._acknowledge()
        self._events.welcomed(self._session)
        return None

    async def _listen(self) -> Ending:
        while True:
            match await self._hear():
                case device.Ack():
                    self._acknowledge()
                case device.TimeProbe(hub_time=hub_time):
                    await self._say(device.TimeReply(hub_time, self._time_ns()))
                case device.Reject() as reject:
                    self._tally.reject(reject.seq)
                    self._events.rejected(reject)
                case device.Error() as error:
                    return _ending(error)

    async def _transmit(self) -> None:
        """Sends what waits and what comes, as far as the window goes; ends when the connection does."""
        session, spool = self._session, self._spool
        try:
            while True:
                if session.room < 1:
                    self._room.clear()
                    await self._room.wait()
                    continue
                if session.sent < spool.acked:
                    # The hub was restored from a copy, or is another one: what it lacks is not here any more either.
                    await self._send_gap(device.Gap(session.sent + 1, spool.acked, FORGOTTEN_REASON))
                    continue
                entries = await spool.read(session.sent, max_batches=session.room)
                if not entries:
                    await spool.wait(session.sent)
                    continue
                if spool.revision != self._revision:
                    await self._declare()
                await self._send_entries(entries)
        except ConnectionClosed:
            return  # _listen says why
        except Exception as error:  # noqa: BLE001 - run() raises it
            self._failure = error
            self._connection.transport.abort()  # which ends _listen

    async def _send_entries(self, entries: Iterable[Entry]) -> None:
        """Sends entries until one is not the next any more, which an acknowledgement or a split can bring about."""
        session = self._session
        for entry in entries:
            if session.room < 1:
                return
            if isinstance(entry, device.Gap):
                if entry.from_seq != session.sent + 1:
                    return
                await self._send_gap(entry)
                continue
            seq, batch = entry
            if seq != session.sent + 1:
                return
            if batch.format != self._format:
                batch = encode_batch(decode_batch(batch), self._spool.metrics, self._format)
            frame = encode_frame(seq, batch)
            if len(frame) > session.max_batch_bytes:
                await self._split(seq, batch)
                return
            session.send(seq, seq)
            self._tally.transmit(seq, batch.readings)
            await self._connection.send(frame, text=self._format == "json")

    async def _send_gap(self, gap: device.Gap) -> None:
        self._session.send(gap.from_seq, gap.to)
        _log.warning("batches %d to %d are declared lost: %s", gap.from_seq, gap.to, gap.reason)
        await self._say(gap)

    async def _split(self, seq: int, batch: EncodedBatch) -> None:
        """A batch that is larger than this hub takes becomes several."""
        limit = self._session.max_batch_bytes
        parts = encode_within(
            decode_batch(batch), self._spool.metrics, self._format, max_bytes=limit, max_rows=limits.MAX_TIMES
        )
        missing = batch.readings - sum(part.readings for part in parts)
        if missing:
            _log.error("%d readings are each larger than the %d bytes that the hub takes, and are lost", missing, limit)
        await self._spool.replace(seq, parts, f"larger than the {limit} bytes that the hub takes")

    async def _declare(self) -> None:
        # Read before the metrics are: a definition that comes in between is declared next time.
        revision = self._spool.revision
        for metrics in _portions(self._undeclared()):
            self._declared.update((metric.name, metric) for metric in metrics)
            await self._say(device.Declare(metrics))
        self._revision = revision

    def _undeclared(self) -> list[Metric]:
        return [metric for metric in self._spool.metrics.values() if self._declared.get(metric.name) != metric]

    def _acknowledge(self) -> None:
        acked = self._session.acked
        self._spool.trim(acked)
        self._tally.acknowledge(acked)
        self._room.set()
        self._events.acknowledged(acked)

    async def _say(self, message: device.AgentMessage) -> None:
        await self._connection.send(AGENT_MESSAGES[self._format].encode(message), text=self._format == "json")

    async def _hear(self) -> device.HubMessage:
        message = HUB_MESSAGES[self._format].decode(await self._connection.recv(decode=False))
        self._session.receive(message)
        return message


def _ending(error: device.Error) -> Ending:
    return Ending(f"{error.message} ({error.code})", error=error.code, retry_ms=error.retry_ms)


def _portions(metrics: Iterable[Metric]) -> Iterator[list[Metric]]:
    """The definitions in lists that each fit into a message."""
    portion: list[Metric] = []
    size = 0
    for metric in metrics:
        weight = len(AGENT_MESSAGES["json"].encode(device.Declare([metric])))
        if size + weight > DECLARE_BYTES:
            yield portion
            portion, size = [], 0
        portion.append(metric)
        size += weight
    if portion:
        yield portion
