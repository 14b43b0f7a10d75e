"""A device's conversation inside the hub: for data that the hub itself fetches, where no agent keeps the numbers.

No sockets and no loop of its own: who fetches hands over batches, and learns from the intake when they are durable.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Protocol

import structlog

from hub.ingest.acceptance import Accepted, accept
from hub.ingest.device import Device
from hub.ingest.intake import Intake
from hub.model.batch import Entry, EntryKind, Series
from wire import device as messages
from wire import limits
from wire.codec import AGENT_MESSAGES
from wire.errors import Code, WireError
from wire.model import DeviceId, Metric

log = structlog.get_logger(__name__)


def epoch_of(source: str) -> str:
    """The epoch of everything that comes from this source: its numbers are the hub's, so they go on for ever."""
    return hashlib.sha256(source.encode()).hexdigest()[:16]


class FeedDirectory(Protocol):
    """What a feed needs of the hub's memory of devices."""

    async def declare(self, device: str, metrics: Sequence[Metric]) -> Mapping[str, Series | WireError]:
        """All metrics of the device, durable when this returns; a WireError for each whose type conflicts."""

    def record(self, device: str, kind: str, detail: str) -> None:
        """Keeps an event of the device."""

    def describe(self, device: str, *, tags: Mapping[str, str], agent: str) -> None:
        """Keeps what is said of the device."""


class Feed:
    """Implements hub.ingest.device.Connected for one device of a source, which `agent` names.

    The hub gives out the numbers; they are durable with the device's mark, so that they go on after a restart. While
    the device is there (`connect`, or its first batch) this is its conversation. A device whose own agent is connected
    is not touched: its batches are refused with BUSY.
    """

    __slots__ = ("_directory", "_intake", "agent", "declared", "device", "epoch")

    def __init__(self, intake: Intake, directory: FeedDirectory, id: DeviceId, *, epoch: str, agent: str) -> None:
        self._intake = intake
        self._directory = directory
        self.device: Device = intake.device(id)
        self.epoch = epoch
        self.agent = agent
        self.declared = False
        """Whether the hub has been told of the device since it runs."""

    async def declare(self, metrics: Sequence[Metric], tags: Mapping[str, str] | None = None) -> None:
        """Makes metrics known, durable when this returns. Raises WireError: TOO_MANY, STORAGE_FULL, STORAGE_FAILED."""
        device = self.device
        known = await self._directory.declare(device.id, metrics)
        named = {metric.name for metric in metrics}
        conflicts = {n: e for n, e in device.metrics.items() if isinstance(e, WireError) and n not in named}
        device.metrics = {**known, **conflicts}
        if tags is not None or not self.declared:
            device.tags = {**device.tags, **(tags or {})}
            device.agent = self.agent
            self._directory.describe(device.id, tags=device.tags, agent=self.agent)
        self.declared = True

    @property
    def is_connected(self) -> bool:
        """Whether the device is there, through this feed."""
        return self.device.conversation is self

    @property
    def is_taken(self) -> bool:
        """Whether the device's own agent, or another source, speaks for it just now."""
        return self.device.conversation is not None and self.device.conversation is not self

    def connect(self) -> None:
        """The device is there. Raises WireError(BUSY) when it has another conversation."""
        device = self.device
        if self.is_taken:
            raise WireError(Code.BUSY, f"{device.id} is connected already, through {device.agent or 'its agent'}")
        if device.epoch != self.epoch:
            device.begin_epoch(self.epoch)
        if device.conversation is None:
            device.conversation = self
            device.since_ns = self._intake.clock()
            device.clock_offset_ns = device.clock_error_ns = None
            self._directory.record(device.id, "connected", self.agent)
            self._intake.on_device(device)

    def disconnect(self, why: str) -> None:
        """The device is gone, as far as its source knows."""
        device = self.device
        if device.conversation is self:
            device.conversation = None
            device.since_ns = self._intake.clock()
            self._directory.record(device.id, "disconnected", why)
            self._intake.on_device(device)

    def submit(self, data: messages.Data) -> int:
        """Hands over a batch, whose `seq` is not looked at; returns how many readings were accepted.

        It is on its way to the journal when this returns; `Intake.when_durable` tells when it is there. Raises
        WireError for one that cannot be accepted; nothing is submitted then.
        """
        self.connect()
        device = self.device
        data = messages.Data(device.received + 1, data.time, data.values, data.historical)
        frame = AGENT_MESSAGES["msgpack"].encode(data)
        if len(frame) > limits.MAX_BATCH_BYTES:
            raise WireError(Code.TOO_LARGE, f"the batch has {len(frame)} bytes; {limits.MAX_BATCH_BYTES} are allowed")
        try:
            accepted = accept(data, device.metrics)
        except WireError:
            raise
        except Exception:
            # A mistake of ours about one batch must cost that batch, and not everything that is fetched with it.
            log.exception("a batch could not be judged", device=device.id, seq=data.seq)
            raise WireError(Code.BAD_MESSAGE, "the hub cannot judge it; its log says why") from None
        if accepted.moved:
            frame = AGENT_MESSAGES["msgpack"].encode(accepted.data)
        self._submit(accepted, frame)
        return accepted.batch.readings

    def quarantine(self, payload: bytes, reason: tuple[str, str]) -> None:
        """Puts a message that cannot be accepted, as JSON, into quarantine with its reason (code, sentence).

        Not for a device that is taken: its numbers are its agent's.
        """
        device = self.device
        if device.epoch != self.epoch:
            device.begin_epoch(self.epoch)
        device.received = seq = device.received + 1
        device.next_seq = seq + 1
        device.quarantined += 1
        device.seen_ns = now = self._intake.clock()
        reason = (reason[0], reason[1][: limits.MAX_MESSAGE])
        entry = Entry(EntryKind.QUARANTINE, device.id, self.epoch, seq, now, "json", payload, reason=reason)
        self._intake.submit(device, entry)

    def _submit(self, accepted: Accepted, frame: bytes) -> None:
        device = self.device
        batch = accepted.batch
        seq = accepted.data.seq
        device.received = seq
        device.next_seq = seq + 1
        device.batches += 1
        device.readings += batch.readings
        device.moved += accepted.moved
        device.seen_ns = now = self._intake.clock()
        self._intake.submit(
            device, Entry(EntryKind.BATCH, device.id, self.epoch, seq, now, "msgpack", frame, batch=batch)
        )

    def send(self, message: messages.HubMessage) -> None:
        """Nobody is there to be told."""

    def acknowledge(self, seq: int) -> None:
        """The source learns it from the intake, for all its devices at once."""

    def probe_clock(self) -> None:
        """There is no clock to be measured: a message has the time that its publisher gave it."""

    def end(self, error: WireError) -> None:
        """Another conversation of the device takes over, or nothing of the last commit is stored. The source learns
        the latter from the intake, and submits it again."""
