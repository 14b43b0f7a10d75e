"""One agent's conversation: the hub's end of the device protocol, joined to the commit loop.

No sockets here: frames come in by `receive`, messages go out by the Outlet it was given, whose `end` tells the
connection's edge to close with an error.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import partial
from typing import Protocol

import structlog

from hub.ingest.acceptance import accept
from hub.ingest.device import Device
from hub.ingest.intake import Intake
from hub.model.batch import Entry, EntryKind, Series
from wire import device as messages
from wire import limits
from wire.codec import AGENT_MESSAGES, HUB_MESSAGES, Format
from wire.device_session import HubDeviceSession
from wire.errors import Code, WireError
from wire.model import Metric

CLOCK_SAMPLES_KEPT_NS = 600 * 1_000_000_000
"""The best clock exchange counts for ten minutes; a quartz clock drifts by about 10 ms in that time."""


RETRY_MS = 1000
"""The upper bound of an agent's first reconnect delay: 10,000 agents come back at 10,000 a second at most."""

Step = Callable[[], Awaitable[None]]
"""Something that has to wait for the hub's registry or for room."""


log = structlog.get_logger(__name__)


class Outlet(Protocol):
    """The connection's edge, as the conversation sees it. None of these waits."""

    def send(self, frame: bytes) -> None:
        """Sends a frame after those that wait already."""

    def send_ack(self, frame: bytes) -> None:
        """Sends an acknowledgement; one that still waits is replaced, since they are cumulative."""

    def end(self, error: WireError) -> None:
        """Sends the error and closes with the code that belongs to it."""


class Directory(Protocol):
    """What the conversation needs of the hub's memory of devices and rights."""

    async def allow(self, hello: messages.Hello) -> None:
        """Raises WireError when the connection's credential may not write as this device."""

    async def declare(self, device: str, metrics: Sequence[Metric]) -> Mapping[str, Series | WireError]:
        """All metrics of the device, durable when this returns; a WireError for each whose type conflicts."""

    def record(self, device: str, kind: str, detail: str) -> None:
        """Keeps an event of the device."""

    def describe(self, device: str, *, tags: Mapping[str, str], agent: str) -> None:
        """Keeps what the agent says of itself."""


class Conversation:
    """The hub's end for one connection of one agent."""

    def __init__(
        self, intake: Intake, directory: Directory, outlet: Outlet, *, format: Format, hub: str, window: int
    ) -> None:
        self._intake = intake
        self._directory = directory
        self._outlet = outlet
        self._format: Format = format
        self._hub = hub
        self._session = HubDeviceSession(window=window)
        self._decode = AGENT_MESSAGES[format].decode
        self._encode = HUB_MESSAGES[format].encode
        self._clock = intake.clock
        self._best_clock: tuple[int, int] | None = None
        self.device: Device | None = None
        self.epoch = ""

    def receive(self, frame: bytes) -> Step | None:
        """Takes in one frame, and returns what is left to be done before the next one: nothing, for a batch.

        Raises WireError, as the step does, when the connection has to end.
        """
        try:
            message = self._decode(frame)
        except WireError as refusal:
            if refusal.seq is None or self.device is None:
                self._intake.bad_messages += 1
                raise
            if self._session.take(refusal.seq, refusal.seq):
                self._quarantine(self.device, refusal.seq, frame, refusal)
            else:
                self._acknowledge_duplicate(self.device)
            return None
        if type(message) is messages.Data:
            self._receive_data(message, frame)
            return None
        self._session.receive(message)
        match message:
            case messages.Hello():
                return partial(self._receive_hello, message)
            case messages.Declare() if self.device is not None:
                return partial(self._receive_declare, self.device, message)
            case messages.Gap() if self.device is not None:
                self._receive_gap(self.device, message, frame)
            case messages.TimeReply() if self.device is not None:
                self._receive_time(self.device, message)
        return None

    def _receive_data(self, data: messages.Data, frame: bytes) -> None:
        device = self.device
        seq = data.seq
        if not self._session.take(seq, seq) or device is None:
            if device is not None:
                self._acknowledge_duplicate(device)
            return
        try:
            accepted = accept(data, device.metrics)
        except WireError as refusal:
            self._quarantine(device, seq, frame, refusal)
            return
        except Exception:
            # A mistake of ours about one batch must cost that batch, and not the device's stream for ever.
            log.exception("a batch could not be judged", device=device.id, seq=seq)
            self._quarantine(
                device, seq, frame, WireError(Code.BAD_MESSAGE, "the hub cannot judge it; its log says why")
            )
            return
        batch = accepted.batch
        device.received = seq
        device.batches += 1
        device.readings += batch.readings
        if accepted.moved:
            device.moved += accepted.moved
            frame = AGENT_MESSAGES[self._format].encode(accepted.data)
        device.seen_ns = now = self._clock()
        self._intake.submit(
            device,
            Entry(EntryKind.BATCH, device.id, self.epoch, seq, now, self._format, frame, batch=batch),
        )

    def _acknowledge_duplicate(self, device: Device) -> None:
        """Something came again that is durable, or on its way there: it is counted and left out."""
        device.duplicates += 1
        if self._session.acked:
            self._outlet.send_ack(self._encode(messages.Ack(self._session.acked)))

    def _quarantine(self, device: Device, seq: int, frame: bytes, refusal: WireError) -> None:
        device.received = seq
        device.quarantined += 1
        device.seen_ns = now = self._clock()
        reason = (refusal.code.value, refusal.message)
        entry = Entry(EntryKind.QUARANTINE, device.id, self.epoch, seq, now, self._format, frame, reason=reason)
        self._intake.submit(device, entry)

    async def _receive_hello(self, hello: messages.Hello) -> None:
        await self._directory.allow(hello)
        self._intake.check_open()
        metrics = await self._directory.declare(hello.device, hello.metrics)
        device = self._intake.device(hello.device)
        older = device.conversation
        if not hello.guest:
            self._directory.describe(hello.device, tags=hello.tags, agent=hello.agent)
        elif older is not None:
            raise WireError(Code.BUSY, f"{hello.device} is connected itself; stop its agent for as long as this takes")
        if device.epoch != hello.epoch:
            device.begin_epoch(hello.epoch)
        # Judged before anything is taken over: a spool that is refused must not throw out one that is not.
        self._session.welcome(acked=device.acked, received=device.received)
        if older is not None:
            older.end(WireError(Code.SUPERSEDED, "another connection of this device took over"))
            self._directory.record(device.id, "superseded", "a newer connection took over")
        device.conversation = self
        device.metrics = metrics
        if not hello.guest:
            device.tags = hello.tags
            device.agent = hello.agent
        device.next_seq = hello.next_seq
        device.since_ns = now = self._clock()
        device.clock_offset_ns = device.clock_error_ns = None
        self.device = device
        self.epoch = hello.epoch
        self.send(
            messages.Welcome(
                hub=self._hub,
                acked=device.acked,
                window=self._session.window,
                max_batch_bytes=limits.MAX_BATCH_BYTES,
                time=now,
                retry_ms=RETRY_MS,
            )
        )
        self.probe_clock()
        self._directory.record(device.id, "connected", hello.agent)
        self._intake.on_device(device)

    async def _receive_declare(self, device: Device, declare: messages.Declare) -> None:
        """Conflicts of earlier declarations stay until the metric is declared again as the hub knows it."""
        now = {metric.name for metric in declare.metrics}
        conflicts = {n: e for n, e in device.metrics.items() if isinstance(e, WireError) and n not in now}
        device.metrics = {**await self._directory.declare(device.id, declare.metrics), **conflicts}

    def _receive_gap(self, device: Device, gap: messages.Gap, frame: bytes) -> None:
        before = device.received
        if not self._session.take(gap.from_seq, gap.to):
            self._acknowledge_duplicate(device)
            return
        device.received = gap.to
        device.lost += gap.to - before
        now = self._clock()
        self._directory.record(device.id, "gap", f"batches {gap.from_seq} to {gap.to} lost: {gap.reason}")
        self._intake.submit(device, Entry(EntryKind.GAP, device.id, self.epoch, gap.to, now, self._format, frame))

    def probe_clock(self) -> None:
        """Measures the device's clock once."""
        self.send(messages.TimeProbe(self._clock()))

    def _receive_time(self, device: Device, reply: messages.TimeReply) -> None:
        """Cristian's algorithm: the device read its clock somewhere within the round trip; the shortest one counts."""
        now = self._clock()
        error = max(0, now - reply.hub_time) // 2
        best = self._best_clock
        if best is None or error <= best[0] or now - best[1] > CLOCK_SAMPLES_KEPT_NS:
            self._best_clock = (error, now)
            device.clock_offset_ns = reply.device_time - (reply.hub_time + error)
            device.clock_error_ns = error
            self._intake.on_device(device)

    def send(self, message: messages.HubMessage) -> None:
        """Sends a message to the agent."""
        self._outlet.send(self._encode(message))

    def acknowledge(self, seq: int) -> None:
        """All up to `seq` is durable."""
        ack = self._session.commit(seq)
        if ack is not None:
            self._outlet.send_ack(self._encode(ack))

    def end(self, error: WireError) -> None:
        """Ends the conversation: the device's next connection starts from what is durable."""
        self._session.close()
        self._outlet.end(error)

    def close(self, why: str) -> None:
        """The connection is gone."""
        self._session.close()
        device = self.device
        if device is not None and device.conversation is self:
            device.conversation = None
            device.since_ns = self._clock()
            self._directory.record(device.id, "disconnected", why)
            self._intake.on_device(device)
