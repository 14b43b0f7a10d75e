"""The uplink: connects a spool to a hub, and counts and reports what happens to the batches."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from http import HTTPStatus
from importlib.metadata import PackageNotFoundError, version
from typing import NoReturn

from agent_client.client import Client, ClientStopped, ConnectionState, Surroundings
from agent_client.endpoint import Endpoint
from agent_client.reconnect import Ending
from agent_client.session import CommandExchange, Frame, OutboxUnavailable
from device_agent.access import AccessRequester
from device_agent.batch import decode_batch, encode_batch, encode_frame, encode_within
from device_agent.errors import SpoolError, SpoolFailed, UplinkStopped
from device_agent.refusals import decode_report, is_report, report_frame
from device_agent.refused_batch import QUIET_SECONDS, RefusedBatchSearch
from device_agent.source_state import SourceStates
from device_agent.spool import Count, Entry, Spool, StoredBatch
from wire import device as messages
from wire import limits
from wire.device_session import AgentDeviceSession, ClockOffset
from wire.errors import Code
from wire.model import Metric
from wire.text import escaped, plural

_log = logging.getLogger(__name__)


def _agent_name() -> str:
    try:
        return f"telemetry-hub-agent/{version('telemetry-hub')}"
    except PackageNotFoundError:
        return "telemetry-hub-agent"


AGENT_NAME = _agent_name()
"""Name of this software in the hello and in the User-Agent header."""


@dataclass(slots=True, eq=False)
class Tally:
    """Counters of sent, acknowledged and rejected batches; each batch counts once, however often it is sent."""

    acknowledged: Count = Count()  # noqa: RUF009 - immutable
    rejected: Count = Count()  # noqa: RUF009 - immutable
    transmissions: int = 0
    connections: int = 0
    _in_flight: deque[tuple[int, int]] = field(default_factory=deque)
    _newest: int = 0

    def transmit(self, seq: int, readings: int) -> None:
        """Count a batch that is sent."""
        self.transmissions += 1
        if seq > self._newest:
            self._newest = seq
            self._in_flight.append((seq, readings))

    def acknowledge(self, acked: int) -> None:
        """Count all batches up to this number as durable."""
        in_flight = self._in_flight
        batches = readings = 0
        while in_flight and in_flight[0][0] <= acked:
            batches += 1
            readings += in_flight.popleft()[1]
        if batches:
            self.acknowledged = self.acknowledged.plus(batches, readings)

    def reject(self, reject: messages.Reject) -> None:
        """Count a batch in quarantine, or the refused readings of one. Its acknowledgement follows."""
        if reject.partial:
            self.rejected = self.rejected.plus(0, reject.readings)
            return
        readings = next((readings for number, readings in self._in_flight if number == reject.seq), 0)
        self.rejected = self.rejected.plus(1, readings)

    def begin_epoch(self) -> None:
        """Restart the numbers at 1."""
        self._in_flight.clear()
        self._newest = 0


@dataclass(slots=True, eq=False)
class Uplink:
    """The spool as the outbox of a client, until it is cancelled or reconnecting would only repeat the failure.

    It encodes, splits and counts the batches. `on_welcome` is called with the largest frame that the hub accepts,
    `on_ack` with the highest acknowledged number, `on_reject` with each batch that is in quarantine, or
    some values of it.
    """

    endpoint: Endpoint
    spool: Spool
    device: str
    tags: dict[str, str]
    on_welcome: Callable[[int], None]
    on_ack: Callable[[int], None] | None
    on_reject: Callable[[messages.Reject], None] | None
    surroundings: Surroundings
    commands: CommandExchange | None = None
    access: AccessRequester | None = None
    tally: Tally = field(default_factory=Tally)
    sources: SourceStates = field(default_factory=SourceStates)
    status_changed: asyncio.Event = field(default_factory=asyncio.Event)
    problem: str = ""
    """Why the last connection or attempt ended; empty while there is a connection."""
    clock: ClockOffset | None = None
    """The offset of this computer's clock from the hub's, measured at the last welcome; None before the first."""
    _codes_rejected: set[Code] = field(default_factory=set)
    _reported: tuple[object, ...] | None = None
    _changed: asyncio.Event = field(default_factory=asyncio.Event)
    _search: RefusedBatchSearch = field(default_factory=RefusedBatchSearch)
    _session: AgentDeviceSession | None = None
    _quiet_until: float = 0.0
    _client: Client = field(init=False)

    def __post_init__(self) -> None:
        self._client = Client(self.endpoint, self, AGENT_NAME, self.wake, self._report, self.surroundings)

    @property
    def state(self) -> ConnectionState:
        """The state of the connection."""
        return self._client.state

    async def run(self) -> NoReturn:
        """Connect, transmit and reconnect. Raises UplinkStopped and SpoolFailed."""
        try:
            await self._client.run()
        except ClientStopped as stopped:
            _log.error("stopped: %s", stopped)
            raise UplinkStopped(stopped.ending.reason, stopped.ending.error) from None

    async def wait_change(self) -> None:
        """Wait for the next acknowledgement, change of state, or call of `wake`."""
        await self._changed.wait()

    def wake(self) -> None:
        """End every `wait_change`."""
        # Current waiters continue and check again; later waiters check before they wait.
        self._changed.set()
        self._changed.clear()

    @property
    def metrics(self) -> Mapping[str, Metric]:
        return self.spool.metrics

    @property
    def revision(self) -> int:
        return self.spool.revision

    def hello(self) -> messages.Hello:
        spool = self.spool
        return messages.Hello(
            self.device, spool.epoch, spool.hello_seq, spool.durable, 0, tags=self.tags, agent=AGENT_NAME
        )

    def report_source(self, name: str, error: str | None) -> None:
        """Set the state of a source, None for one that works, and report a change to the hub."""
        if self.sources.report(name, error, self.surroundings.monotonic()):
            self.status_changed.set()
            self.wake()

    def source_states(self) -> list[messages.SourceState]:
        """Return the states of all sources."""
        now = self.surroundings
        return self.sources.snapshot(now_s=now.monotonic(), time_ns=now.time_ns())

    def status(self) -> messages.Status:
        spool, session = self.spool, self._session
        # The hub acknowledged more than it has now: it counts what is sent again as repaired.
        acked = spool.acked if session is not None and spool.acked > session.acked else 0
        return messages.Status(self.surroundings.time_ns(), spool.next_seq, self.source_states(), acked)

    async def _wait_alone(self, session: AgentDeviceSession) -> None:
        """Wait until nothing is in flight and the connection had no error for a while."""
        wait_s = self._quiet_until - self.surroundings.monotonic()
        if wait_s > 0:
            await asyncio.sleep(wait_s)
        while session.sent > session.acked:
            await self.wait_change()

    async def _search_refused(self, session: AgentDeviceSession, ending: Ending) -> None:
        seq = self._search.refused(sent=session.sent, acked=session.acked)
        if seq is None:
            return
        _log.error(
            "batch %d is declared lost, because the hub cannot read it: %s; its bytes are kept in the spool",
            seq,
            ending.reason,
        )
        try:
            await self.spool.replace(seq, (), "the hub could not read this batch (bad_message)")
        except SpoolFailed:
            raise
        except SpoolError as error:
            _log.error("%s; the hub refuses the batch again", error)

    async def connected(self, session: AgentDeviceSession) -> None:
        self._session = session
        self.clock = session.clock
        quiet_s = min(QUIET_SECONDS, self.surroundings.max_delay_ms / 1000)
        self._quiet_until = self.surroundings.monotonic() + quiet_s
        self.problem = ""
        with _translated():
            await self.spool.confirm()
        self.tally.connections += 1
        self.on_welcome(session.max_batch_bytes)
        self.acknowledged(session.acked)
        _log.info("connected to %s; %s", self.endpoint.url, plural(self.spool.waiting, "batch waits", "batches wait"))

    async def read(self, session: AgentDeviceSession) -> Sequence[Frame | messages.Gap]:
        spool = self.spool
        while True:
            sent = session.sent
            alone = self._search.is_searching(session.acked)
            if alone:
                await self._wait_alone(session)
                sent = session.sent
            with _translated():
                entries = await spool.read(sent, max_batches=1 if alone else session.room)
            if not entries:
                await spool.wait(sent)
            elif frames := self._encode(entries, session):
                return frames
            elif isinstance(first := entries[0], StoredBatch) and first.seq == session.sent + 1:
                if first.seq <= spool.acked:
                    return [messages.Gap(first.seq, first.seq, _too_large(session.max_batch_bytes))]
                await self._split(first, session.max_batch_bytes)

    def transmitted(self, frame: Frame) -> None:
        self.tally.transmit(frame.seq, frame.readings)

    def acknowledged(self, acked: int) -> None:
        self.spool.trim(acked)
        self.tally.acknowledge(acked)
        if self.on_ack is not None:
            self.on_ack(acked)
        self.wake()

    def rejected(self, reject: messages.Reject) -> None:
        self.tally.reject(reject)
        codes = {reject.code, *(column.code for column in reject.columns)}
        level = logging.DEBUG if codes <= self._codes_rejected else logging.WARNING
        self._codes_rejected |= codes
        what = f"{plural(reject.readings, 'reading')} of batch" if reject.partial else "batch"
        _log.log(level, "the hub put %s %d in quarantine: %s", what, reject.seq, _reason_of(reject))
        if self.on_reject is not None:
            self.on_reject(reject)

    async def disconnected(self, ending: Ending) -> Ending:
        """Begin a new epoch when the hub holds more batches of this epoch than the spool knows of.

        Declare a batch lost that the hub cannot read.
        """
        if ending.error is Code.BAD_MESSAGE and self._session is not None:
            await self._search_refused(self._session, ending)
        self._session = None
        if ending.error is not Code.ROLLED_BACK:
            return ending
        spool = self.spool
        loss = (
            f"the spool was replaced by an older copy, which ended before batch {spool.hello_seq} of epoch "
            f"{spool.epoch}: the hub has more of this epoch, and batches that only the replaced spool had are lost"
        )
        if spool.durable and not self.tally.connections:
            # The hub has the batches below the number of the hello. The later ones are of this run, and new.
            spool.trim(spool.hello_seq - 1)
        try:
            await spool.begin_epoch(loss)
        except SpoolFailed:
            raise
        except SpoolError as error:
            return Ending(str(error))  # the hub reports it again
        self.tally.begin_epoch()
        _log.warning("%s; new batches are sent in epoch %s", ending.reason, spool.epoch)
        return ending

    def _encode(self, entries: Sequence[Entry], session: AgentDeviceSession) -> list[Frame | messages.Gap]:
        """Return the entries as frames, up to the first that is too large.

        A hub that does not know reports of refusals, or events, gets gaps with their sentences.
        """
        frames: list[Frame | messages.Gap] = []
        for entry in entries:
            if isinstance(entry, messages.Gap):
                frames.append(entry)
                continue
            seq, batch = entry
            if is_report(batch):
                report = decode_report(batch)
                is_event = isinstance(report, messages.DeviceEvent)
                if not (session.has_events if is_event else session.has_refused):
                    frames.append(messages.Gap(seq, seq, report.sentence(limits.MAX_REASON)))
                    continue
                data = report_frame(seq, batch, self.endpoint.format)
            else:
                if batch.format != self.endpoint.format:
                    batch = encode_batch(decode_batch(batch), self.spool.metrics, self.endpoint.format)
                data = encode_frame(seq, batch)
            if len(data) > session.max_batch_bytes:
                break
            frames.append(Frame(seq, data, batch.readings))
        return frames

    async def _split(self, stored: StoredBatch, limit: int) -> None:
        """Replace a batch that is larger than this hub accepts by several."""
        seq, batch = stored
        if is_report(batch):
            with _translated():
                await self.spool.replace(seq, (), decode_report(batch).sentence(limits.MAX_REASON))
            return
        parts = encode_within(
            decode_batch(batch), self.spool.metrics, self.endpoint.format, max_bytes=limit, max_rows=limits.MAX_TIMES
        )
        missing = batch.readings - sum(part.readings for part in parts)
        if missing:
            lost = plural(missing, "reading is", "readings are")
            _log.error("%s lost: larger than the %d bytes that the hub accepts", lost, limit)
        with _translated():
            await self.spool.replace(seq, parts, _too_large(limit))

    def _report(self, ending: Ending, delay_s: float, attempt: int) -> None:
        """Log a new problem as a warning, and its repetitions at debug level."""
        self.problem = ending.reason
        kind = (ending.status, ending.error, ending.close, None if ending.close else ending.reason)
        repeated = attempt > 0 and kind == self._reported
        self._reported = kind
        is_refused = ending.error is Code.NOT_AUTHENTICATED or ending.status == HTTPStatus.UNAUTHORIZED
        hint = ""
        if is_refused and self.endpoint.current_token is None:
            hint = " (this agent has no token: pass token= to Agent)"
            if self.access is not None:
                hint = " (this agent has no token: it asks for access)"
                self.access.need()
        _log.log(
            logging.DEBUG if repeated else logging.WARNING,
            "%s%s; readings stay in the spool, next attempt in %.1f s",
            ending.reason,
            hint,
            delay_s,
        )


def _reason_of(reject: messages.Reject) -> str:
    """Return why values are refused, with the metrics that the sentence leaves out."""
    named = f"{escaped(reject.message)} ({reject.code})"
    others = [column for column in reject.columns if column.code is not reject.code]
    listed = ", ".join(f"{escaped(column.metric)} ({column.code})" for column in others)
    return f"{named}; also {listed}" if listed else named


def _too_large(limit: int) -> str:
    return f"larger than the {limit} bytes that the hub accepts"


@contextmanager
def _translated() -> Iterator[None]:
    """Turn a SpoolError that may pass into OutboxUnavailable."""
    try:
        yield
    except SpoolFailed:
        raise
    except SpoolError as error:
        raise OutboxUnavailable(str(error)) from error
