"""Devices: their state and counts, and what follows from each commit."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from typing import Protocol

import structlog

from hub.ingest.partial_batch import LooseBatch, RefusedPart, separate
from hub.ingest.source_report import REPORTS_KEPT, EventBudget
from hub.ingest.validate import ValidBatch, validate
from hub.model.batch import SOURCE_REFUSED, Batch, Entry, EntryKind, Mark, Series
from hub.model.command import Undelivered
from hub.model.journal import EntrySource, EntryWriter, JournalError, JournalFailed, JournalFull, QuarantineDecision
from hub.model.presence import NO_PRESENCE, DevicePresence
from wire import device as messages
from wire import limits
from wire import live as live_messages
from wire.codec import Format
from wire.errors import Code, WireError
from wire.model import DeviceId
from wire.text import plural

EPOCHS_KEPT = 8
"""Earlier epochs of a device whose highest seq is kept. An agent that returns with one of them (two agents alternate
under one id, a spool was restored) resumes where it was. Batches of an older epoch would be accepted again as new."""

FULL_RETRY_S = 1.0
"""While the disk is full, new data are refused for this long without asking the disk again."""

CLOCK_PROBE_PERIOD_S = 60.0
"""Every device's clock is measured once a minute, so a clock that was set by hand is noticed within a minute."""

CLOCK_PROBE_STEP_S = 0.05
"""Time between two steps of a period: of 10,000 devices, eight answer at a time, which takes half a millisecond."""

log = structlog.get_logger(__name__)


class DeviceSession(Protocol):
    """Session of a connected device, as the rest of the hub uses it. No method waits."""

    @property
    def epoch(self) -> str:
        """Return the epoch of the spool that the agent announced in its hello."""

    def reject(self, reject: messages.Reject) -> None:
        """Report values that are durable in quarantine."""

    def acknowledge(self, seq: int) -> None:
        """Acknowledge everything up to `seq`: it is durable."""

    def probe_clock(self) -> None:
        """Measure the device's clock once."""

    def end(self, error: WireError) -> None:
        """End the session. The device's next connection starts from what is durable."""


class CommandLink(Protocol):
    """Connection to a device that takes commands."""

    @property
    def repeats(self) -> bool:
        """Return whether a command may be sent again: the device recognises it by its id, and executes it once.

        A command for another device is sent once. If no answer comes, its outcome is not known.
        """

    def send(self, message: messages.Command) -> None:
        """Send a command. Does not wait."""


class CommandInbox(Protocol):
    """The commands of all devices, as the session of a device uses them."""

    def connected(self, device: str, link: CommandLink) -> None:
        """Send the device what waits for it through this connection from now on, and first what it has not answered.

        The latter only if the connection repeats commands.
        """

    def disconnected(self, device: str, link: CommandLink) -> None:
        """Send nothing through this connection any more."""

    async def report(self, device: str, report: messages.CommandState | Undelivered) -> bool:
        """Record a state that a device reports, or that it cannot report. Raises WireError.

        Return False if the hub has no such command of it.
        """


class DesiredLink(Protocol):
    """Connection to a device that declares settings."""

    def send(self, message: messages.Desired) -> None:
        """Send the desired values. Does not wait."""


class DesiredInbox(Protocol):
    """The desired values of all devices, as the session of a device uses them."""

    def connected(self, device: str, link: DesiredLink) -> None:
        """Send the device its desired values, now and at each change, through this connection from now on."""

    def disconnected(self, device: str, link: DesiredLink) -> None:
        """Send nothing through this connection any more."""

    async def report(self, device: str, link: DesiredLink, report: messages.Reported) -> None:
        """Record the settings that a device reports, unless another connection has taken over. Raises WireError."""


@dataclass(eq=False, slots=True)
class Device:
    """State and counts of one device. There is one object for each device id for the life of the hub.

    `received` is the highest seq of `epoch` that was accepted, durable or not; `earlier` has those of earlier epochs.
    `durable` is the mark on disk. The counts include what is not durable yet, and return to the durable ones when a
    commit fails. A device that is `retired` is in service again when it sends something. `sources` is what its agent
    reported last, by the hub's clock. `events` counts the events that its agent reported. `presence` is what follows
    from its connection and its readings. `has_left`: its last connection ended in order. `reports` are the offsets of
    its reports in quarantine, None before they are needed.
    """

    id: str
    durable: Mark
    metrics: Mapping[str, Series | WireError] = field(default_factory=dict)
    session: DeviceSession | None = None
    since_ns: int = 0
    seen_ns: int = 0
    retired: bool = False
    next_seq: int = 1
    tags: dict[str, str] = field(default_factory=dict)
    agent: str = ""
    clock_offset_ns: int | None = None
    clock_error_ns: int | None = None
    sources: tuple[messages.SourceState, ...] = ()
    source_events: EventBudget | None = None
    events: int = 0
    presence: DevicePresence = NO_PRESENCE
    has_left: bool = False
    epoch: str = field(init=False)
    received: int = field(init=False)
    earlier: tuple[tuple[str, int], ...] = field(init=False)
    batches: int = field(init=False)
    readings: int = field(init=False)
    duplicates: int = field(init=False)
    quarantined: int = field(init=False)
    lost: int = field(init=False)
    moved: int = field(init=False)
    damaged: int = field(init=False)
    repaired: int = field(init=False)
    quarantined_readings: int = field(init=False)
    source_refused: int = field(init=False)
    reports: list[int] | None = field(init=False)

    def __post_init__(self) -> None:
        self.roll_back()

    def roll_back(self) -> None:
        """Return to the durable mark."""
        mark = self.durable
        self.epoch, self.received, self.earlier = mark.epoch, mark.seq, mark.earlier
        self.batches, self.readings, self.moved = mark.batches, mark.readings, mark.moved
        self.duplicates, self.quarantined, self.lost = mark.duplicates, mark.quarantined, mark.lost
        self.damaged, self.repaired = mark.damaged, mark.repaired
        self.quarantined_readings, self.source_refused = mark.quarantined_readings, mark.source_refused
        self.reports = None

    def begin_epoch(self, epoch: str) -> None:
        """Continue with another spool: a new one, whose numbers start again, or an earlier one. The counts continue."""
        if epoch == self.epoch:
            return
        known = dict(((self.epoch, self.received), *self.earlier)) if self.epoch else {}
        self.epoch = epoch
        self.received = known.pop(epoch, 0)
        self.earlier = tuple(known.items())[:EPOCHS_KEPT]

    def count_batch(self, batch: Batch, moved: int) -> None:
        """Count an accepted batch, of which `moved` readings got another time."""
        self.batches += 1
        self.readings += batch.readings
        self.moved += moved

    def count_quarantined(self, readings: int) -> None:
        """Count a batch, or a part of one, with so many readings as quarantined."""
        self.quarantined += 1
        self.quarantined_readings += readings

    def count_gap(self, to: int) -> None:
        """Count the batches up to `to` as lost by the device."""
        self.lost += to - self.received
        self.received = to

    def set_metrics(self, known: Mapping[str, Series | WireError], names: set[str]) -> None:
        """Set the metrics after `names` were declared. Conflicts of others stay until they are declared again."""
        conflicts = {n: e for n, e in self.metrics.items() if isinstance(e, WireError) and n not in names}
        self.metrics = {**known, **conflicts}

    def replace_series(self, series: Series) -> None:
        """Use a series from now on whose type, names or unit have changed, under every name that it has."""
        names = (series.metric, *series.names)
        if any(name in self.metrics for name in names):
            self.metrics = {**self.metrics, **dict.fromkeys(names, series)}

    def forget_times(self) -> None:
        """Let batches that the store may have already keep their times, as when they came first."""
        for series in self.metrics.values():
            if isinstance(series, Series):
                series.last_time_ns = series.run_ns = -1

    def within_budget(self, detail: str, now_ns: int) -> str | None:
        """Return the detail of an event that the device causes, with the number of those before that were too many.

        None if this one is too many: it is not recorded.
        """
        self.source_events = self.source_events or EventBudget()
        refused = self.source_events.spend(now_ns)
        if refused is None:
            return None
        return f"{detail} ({plural(refused, 'event')} before it not recorded)" if refused else detail

    def mark(self) -> Mark:
        """Return the mark that becomes durable together with everything accepted so far."""
        return Mark(
            self.id, self.epoch, self.received, self.batches, self.readings, self.duplicates, self.quarantined,
            self.lost, self.moved, self.earlier, self.damaged, self.repaired, self.quarantined_readings,
            self.source_refused
        )  # fmt: skip

    @property
    def acked(self) -> int:
        """Return the highest durable seq of the current epoch."""
        return self.acked_in(self.epoch)

    def acked_in(self, epoch: str) -> int:
        """Return the highest durable seq of an epoch, 0 for an unknown one."""
        mark = self.durable
        return mark.seq if mark.epoch == epoch else dict(mark.earlier).get(epoch, 0)

    def received_in(self, epoch: str) -> int:
        """Return the highest accepted seq of an epoch, 0 for an unknown one."""
        return self.received if epoch == self.epoch else dict(self.earlier).get(epoch, 0)

    def state(self) -> live_messages.DeviceState:
        """Return the device's state as dashboards receive it."""
        return live_messages.DeviceState(
            device=self.id,
            connected=self.session is not None,
            since=self.since_ns,
            seen=self.seen_ns,
            epoch=self.epoch or None,
            acked=self.acked,
            backlog=self.backlog,
            agent=self.agent,
            tags=self.tags,
            clock_offset_ns=self.clock_offset_ns,
            clock_error_ns=self.clock_error_ns,
            retired=self.retired,
            sources=list(self.sources),
            source_refused=self.durable.source_refused,
            events=self.events,
            presence=self.presence.state,
            presence_since=self.presence.since_ns,
            stale=list(self.presence.stale),
        )

    @property
    def backlog(self) -> int:
        """Return how many batches the agent holds that are not acknowledged, as far as the agent reported."""
        return max(0, max(self.next_seq - 1, self.received) - self.acked)


def validate_batch(data: messages.Data, metrics: Mapping[str, Series | WireError], device: str) -> ValidBatch:
    """Validate a batch of a device. Raises WireError.

    A defect of the hub that one batch triggers costs that batch only, and not the device's stream.
    """
    try:
        return validate(data, metrics)
    except WireError:
        raise
    except Exception:  # a defect, see above
        log.exception("batch could not be validated", device=device, seq=data.seq)
        message = "the hub could not validate the batch; its log contains the reason"
        raise WireError(Code.BAD_MESSAGE, message, seq=data.seq) from None


def validate_values(
    batch: LooseBatch | None,
    format: Format,
    metrics: Mapping[str, Series | WireError],
    device: str,
    error: WireError,
) -> tuple[ValidBatch, list[RefusedPart]]:
    """Validate the values of an invalid batch one by one; return the batch of the valid ones, and the others.

    Raises WireError for a batch that is refused as a whole: `error`, or the reason of its first value.
    """
    try:
        separated = None if batch is None else separate(batch, format, metrics)
    except Exception:  # a defect costs this batch only, as in validate_batch
        log.exception("batch could not be separated", device=device, seq=error.seq)
        separated = None
    if separated is None:
        raise error
    if separated.data is None:
        code, message, *_ = separated.parts[0]
        raise WireError(code, message, seq=error.seq)
    return validate_batch(separated.data, metrics, device), separated.parts


class Devices:
    """All devices by id, and the journal's listener: it acknowledges, rejects and rolls back.

    `bad_messages` counts frames that were not valid messages. `refusal` is why no data are accepted now, None when they
    are. `has_lost`: the journal has lost entries that the store may have.
    """

    def __init__(
        self,
        journal: EntryWriter,
        *,
        clock: Callable[[], int],
        on_committed: Callable[[Sequence[Entry]], None],
        latest_time_ns: Callable[[Series], int],
        on_progress: Callable[[Iterable[Device]], None] = lambda devices: None,
    ) -> None:
        """Start with the journal's durable marks, and listen to its commits.

        `on_committed` gets all durable entries in order. `latest_time_ns` returns the newest stored time of a series.
        `on_progress` gets the devices whose acknowledged number or backlog changed, once a commit.
        """
        self.journal = journal
        self.clock = clock
        self.bad_messages = 0
        self.refusal: WireError | None = None
        self.has_lost = False
        self.commands: CommandInbox | None = None
        """The commands of all devices; None if no device gets any."""
        self.desired: DesiredInbox | None = None
        """The desired values of all devices; None if no device gets any."""
        self._devices = {id: Device(id, mark) for id, mark in journal.marks().items()}
        self._on_committed = on_committed
        self._latest_time_ns = latest_time_ns
        self.on_progress = on_progress
        self._refused_at_s = 0.0
        self._watchers: list[Callable[[Device], None]] = []
        self._source_watchers: list[Callable[[Device], None]] = []
        journal.listen(self)

    def __len__(self) -> int:
        return len(self._devices)

    def __iter__(self) -> Iterator[Device]:
        return iter(self._devices.values())

    def get(self, id: DeviceId) -> Device | None:
        """Return the device, or None when the hub does not know it."""
        return self._devices.get(id)

    def device(self, id: DeviceId) -> Device:
        """Return the device; create it when the hub does not know it."""
        device = self._devices.get(id)
        if device is None:
            device = self._devices[id] = Device(id, Mark(id, "", 0))
        return device

    def restore(self, id: DeviceId, *, tags: Mapping[str, str], agent: str, retired: bool, seen_ns: int) -> None:
        """Set what the registry knows of a device from earlier runs."""
        device = self.device(id)
        device.tags = dict(tags)
        device.agent = agent
        device.retired = retired
        device.seen_ns = device.since_ns = seen_ns

    def replace_series(self, series: Series) -> None:
        """Use a changed series for the batches of its device from now on."""
        device = self._devices.get(series.device)
        if device is not None:
            device.replace_series(series)

    def restore_times(self, device: Device) -> None:
        """Validate the times of later batches with the newest stored ones again."""
        for series in device.metrics.values():
            if isinstance(series, Series):
                series.reach(self._latest_time_ns(series))

    def in_service(self) -> list[live_messages.DeviceState]:
        """Return the state of every device that is not retired."""
        return [device.state() for device in self if not device.retired]

    def watch(self, watcher: Callable[[Device], None]) -> None:
        """Call `watcher` with each device whose connection, description or service changed."""
        self._watchers.append(watcher)

    def changed(self, device: Device) -> None:
        """Report a changed device to the watchers."""
        for watcher in self._watchers:
            watcher(device)

    def watch_sources(self, watcher: Callable[[Device], None]) -> None:
        """Call `watcher` with each device whose sources changed."""
        self._source_watchers.append(watcher)

    def sources_changed(self, device: Device) -> None:
        """Report a device whose sources changed to the watchers."""
        for watcher in self._source_watchers:
            watcher(device)

    def check_open(self) -> None:
        """Raise the WireError with the reason why no data are accepted now."""
        if self.refusal is None:
            return
        waited_s = asyncio.get_running_loop().time() - self._refused_at_s
        # From time to time one attempt has to find out whether there is room again. The refusal ends with a commit.
        if self.refusal.code is not Code.STORAGE_FULL or waited_s < FULL_RETRY_S:
            raise self.refusal

    def committed(
        self, entries: Sequence[Entry], submitted: Sequence[Entry], marks: Mapping[EntrySource, Mark]
    ) -> None:
        """Report durable entries to live and accounting, reject what went to quarantine, and acknowledge the rest."""
        self._on_committed(entries)
        if not marks:
            return
        self.refusal = None
        quarantined = [entry for entry in submitted if entry.kind is EntryKind.QUARANTINE]
        reported = [self._devices[entry.device] for entry in quarantined if self._is_report(entry)]
        reported += [self._devices[entry.device] for entry in submitted if entry.kind is EntryKind.EVENT]
        for _, parts in groupby(quarantined, _batch_of):
            self._reject(list(parts))
        # By the id in the mark: every source is one of these devices, and another one must not pass unnoticed.
        acknowledged = [self._devices[mark.device] for mark in marks.values()]
        for device, mark in zip(acknowledged, marks.values(), strict=True):
            self._acknowledge(device, mark)
        for device in reported:
            self.sources_changed(device)
        self.on_progress(acknowledged)

    def report_to_replace(self, device: Device) -> QuarantineDecision | None:
        """Return the decision about the oldest report of a device that has as many in quarantine as are kept."""
        if device.reports is None:
            device.reports = [
                entry.offset
                for entry in self.journal.quarantine.index.values()
                if entry.device == device.id and entry.code == SOURCE_REFUSED
            ]
        return QuarantineDecision(device.reports.pop(0)) if len(device.reports) >= REPORTS_KEPT else None

    def _is_report(self, entry: Entry) -> bool:
        """Return whether a durable entry is a report of what a source refused, and remember it."""
        if entry.reason is None or entry.reason[0] != SOURCE_REFUSED:
            return False
        reports = self._devices[entry.device].reports
        if reports is not None:
            reports.append(entry.offset)
        return True

    def commit_failed(self, sources: set[EntrySource], error: JournalError) -> None:
        """Roll the devices back and end their sessions: the agents still have everything that is not durable.

        Only a disk that is full or failed also concerns what comes later.
        """
        code = Code.STORAGE_FULL if isinstance(error, JournalFull) else Code.STORAGE_FAILED
        refusal = WireError(code, str(error)[: limits.MAX_MESSAGE])
        if isinstance(error, JournalFull | JournalFailed):
            self.refusal = refusal
            self._refused_at_s = asyncio.get_running_loop().time()
        log.error("journal refused a commit", error=str(error), code=code.value)
        for source in sources:
            device = self._devices[source.mark().device]
            device.roll_back()
            for series in device.metrics.values():
                if isinstance(series, Series):
                    series.last_time_ns = series.run_ns = self._latest_time_ns(series)
            if device.session is not None:
                device.session.end(refusal)
            self.on_progress((device,))

    async def probe_clocks(self) -> None:
        """Measure the clocks of all connected devices, spread evenly over each period, until cancelled."""
        while True:
            connected = [device for device in self if device.session is not None]
            steps = int(CLOCK_PROBE_PERIOD_S / CLOCK_PROBE_STEP_S)
            for step in range(steps):
                for device in connected[step::steps]:
                    if device.session is not None:
                        device.session.probe_clock()
                await asyncio.sleep(CLOCK_PROBE_STEP_S)

    def _acknowledge(self, device: Device, mark: Mark) -> None:
        device.durable = mark
        session = device.session
        if session is not None and session.epoch == mark.epoch:
            session.acknowledge(mark.seq)
        if device.retired:
            device.retired = False
            self.changed(device)

    def _reject(self, parts: Sequence[Entry]) -> None:
        """Reject a batch, or the parts of it that are in quarantine; a retry or a report is not answered."""
        entry = parts[0]
        session = self._devices[entry.device].session
        if session is None or session.epoch != entry.epoch or entry.reason is None or entry.columns is None:
            return
        code, message = entry.reason
        columns = [column for part in parts for column in part.columns or ()]
        session.reject(
            messages.Reject(
                entry.seq,
                Code(code),
                message,
                partial=bool(columns),
                readings=sum(column.readings for column in columns),
                columns=columns[: limits.MAX_REFUSED_COLUMNS],
            )
        )


def _batch_of(entry: Entry) -> tuple[str, str, int]:
    return entry.device, entry.epoch, entry.seq
