"""Sources of a device as its agent reports them: their states, the events to record, and what they refuse. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

import msgspec

from hub.model.batch import SOURCE_REFUSED, Entry, EntryKind
from wire import device as messages
from wire.codec import AGENT_MESSAGES
from wire.errors import WireError
from wire.timestamp import NS_PER_S

REPORTS_KEPT = 20
"""Reports of refusals that are in quarantine for each device: a source that is broken for a day sends 17,000. An older
one leaves the quarantine when a new one arrives; its counts stay."""

SAME_NS = 2 * NS_PER_S
"""Two reports of one failure differ by the time of their way. Within this, the first is kept."""

EVENT_BURST = 10
"""Events of sources that a device may cause at once: each of its sources may fail and recover in one night."""

EVENT_PERIOD_NS = 60 * NS_PER_S
"""After the burst, one event a minute is recorded. A loose plug fails every second, and the registry keeps the last 200
events of a device."""


def states_by_hub_clock(
    known: Sequence[messages.SourceState], status: messages.Status, now_ns: int
) -> tuple[messages.SourceState, ...]:
    """Return the reported states with the times at which they began by the hub's clock.

    The status has the device's time of its sending, so the age of a state is exact although the device's clock may be
    wrong by years. `known` are the states of the report before: a state that continues keeps its time.
    """
    before = {source.name: source for source in known}
    states = []
    for source in status.sources:
        since = min(max(0, now_ns - (status.time - source.since)), now_ns)
        old = before.get(source.name)
        if old is not None and old.ok == source.ok and abs(old.since - since) <= SAME_NS:
            since = old.since
        states.append(msgspec.structs.replace(source, since=since))
    return tuple(states)


def transitions(
    known: Iterable[messages.SourceState], states: Iterable[messages.SourceState]
) -> Iterator[tuple[str, str]]:
    """Yield an event (kind, detail) for each source that failed or recovered since the report before."""
    failed = {source.name: source for source in known if not source.ok}
    for source in states:
        if not source.ok and source.name not in failed:
            yield "source failed", f"{source.name}: {source.error}"
        elif source.ok and source.name in failed:
            seconds = max(0, source.since - failed[source.name].since) // NS_PER_S
            yield "source recovered", f"{source.name}: after {seconds:,} s"


def count_refused(entry: Entry) -> int:
    """Return the number of refused lines and values in a journal entry, 0 for one that is no report."""
    if entry.kind is not EntryKind.QUARANTINE or entry.reason is None or entry.reason[0] != SOURCE_REFUSED:
        return 0
    try:
        report = AGENT_MESSAGES[entry.format].decode(entry.payload)
    except WireError:
        return 0
    return report.count if isinstance(report, messages.Refused) else 0


class ReportedEvent(NamedTuple):
    """An event that an agent has reported, as the registry keeps it: at the time of the device."""

    time_ns: int
    kind: str
    detail: str


def reported_event(event: messages.DeviceEvent) -> ReportedEvent:
    """Return the event of a message."""
    return ReportedEvent(event.time, event.kind, ": ".join(filter(None, (event.source, event.detail))))


def event_of(entry: Entry) -> ReportedEvent | None:
    """Return the event in a journal entry, None for any other entry."""
    if entry.kind is not EntryKind.EVENT:
        return None
    try:
        message = AGENT_MESSAGES[entry.format].decode(entry.payload)
    except WireError:
        return None
    return reported_event(message) if isinstance(message, messages.DeviceEvent) else None


class EventBudget:
    """Limit of the events of one device: EVENT_BURST at once, then one in EVENT_PERIOD_NS."""

    __slots__ = ("_full_ns", "_refused")

    def __init__(self) -> None:
        self._full_ns = 0
        """Time at which the whole burst is available again."""
        self._refused = 0

    def spend(self, now_ns: int) -> int | None:
        """Return None if no event may be recorded now, else the number of events refused since the last one."""
        full_ns = max(self._full_ns, now_ns) + EVENT_PERIOD_NS
        if full_ns - now_ns > EVENT_BURST * EVENT_PERIOD_NS:
            self._refused += 1
            return None
        refused, self._refused = self._refused, 0
        self._full_ns = full_ns
        return refused
