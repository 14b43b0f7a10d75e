"""Session of one connected agent: the hub's end of the device protocol.

It uses no sockets: frames arrive through `receive`, messages leave through the AgentOutlet, whose `end` makes the
connection close with an error.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import partial
from typing import Protocol

from hub.ingest.device import CommandInbox, Device, Devices, validate_batch, validate_values
from hub.ingest.partial_batch import LooseBatch, count_readings, loose, read_loosely
from hub.ingest.source_report import reported_event, states_by_hub_clock, transitions
from hub.ingest.validate import ValidBatch, metrics_to_widen
from hub.model.batch import REPAIRED, SOURCE_REFUSED, Entry, EntryKind, Series
from hub.model.journal import JournalError, QuarantineDecision
from wire import device as messages
from wire import limits
from wire.codec import AGENT_MESSAGES, HUB_MESSAGES, Format
from wire.command import CommandDeclaration, CommandParameter
from wire.device_session import HubDeviceSession
from wire.errors import Code, WireError
from wire.model import Metric
from wire.text import batches

CLOCK_SAMPLES_KEPT_NS = 600 * 1_000_000_000
"""The best clock exchange counts for ten minutes; a quartz clock drifts by about 10 ms in that time."""

RETRY_MS = 1000
"""Upper bound of an agent's first reconnect delay: 10,000 agents return at 10,000 a second at most."""

UNNAMED_AGENT = "unnamed agent"
"""Name of an agent that has none in its hello. A device without a name of an agent has had no agent, only guests."""

_DECODE = {format: codec.decode for format, codec in AGENT_MESSAGES.items()}
_ENCODE = {format: codec.encode for format, codec in HUB_MESSAGES.items()}
"""Methods that all sessions share: each access to `codec.decode` would make an object of 80 bytes."""

Step = Callable[[], Awaitable[None]]
"""Work that has to wait, for the registry or for room in the journal's queue."""


class AgentOutlet(Protocol):
    """Sending side of an agent's connection. No method waits."""

    def send(self, frame: bytes) -> None:
        """Send a frame after those that wait already."""

    def send_ack(self, frame: bytes) -> None:
        """Send an acknowledgement. One that still waits is replaced, since acknowledgements are cumulative."""

    def end(self, error: WireError) -> None:
        """Send the error and close with the code that belongs to it."""


class MetricDirectory(Protocol):
    """The hub's registry of devices, as far as a source of batches needs it."""

    async def declare(self, device: str, metrics: Sequence[Metric]) -> Mapping[str, Series | WireError]:
        """Return all metrics of the device, durable; a WireError for each whose type conflicts."""

    def record(self, device: str, kind: str, detail: str, time_ns: int | None = None) -> None:
        """Record an event of the device, of now or of a time of its own."""

    def describe(self, device: str, *, tags: Mapping[str, str], agent: str) -> None:
        """Record the device's tags and the name of its agent."""


class AgentDirectory(MetricDirectory, Protocol):
    """The registry, as far as an agent's session needs it: with the rights of the connection's credential."""

    async def allow(self, hello: messages.Hello) -> None:
        """Raise WireError when the connection's credential may not write as this device."""

    async def declare_commands(self, device: str, commands: Sequence[CommandDeclaration], *, replace: bool) -> None:
        """Record commands that the device executes, durable. `replace`: these are all of them."""

    async def declare_settings(self, device: str, settings: Sequence[CommandParameter], *, replace: bool) -> None:
        """Record settings that the device has, durable. `replace`: these are all of them."""


MAX_REPORTS = 2 * limits.MAX_COMMANDS_SENT
"""States of commands that a session records at the same time: two for each command that may be on its way. At this
bound it reads no more until one of them is durable."""


class AgentSession:
    """Session of one connection of one agent."""

    __slots__ = (
        "_best_clock",
        "_clock",
        "_decode",
        "_devices",
        "_directory",
        "_encode",
        "_format",
        "_has_commands",
        "_has_partial",
        "_has_status",
        "_hub",
        "_is_closed",
        "_is_guest",
        "_journal",
        "_known_up_to",
        "_lost_up_to",
        "_outlet",
        "_reports",
        "_session",
        "device",
        "epoch",
    )

    def __init__(
        self,
        devices: Devices,
        directory: AgentDirectory,
        outlet: AgentOutlet,
        *,
        format: Format,
        hub: str,
        window: int,
        has_status: bool = False,
        has_partial: bool = False,
        has_commands: bool = False,
    ) -> None:
        """`has_status`, `has_partial` and `has_commands` say what the protocol of the connection has: the message
        status, the fields of a partial reject, and commands with settings."""
        self._devices = devices
        self._journal = devices.journal
        self._directory = directory
        self._outlet = outlet
        self._format: Format = format
        self._hub = hub
        self._session = HubDeviceSession(window=window)
        self._decode = _DECODE[format]
        self._encode = _ENCODE[format]
        self._clock = devices.clock
        self._best_clock: tuple[int, int] | None = None
        self._has_status = has_status
        self._has_partial = has_partial
        self._has_commands = has_commands
        self._is_guest = False
        self._reports: set[asyncio.Task[None]] | None = None
        # The agent had acknowledgements up to here, which the hub has lost.
        self._lost_up_to = 0
        # The store may have batches up to here: the journal has lost entries, and these are from before.
        self._known_up_to = 0
        self._is_closed = False
        self.device: Device | None = None
        self.epoch = ""

    def receive(self, frame: bytes) -> Step | None:
        """Process one frame; return the work to await before the next frame, None for most batches.

        Raises WireError, as the step does, when the connection has to end.
        """
        try:
            message = self._decode(frame)
        except WireError as error:
            if error.seq is None or self.device is None:
                self._devices.bad_messages += 1
                raise
            return self._receive_unreadable(self.device, error.seq, frame, error)
        if type(message) is messages.Data:
            return self._receive_data(message, frame)
        if isinstance(message, messages.Refused):
            self._receive_refused(message, frame)
            return None
        if isinstance(message, messages.DeviceEvent):
            self._receive_event(message, frame)
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
            case messages.Status() if self.device is not None:
                self._receive_status(self.device, message)
            case messages.CommandState() if self.device is not None:
                return self._receive_command_state(self.device, message)
            case messages.Reported() if self.device is not None:
                return partial(self._receive_reported, self.device, message)
        return None

    def send(self, message: messages.HubMessage) -> None:
        """Send a message to the agent."""
        self._outlet.send(self._encode(message))

    def reject(self, reject: messages.Reject) -> None:
        """Report values that are durable in quarantine. An older agent gets the reason only."""
        self.send(reject if self._has_partial else messages.Reject(reject.seq, reject.code, reject.message))

    def acknowledge(self, seq: int) -> None:
        """Acknowledge everything up to `seq`: it is durable."""
        ack = self._session.commit(seq)
        if ack is not None:
            self._outlet.send_ack(self._encode(ack))

    @property
    def repeats(self) -> bool:
        """Return True: an agent keeps the ids of commands, and executes none twice."""
        return True

    def probe_clock(self) -> None:
        """Measure the device's clock once."""
        self.send(messages.TimeProbe(self._clock()))

    def end(self, error: WireError) -> None:
        """End the session. The device's next connection starts from what is durable."""
        self._is_closed = True
        self._session.close()
        self._outlet.end(error)

    def close(self, reason: str, *, has_left: bool = False) -> None:
        """Record that the connection is closed. `has_left`: the agent will not return by itself."""
        self._is_closed = True
        self._session.close()
        for report in self._reports or ():
            report.cancel()
        device = self.device
        if device is not None and self._devices.commands is not None:
            self._devices.commands.disconnected(device.id, self)
        if device is not None and self._devices.desired is not None:
            self._devices.desired.disconnected(device.id, self)
        if device is not None and device.session is self:
            device.session = None
            device.has_left = has_left
            device.since_ns = self._clock()
            self._directory.record(device.id, "disconnected", reason)
            self._devices.changed(device)

    def _receive_data(self, data: messages.Data, frame: bytes) -> Step | None:
        device = self.device
        seq = data.seq
        if not self._session.receive_batches(seq, seq) or device is None:
            if device is not None:
                self._acknowledge_duplicate(device)
            return None
        if self._known_up_to:
            self._pass_known(device, seq)
        try:
            valid = validate_batch(data, device.metrics, device.id)
        except WireError as error:
            return self._receive_invalid(device, frame, error, loose(data))
        self._accept(device, seq, frame, valid)
        return None

    def _accept(self, device: Device, seq: int, frame: bytes, valid: ValidBatch) -> None:
        batch = valid.batch
        device.received = seq
        device.count_batch(batch, valid.moved)
        if valid.moved:
            frame = AGENT_MESSAGES[self._format].encode(valid.data)
        device.seen_ns = now = self._clock()
        entry = Entry(EntryKind.BATCH, device.id, self.epoch, seq, now, self._format, frame, batch=batch)
        if seq <= self._known_up_to:
            device.repaired += seq <= self._lost_up_to
            entry.reason = REPAIRED
        self._journal.submit(device, entry)

    def _pass_known(self, device: Device, seq: int) -> None:
        """Validate times again from the first batch on that the store cannot have."""
        if self._known_up_to and seq > self._known_up_to:
            self._known_up_to = 0
            self._devices.restore_times(device)

    def _acknowledge_duplicate(self, device: Device) -> None:
        """Count a batch that is durable already, or submitted, and acknowledge what is durable."""
        device.duplicates += 1
        if self._session.acked:
            self._outlet.send_ack(self._encode(messages.Ack(self._session.acked)))

    def _receive_unreadable(self, device: Device, seq: int, frame: bytes, error: WireError) -> Step | None:
        """Receive a batch that the codec rejects, for example because of one value that is an object."""
        if not self._session.receive_batches(seq, seq):
            self._acknowledge_duplicate(device)
            return None
        self._pass_known(device, seq)
        batch = read_loosely(frame, self._format)
        # Only the hub makes parts: the field is unknown in a batch.
        return self._receive_invalid(device, frame, error, batch if batch is not None and batch.rows is None else None)

    def _receive_invalid(self, device: Device, frame: bytes, error: WireError, batch: LooseBatch | None) -> Step | None:
        """Accept the valid values of a batch, after the metrics are widened to which it brings floats."""
        wider = metrics_to_widen(batch.values, device.metrics) if batch is not None else []
        if wider:
            return partial(self._widen_and_receive, device, wider, frame, error, batch)
        self._separate(device, frame, error, batch)
        return None

    async def _widen_and_receive(
        self, device: Device, wider: Sequence[Metric], frame: bytes, error: WireError, batch: LooseBatch | None
    ) -> None:
        """Widen integer metrics to which a batch brings floats, durably, and then receive the batch."""
        device.set_metrics(await self._directory.declare(device.id, wider), set())
        if self._is_closed or device.session is not self:
            return  # the agent sends it again
        self._separate(device, frame, error, batch)

    def _separate(self, device: Device, frame: bytes, error: WireError, batch: LooseBatch | None) -> None:
        """Accept the valid values of a batch. The others go to quarantine in the same commit, or all of it does."""
        assert error.seq is not None
        seq = error.seq
        try:
            valid, parts = validate_values(batch, self._format, device.metrics, device.id, error)
        except WireError as whole:
            self._quarantine(device, seq, frame, (whole.code.value, whole.message), count_readings(batch), ())
            return
        for part in parts:
            reason = (part.code.value, part.message)
            self._quarantine(device, seq, part.payload, reason, part.readings, part.columns)
        self._accept(device, seq, AGENT_MESSAGES[self._format].encode(valid.data), valid)

    def _quarantine(
        self,
        device: Device,
        seq: int,
        payload: bytes,
        reason: tuple[str, str],
        readings: int,
        columns: Sequence[messages.RefusedColumn] | None,
        decision: QuarantineDecision | None = None,
    ) -> None:
        """Put a batch, a part of one or a report into quarantine. `columns` are those of the entry."""
        device.received = seq
        device.seen_ns = now = self._clock()
        device.count_quarantined(readings)
        entry = Entry(EntryKind.QUARANTINE, device.id, self.epoch, seq, now, self._format, payload, reason=reason)
        entry.columns = columns
        self._journal.submit(device, entry, decision)

    def _receive_refused(self, refused: messages.Refused, frame: bytes) -> None:
        """Count what a source of the device refused, and keep the report in quarantine, in the same commit."""
        device = self.device
        if not self._session.receive_batches(refused.seq, refused.seq) or device is None:
            if device is not None:
                self._acknowledge_duplicate(device)
            return
        device.source_refused += refused.count
        reason = (SOURCE_REFUSED, refused.sentence(limits.MAX_MESSAGE))
        self._quarantine(device, refused.seq, frame, reason, 0, None, self._devices.report_to_replace(device))

    def _receive_event(self, event: messages.DeviceEvent, frame: bytes) -> None:
        """Submit an event of the device. It is recorded once it is durable: the agent sends it again if it is not.

        After a kill, the next start records what the journal has and the registry has not.
        """
        device = self.device
        if not self._session.receive_batches(event.seq, event.seq) or device is None:
            if device is not None:
                self._acknowledge_duplicate(device)
            return
        device.received = event.seq
        device.seen_ns = now = self._clock()
        device.events += 1
        self._journal.submit(device, Entry(EntryKind.EVENT, device.id, self.epoch, event.seq, now, self._format, frame))
        time_ns, kind, detail = reported_event(event)

        def record(error: JournalError | None) -> None:
            if error is None:
                self._record_within_budget(device, kind, detail, now, time_ns=time_ns)

        self._journal.when_durable(record)

    def _record_within_budget(
        self, device: Device, kind: str, detail: str, now_ns: int, *, time_ns: int | None = None
    ) -> None:
        """Record an event that the agent causes, unless it causes too many."""
        counted = device.within_budget(detail, now_ns)
        if counted is not None:
            self._directory.record(device.id, kind, counted, time_ns)

    async def _receive_hello(self, hello: messages.Hello) -> None:
        await self._directory.allow(hello)
        self._devices.check_open()
        metrics = await self._directory.declare(hello.device, hello.metrics)
        if not hello.guest:
            await self._directory.declare_commands(hello.device, hello.commands, replace=True)
            await self._directory.declare_settings(hello.device, hello.settings, replace=True)
        device = self._devices.device(hello.device)
        older = device.session
        if not hello.guest:
            self._directory.describe(hello.device, tags=hello.tags, agent=hello.agent or UNNAMED_AGENT)
        elif older is not None:
            raise WireError(Code.BUSY, f"{hello.device} is connected itself; stop its agent while the import runs")
        if self._is_closed:
            raise WireError(Code.BUSY, "the connection ended before the hello was answered")
        # Checked before anything of the device changes: a spool that is refused must not disturb one that is not.
        self._session.welcome(acked=device.acked_in(hello.epoch), received=device.received_in(hello.epoch))
        device.begin_epoch(hello.epoch)
        if older is not None:
            older.end(WireError(Code.SUPERSEDED, "another connection of this device took over"))
            self._directory.record(device.id, "superseded", "a newer connection took over")
        self._attach(device, hello, metrics)
        self.send(
            messages.Welcome(
                hub=self._hub,
                acked=device.acked,
                window=self._session.window,
                max_batch_bytes=limits.MAX_BATCH_BYTES,
                time=device.since_ns,
                retry_ms=RETRY_MS,
            )
        )
        self.probe_clock()
        self._directory.record(device.id, "connected", hello.agent)
        self._devices.changed(device)
        if self._has_commands and not hello.guest and self._devices.commands is not None:
            self._devices.commands.connected(device.id, self)
        if hello.settings:
            self._settings_declared(device)

    def _attach(self, device: Device, hello: messages.Hello, metrics: Mapping[str, Series | WireError]) -> None:
        """Make this the device's session."""
        device.session = self
        device.metrics = metrics
        self._is_guest = hello.guest
        if not hello.guest:
            device.tags = hello.tags
            device.agent = hello.agent or UNNAMED_AGENT
            if not self._has_status:
                device.sources = ()  # those that a newer agent reported before
        device.next_seq = hello.next_seq
        self._known_up_to = hello.next_seq - 1 if self._devices.has_lost else 0
        device.since_ns = self._clock()
        device.clock_offset_ns = device.clock_error_ns = None
        self.device = device
        self.epoch = hello.epoch
        if self._known_up_to:
            device.forget_times()

    async def _receive_declare(self, device: Device, declare: messages.Declare) -> None:
        known = await self._directory.declare(device.id, declare.metrics)
        device.set_metrics(known, {metric.name for metric in declare.metrics})
        if self._known_up_to:
            device.forget_times()
        if declare.commands and not self._is_guest:
            await self._directory.declare_commands(device.id, declare.commands, replace=False)
        if declare.settings and not self._is_guest:
            await self._directory.declare_settings(device.id, declare.settings, replace=False)
            self._settings_declared(device)

    def _settings_declared(self, device: Device) -> None:
        """Let the device get its desired values, unless another connection has taken over meanwhile."""
        is_open = not self._is_closed and device.session is self
        if is_open and self._has_commands and not self._is_guest and self._devices.desired is not None:
            self._devices.desired.connected(device.id, self)

    async def _receive_reported(self, device: Device, report: messages.Reported) -> None:
        """Record the settings as they are in force. The device reports them again after each welcome."""
        if self._devices.desired is not None:
            await self._devices.desired.report(device.id, self, report)

    def _receive_command_state(self, device: Device, report: messages.CommandState) -> Step | None:
        """Begin to record a state of a command. The next message does not wait: a result often follows at once, and
        both become durable in one commit."""
        commands = self._devices.commands
        if commands is None or self._is_guest:
            return None
        if self._reports is None:
            self._reports = set()
        task = asyncio.create_task(self._record_command_state(commands, device, report))
        self._reports.add(task)
        task.add_done_callback(self._reports.discard)
        return self._report_recorded if len(self._reports) >= MAX_REPORTS else None

    async def _report_recorded(self) -> None:
        if self._reports:
            await asyncio.wait(self._reports, return_when=asyncio.FIRST_COMPLETED)

    async def _record_command_state(
        self, commands: CommandInbox, device: Device, report: messages.CommandState
    ) -> None:
        """Record what became of a command. The agent may discard this state when it is durable here."""
        try:
            is_known = await commands.report(device.id, report)
        except WireError as error:
            if not self._is_closed:
                self.end(error)
            return
        if not is_known:
            reason = "".join(f": {text}" for text in (report.code, report.message) if text)
            detail = f"{report.id} {report.state}{reason}: the hub does not have this command any more"
            self._record_within_budget(device, "command unknown", detail, self._clock())
        if not self._is_closed:
            self.send(messages.CommandRecorded(report.id, report.state))

    def _receive_gap(self, device: Device, gap: messages.Gap, frame: bytes) -> None:
        if not self._session.receive_batches(gap.from_seq, gap.to):
            self._acknowledge_duplicate(device)
            return
        first = max(gap.from_seq, device.received + 1)  # the part before it was received already
        if gap.to <= self._lost_up_to:
            # The hub had acknowledged them, so the store may have them: its accounting shows what is missing.
            device.received = gap.to
            detail = f"{batches(first, gap.to)}: the agent does not keep them any more; what the store lacks is lost"
            self._directory.record(device.id, "hub lost batches", detail)
        else:
            device.count_gap(gap.to)
            self._directory.record(device.id, "gap", f"{batches(first, gap.to)} lost: {gap.reason}")
        entry = Entry(EntryKind.GAP, device.id, self.epoch, gap.to, self._clock(), self._format, frame)
        self._journal.submit(device, entry)

    def _receive_time(self, device: Device, reply: messages.TimeReply) -> None:
        """Record a clock sample. The device read its clock within the round trip; the shortest round trip counts.

        Source: F. Cristian, "Probabilistic clock synchronization", Distributed Computing 3, 1989.
        """
        now = self._clock()
        error = max(0, now - reply.hub_time) // 2
        best = self._best_clock
        if best is None or error <= best[0] or now - best[1] > CLOCK_SAMPLES_KEPT_NS:
            self._best_clock = (error, now)
            device.clock_offset_ns = reply.device_time - (reply.hub_time + error)
            device.clock_error_ns = error
            self._devices.changed(device)

    def _receive_status(self, device: Device, status: messages.Status) -> None:
        """Record the backlog and the sources that the agent reports, and an event for each that failed or recovered."""
        device.next_seq = status.next_seq
        if status.acked > max(self._session.received, self._lost_up_to):
            self._lost_up_to = status.acked
            self._known_up_to = max(self._known_up_to, status.acked)
            device.forget_times()
            lost = batches(self._session.received + 1, status.acked)
            self._directory.record(device.id, "hub lost batches", f"{lost}: the agent sends again what it still has")
        self._devices.on_progress((device,))
        if self._is_guest:
            return
        now = self._clock()
        states = states_by_hub_clock(device.sources, status, now)
        if states == device.sources:
            return
        for kind, detail in transitions(device.sources, states):
            self._record_within_budget(device, kind, detail, now)
        device.sources = states
        self._devices.sources_changed(device)
