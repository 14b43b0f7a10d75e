"""Presence of devices: whether each is connected, reconnecting, silent, offline or retired, and since when.

The state follows from the device's connection and from the staleness of its series (hub.live.cadence). It survives a
restart of the hub: a device that was connected has time to return, and the time that the hub was down does not count.
Pure: times are arguments, `now_ns` of a monotonic clock and `wall_ns` since 1970 UTC.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple, get_args

import msgspec

from hub.live.cadence import Cadences, SavedCadences
from hub.model.batch import Series
from hub.model.presence import NO_PRESENCE, DevicePresence
from wire.live import Presence
from wire.text import plural

GRACE_NS = 60_000_000_000
"""A device that disconnected has this long to return before it is offline: an agent waits at most 30 s between two
attempts, which take up to 10 s each. For as long after a start of the hub, no series becomes stale before its first
reading."""

FIRST_READING_NS = 7_200_000_000_000
"""A connected device of which no reading has ever arrived is silent after this time: some sensors report once an hour.
"""

LONGEST_GRACE_NS = 86_400_000_000_000
"""Grace after a start of the hub for a device that is connected by its messages (MQTT), and has no known interval: it
cannot return before its next message."""

NAMED = 3
"""Metrics that an event names."""

SILENT, READINGS_AGAIN, OFFLINE = "silent", "readings again", "offline"
"""Kinds of the events of a device that this module records."""


class DeviceLink(NamedTuple):
    """Facts about a device from which its presence follows.

    `by_agent`: it keeps a connection open, and is not connected by its messages alone. `has_agent`: an agent of it has
    ever connected. `has_sent`: a reading of it has ever arrived. `has_left`: the last connection ended in order, so
    nobody has to wait for its return.
    """

    connected: bool
    by_agent: bool = True
    has_agent: bool = True
    retired: bool = False
    has_sent: bool = False
    has_left: bool = False


class SavedDevice(msgspec.Struct, frozen=True, array_like=True):
    """State of a device to keep while the hub is down."""

    connected: bool
    by_agent: bool
    has_sent: bool
    was_silent: bool
    state: Presence
    since_ns: int
    link_ns: int


class SavedPresence(msgspec.Struct, frozen=True, array_like=True):
    """State of all devices and series to keep while the hub is down. `saved_ns` is since 1970 UTC.

    `stale_times` has the time of the newest reading of each stale series.
    """

    saved_ns: int
    devices: dict[str, SavedDevice]
    cadences: SavedCadences
    stale_times: dict[int, int] = {}


@dataclass(slots=True, eq=False)
class _Record:
    """State of a device. `link_ns` is when it connected or disconnected, since 1970 UTC. Until `due_ns` it has time to
    return, or to send a reading, until `first_ns` its first one. `was_silent`: it was silent before its connection
    ended. `queued_ns` is the earliest time for which it is in the queue."""

    link: DeviceLink
    link_ns: int
    state: Presence
    since_ns: int
    due_ns: int = 0
    first_ns: int = 0
    queued_ns: int = 0
    was_silent: bool = False
    stale: tuple[str, ...] = ()


class PresenceTracker:
    """Presence of every device. `on_change` gets the id of each device whose presence or stale metrics changed, and
    `record` its events: the device, the time since 1970 UTC, the kind and a sentence."""

    def __init__(
        self,
        cadences: Cadences,
        *,
        series: Mapping[int, Series],
        series_of: Callable[[str], Sequence[Series]],
        latest_time_ns: Callable[[Series], int],
        on_change: Callable[[str], None],
        record: Callable[[str, int, str, str], None],
    ) -> None:
        """`latest_time_ns` returns the time of the newest reading of a series."""
        self._cadences = cadences
        self._series = series
        self._series_of = series_of
        self._latest_time_ns = latest_time_ns
        self._on_change = on_change
        self._record_event = record
        self._records: dict[str, _Record] = {}
        self._due: list[tuple[int, str]] = []

    def presence(self, device: str) -> DevicePresence:
        """Return the presence of a device."""
        record = self._records.get(device)
        return NO_PRESENCE if record is None else _presence(record)

    def counts(self) -> dict[Presence, int]:
        """Return how many devices are in each state."""
        found: dict[Presence, int] = dict.fromkeys(get_args(Presence), 0)
        for record in self._records.values():
            found[record.state] += 1
        return found

    def follow(self, device: str, link: DeviceLink, *, now_ns: int, wall_ns: int) -> None:
        """Apply a change of a device: it connected, disconnected, was retired or is back."""
        record = self._records.get(device)
        if record is None:
            record = self._records[device] = _Record(link, wall_ns, "unconnected", 0)
            before = DeviceLink(connected=False, has_agent=False)
        else:
            before = record.link
        by_agent = link.by_agent if link.connected else before.by_agent
        record.link = link._replace(by_agent=by_agent, has_sent=link.has_sent or before.has_sent)
        if record.link == before and record.since_ns:
            return
        if link.connected != before.connected:
            record.link_ns = wall_ns
            if link.connected:
                record.due_ns = now_ns + self._time_to_send_ns(device, record)
                record.first_ns = 0 if self._has_sent(device, record) else now_ns + FIRST_READING_NS
                self._await(device, record)
            else:
                record.was_silent = record.state == "silent"
                # What arrives after a broken link says nothing about the interval.
                self._cadences.break_off(series.id for series in self._series_of(device))
                record.due_ns, record.first_ns = (0 if link.has_left else now_ns + GRACE_NS), 0
                self._await(device, record)
        self._update(device, record, now_ns=now_ns, wall_ns=wall_ns)

    def sweep(self, *, now_ns: int, wall_ns: int) -> None:
        """Apply what follows from the time alone. Call it once a second."""
        changed = {
            series.device: None for id in self._cadences.sweep(now_ns) if (series := self._series.get(id)) is not None
        }
        while self._due and self._due[0][0] <= now_ns:
            due_ns, device = heapq.heappop(self._due)
            due = self._records[device]
            if due_ns == due.queued_ns:
                due.queued_ns = 0
                self._await(device, due, after_ns=now_ns)
            changed[device] = None
        for device in changed:
            record = self._records.get(device)
            if record is not None:
                self._update(device, record, now_ns=now_ns, wall_ns=wall_ns)

    def save(self, *, now_ns: int, wall_ns: int) -> SavedPresence:
        """Return the state to keep while the hub is down."""
        devices = {
            id: SavedDevice(
                record.link.connected or record.state == "reconnecting",
                record.link.by_agent,
                record.link.has_sent,
                record.was_silent or record.state == "silent",
                record.state,
                record.since_ns,
                record.link_ns,
            )
            for id, record in self._records.items()
        }
        stale = (self._series[id] for id in self._cadences.stale() if id in self._series)
        times = {series.id: self._latest_time_ns(series) for series in stale}
        return SavedPresence(wall_ns, devices, self._cadences.save(now_ns), times)

    def restore(
        self,
        saved: SavedPresence | None,
        links: Iterable[tuple[str, DeviceLink, int]],
        *,
        now_ns: int,
        connected: Collection[str] = (),
    ) -> None:
        """Begin with the devices of the registry, none of which is connected yet, and what was saved before.

        `links` has the id of each device, its link and its last contact. Without a saved state, every device with an
        agent has time to return. `connected` are devices that were connected when the hub was killed. The state may be
        older than that: what has happened since is known from them and from the newest readings.
        """
        self._cadences.restore(None if saved is None else saved.cadences, now_ns, hold_ns=GRACE_NS)
        for number, time_ns in ({} if saved is None else saved.stale_times).items():
            series = self._series.get(number)
            if series is not None and self._latest_time_ns(series) > time_ns:
                self._cadences.refresh(number, now_ns)
        for id, link, seen_ns in links:
            known = None if saved is None else saved.devices.get(id)
            record = _Record(link, seen_ns, "unconnected", seen_ns)
            self._records[id] = record
            if known is not None:
                record.link = link._replace(by_agent=known.by_agent, has_sent=known.has_sent)
                record.state, record.since_ns, record.link_ns = known.state, known.since_ns, known.link_ns
                record.was_silent = known.was_silent
            record.stale = self._stale_metrics(id)
            if link.retired:
                record.state = "retired"
            elif not link.has_agent:
                record.state = "silent" if known is not None and known.state == "silent" else "unconnected"
            elif known is None or known.connected or id in connected:
                record.was_silent = record.was_silent and bool(record.stale)
                if known is None or known.state != "reconnecting":
                    record.link_ns = seen_ns if saved is None else max(saved.saved_ns, seen_ns)
                record.state, record.since_ns = "reconnecting", record.link_ns
                record.due_ns = now_ns + self._grace_ns(id, record.link)
                self._await(id, record)
            else:
                record.state = "offline"

    def _grace_ns(self, device: str, link: DeviceLink) -> int:
        """Return the time that a device has to return after a start of the hub."""
        if link.by_agent:
            return GRACE_NS
        limits = [self._cadences.limit_ns(series.id) or 0 for series in self._periodic(device)]
        return max(GRACE_NS, max(limits, default=LONGEST_GRACE_NS))

    def _await(self, device: str, record: _Record, *, after_ns: int = 0) -> None:
        """Look at the device again at the next of its times. If it is in the queue for an earlier one, it stays so."""
        due_ns = min((time_ns for time_ns in (record.due_ns, record.first_ns) if time_ns > after_ns), default=0)
        if due_ns and (due_ns < record.queued_ns or not record.queued_ns):
            record.queued_ns = due_ns
            heapq.heappush(self._due, (due_ns, device))

    def _update(self, device: str, record: _Record, *, now_ns: int, wall_ns: int) -> None:
        """Set the state that follows from link, series and time; report and record a change."""
        before = _presence(record)
        record.stale = self._stale_metrics(device)
        record.state = self._state(device, record, now_ns)
        if record.state != before.state or not record.since_ns:
            record.since_ns = record.link_ns if record.state in ("reconnecting", "offline") else wall_ns
        if record.state != before.state:
            self._record_change(device, record, before.state, wall_ns)
        if _presence(record) != before:
            self._on_change(device)

    def _state(self, device: str, record: _Record, now_ns: int) -> Presence:
        link = record.link
        if link.retired:
            return "retired"
        if link.connected or not link.has_agent:
            if self._is_silent(device, record, now_ns):
                return "silent"
            return "connected" if link.connected else "unconnected"
        return "reconnecting" if now_ns < record.due_ns else "offline"

    def _is_silent(self, device: str, record: _Record, now_ns: int) -> bool:
        """Return whether every periodic series of a device is stale, or no reading of it has ever arrived."""
        periodic = self._periodic(device)
        if periodic:
            return now_ns >= record.due_ns and all(self._cadences.is_stale(series.id) for series in periodic)
        return 0 < record.first_ns <= now_ns and not self._has_sent(device, record)

    def _time_to_send_ns(self, device: str, record: _Record) -> int:
        """Return after which time a device that connects is silent: its series may be stale because it was away.

        One that was silent before is still.
        """
        limits = [self._cadences.limit_ns(series.id) or 0 for series in self._periodic(device)]
        return 0 if record.was_silent else max(limits, default=0)

    def _has_sent(self, device: str, record: _Record) -> bool:
        known = self._series_of(device)
        return record.link.has_sent or any(self._cadences.has_arrived(series.id) for series in known)

    def _periodic(self, device: str) -> list[Series]:
        return [series for series in self._series_of(device) if self._cadences.is_periodic(series.id)]

    def _stale_metrics(self, device: str) -> tuple[str, ...]:
        return tuple(series.metric for series in self._series_of(device) if self._cadences.is_stale(series.id))

    def _record_change(self, device: str, record: _Record, before: Presence, wall_ns: int) -> None:
        """Record the changes that no other part of the hub records."""
        if record.state == "silent":
            more = len(record.stale) - NAMED
            names = ", ".join(record.stale[:NAMED]) + (f" and {plural(more, 'other metric')}" if more > 0 else "")
            detail = f"no reading of {names} for several usual intervals" if names else "no reading has ever arrived"
            self._record_event(device, wall_ns, SILENT, detail)
        elif record.state == "offline" and before == "reconnecting":
            self._record_event(device, wall_ns, OFFLINE, "it has not returned")
        elif before == "silent" and record.state in ("connected", "unconnected"):
            self._record_event(device, wall_ns, READINGS_AGAIN, "")


def _presence(record: _Record) -> DevicePresence:
    return DevicePresence(record.state, record.since_ns, record.stale)
