"""Source of batches inside the hub: for data that the hub itself receives, where no agent assigns the numbers."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence

from hub.ingest.agent_session import MetricDirectory
from hub.ingest.device import Device, Devices, validate_batch
from hub.ingest.partial_batch import RefusedPart, loose, separate
from hub.model.batch import Entry, EntryKind
from wire import device as messages
from wire import limits
from wire.codec import AGENT_MESSAGES, Format
from wire.errors import Code, WireError
from wire.model import DeviceId, Metric


def epoch_of(source: str) -> str:
    """Return the epoch of everything from this source. The hub assigns its numbers, so they continue for ever."""
    return hashlib.sha256(source.encode()).hexdigest()[:16]


class LocalSource:
    """Implements hub.ingest.device.DeviceSession for one device of a source, which `agent` names.

    The hub assigns the numbers. They are durable with the device's mark, so they continue after a restart. While the
    device is present (after `connect` or its first batch) this is its session. When the device's own agent is
    connected, batches of the source are rejected with BUSY.
    """

    __slots__ = ("_devices", "_directory", "_has_presence", "_last_declared", "agent", "declared", "device", "epoch")

    def __init__(
        self,
        devices: Devices,
        directory: MetricDirectory,
        id: DeviceId,
        *,
        epoch: str,
        agent: str,
        has_presence: bool = True,
    ) -> None:
        """Without `has_presence`, a batch does not mean that the device is connected: only `connect` does."""
        self._devices = devices
        self._directory = directory
        self._has_presence = has_presence
        self.device: Device = devices.device(id)
        self.epoch = epoch
        self.agent = agent
        self.declared = False
        """True after the first declaration since the hub started."""
        self._last_declared: dict[str, Metric] = {}

    async def declare(self, metrics: Sequence[Metric], tags: Mapping[str, str] | None = None) -> None:
        """Declare metrics; durable when this returns. Raises WireError: TOO_MANY, STORAGE_FULL, STORAGE_FAILED."""
        device = self.device
        known = await self._directory.declare(device.id, metrics)
        device.set_metrics(known, {metric.name for metric in metrics})
        if tags is not None or not self.declared:
            device.tags = {**device.tags, **(tags or {})}
            if self._has_presence or device.session is self:
                device.agent = self.agent
            self._directory.describe(device.id, tags=device.tags, agent=device.agent)
            if not self._has_presence and device.session is None:
                # It may be new, and nothing else reports a device that never connects.
                self._devices.changed(device)
        self.declared = True
        self._last_declared.update({metric.name: metric for metric in metrics})

    def has_declared(self, metric: Metric) -> bool:
        """Return whether this is the last declaration of the metric since the hub started.

        A person may have set another unit since; the same declaration again would change nothing.
        """
        return self._last_declared.get(metric.name) == metric

    @property
    def is_taken(self) -> bool:
        """Return whether the device's own agent, or another source, has a session of the device."""
        return self.device.session is not None and self.device.session is not self

    def check_free(self) -> None:
        """Raise WireError(BUSY) when the device has another session."""
        if self.is_taken:
            device = self.device
            raise WireError(Code.BUSY, f"{device.id} is connected already, through {device.agent or 'its agent'}")

    def connect(self) -> None:
        """Begin the device's session. Raises WireError(BUSY) when it has another one."""
        self.check_free()
        device = self.device
        device.begin_epoch(self.epoch)
        if device.session is None:
            if device.agent != self.agent:
                device.agent = self.agent
                self._directory.describe(device.id, tags=device.tags, agent=self.agent)
            device.session = self
            device.since_ns = self._devices.clock()
            device.clock_offset_ns = device.clock_error_ns = None
            self._directory.record(device.id, "connected", self.agent)
            self._devices.changed(device)

    def disconnect(self, reason: str, *, has_left: bool = False) -> None:
        """End the device's session: it has disconnected, as far as its source knows.

        `has_left`: its source says that it is off, and not only that the connection is down.
        """
        device = self.device
        if device.session is self:
            device.session = None
            device.has_left = has_left
            device.since_ns = self._devices.clock()
            self._directory.record(device.id, "disconnected", reason)
            self._devices.changed(device)

    def submit(self, data: messages.Data) -> int:
        """Submit a batch, whose `seq` is ignored; return how many readings were accepted.

        `EntryWriter.when_durable` reports when it is durable. Raises WireError for a batch that cannot be accepted;
        then nothing is submitted.
        """
        if self._has_presence:
            self.connect()
        else:
            self.check_free()
        device = self.device
        device.begin_epoch(self.epoch)
        data = messages.Data(device.received + 1, data.time, data.values, data.historical)
        frame = AGENT_MESSAGES["msgpack"].encode(data)
        if len(frame) > limits.MAX_BATCH_BYTES:
            raise WireError(Code.TOO_LARGE, f"the batch has {len(frame)} bytes; {limits.MAX_BATCH_BYTES} are allowed")
        valid = validate_batch(data, device.metrics, device.id)
        if valid.moved:
            frame = AGENT_MESSAGES["msgpack"].encode(valid.data)
        device.received = seq = data.seq
        device.next_seq = seq + 1
        device.count_batch(valid.batch, valid.moved)
        device.seen_ns = now = self._devices.clock()
        entry = Entry(EntryKind.BATCH, device.id, self.epoch, seq, now, "msgpack", frame, batch=valid.batch)
        self._devices.journal.submit(device, entry)
        return valid.batch.readings

    def submit_values(self, data: messages.Data, error: WireError) -> tuple[int, Sequence[RefusedPart]]:
        """Submit the valid values of a batch that is not valid, and put the others into quarantine.

        Return how many readings were accepted, and the refused parts. Raises WireError where the values are not what is
        wrong, usually `error`; then nothing is submitted.
        """
        separated = separate(loose(data), "msgpack", self.device.metrics)
        if separated is None:
            raise error
        accepted = 0 if separated.data is None else self.submit(separated.data)
        for part in separated.parts:
            self.quarantine(part.payload, (part.code.value, part.message), part.readings, format="msgpack")
        return accepted, separated.parts

    def quarantine(
        self, payload: bytes, reason: tuple[str, str], readings: int = 0, *, format: Format = "json"
    ) -> None:
        """Put a message that cannot be accepted into quarantine with its reason (code, sentence).

        `readings` is how many readings it contains, 0 if the number is unknown.

        Do not call it for a device that is taken: its agent assigns the numbers.
        """
        device = self.device
        device.begin_epoch(self.epoch)
        seq, now = device.received + 1, self._devices.clock()
        device.received = seq
        device.next_seq = seq + 1
        device.seen_ns = now
        device.count_quarantined(readings)
        reason = (reason[0], reason[1][: limits.MAX_MESSAGE])
        entry = Entry(EntryKind.QUARANTINE, device.id, self.epoch, seq, now, format, payload, reason=reason)
        self._devices.journal.submit(device, entry)

    def reject(self, reject: messages.Reject) -> None:
        """Do nothing: the source knows what it put in quarantine."""

    def acknowledge(self, seq: int) -> None:
        """Do nothing: the source learns from the journal when its batches are durable."""

    def probe_clock(self) -> None:
        """Do nothing: the publisher gives a message its time, so there is no clock to measure."""

    def end(self, error: WireError) -> None:
        """Do nothing: another session takes over, or the last commit failed and the source submits it again."""
