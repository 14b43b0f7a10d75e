"""The bounded history of events: what happened to a device or to the hub itself."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

import apsw
import structlog

from hub.model.event import Event
from hub.registry.schema import INTACT
from wire.limits import MAX_INTEGER, MAX_MESSAGE

MAX_EVENTS_PER_DEVICE = 200
"""A device that reconnects all the time keeps its last 200 events and displaces no event of another device."""

MAX_COMMAND_EVENTS_PER_DEVICE = 400
"""Events of its commands, two for each command that is kept: they displace no other event, and no part of the timeline
of its connections."""

MAX_EVENTS = 500_000
"""Events of all devices, about 100 MB on disk. Beyond this the oldest are deleted."""

MAX_PENDING_EVENTS = 20_000
"""Events that wait to be written: as many as 10,000 devices cause that reconnect in the second between two writes. The
bound is reached only while the disk fails; then the oldest waiting events are dropped and counted."""

MAX_PAGE = 1_000
"""Maximum number of events in one answer."""

MAX_KIND = 64

COMMAND = "command"
"""Beginning of the kinds of events about commands."""

_IS_COMMAND = f"(kind GLOB '{COMMAND}*')"

log = structlog.get_logger(__name__)


class PendingEvents:
    """Bounded queue of events that are not written yet."""

    def __init__(self, max_events: int = MAX_PENDING_EVENTS) -> None:
        self._events: deque[Event] = deque(maxlen=max_events)
        self.dropped = 0

    def __len__(self) -> int:
        return len(self._events)

    def add(self, device: str | None, time_ns: int, kind: str, detail: str) -> None:
        """Append an event; text that is too long is cut. At the bound the oldest event is dropped and counted."""
        self.dropped += len(self._events) == self._events.maxlen
        self._events.append(Event(0, device, time_ns, kind[:MAX_KIND], detail[:MAX_MESSAGE]))

    def drain(self) -> list[Event]:
        """Remove and return all events."""
        events = list(self._events)
        self._events.clear()
        return events

    def restore(self, events: Sequence[Event]) -> None:
        """Put back events that could not be written, before those that arrived since, as far as there is room."""
        later = self.drain()
        self.dropped += max(0, len(events) + len(later) - (self._events.maxlen or 0))
        self._events.extend(events)
        self._events.extend(later)


def insert_events(
    connection: apsw.Connection,
    events: Sequence[Event],
    *,
    max_per_device: int = MAX_EVENTS_PER_DEVICE,
    max_commands_per_device: int = MAX_COMMAND_EVENTS_PER_DEVICE,
    max_in_all: int = MAX_EVENTS,
) -> None:
    """Write events (their ids are ignored) and delete those beyond the bounds, inside a transaction.

    The events of the hub itself count as those of one device.
    """
    connection.executemany(
        "INSERT INTO events (device, time_ns, kind, detail) VALUES (?, ?, ?, ?)", [event[1:] for event in events]
    )
    for device, is_command in {(event.device, event.kind.startswith(COMMAND)) for event in events}:
        bound = max_commands_per_device if is_command else max_per_device
        connection.execute(
            f"DELETE FROM events WHERE device IS ?1 AND {_IS_COMMAND} = ?3 AND id <= "
            f"(SELECT id FROM events WHERE device IS ?1 AND {_IS_COMMAND} = ?3 ORDER BY id DESC LIMIT 1 OFFSET ?2)",
            (device, bound, is_command),
        )
    # Counting half a million rows takes 2 ms and is needed only when the ids have reached the bound.
    newest = connection.execute("SELECT coalesce(max(id), 0) FROM events").get
    if newest > max_in_all:
        surplus = connection.execute("SELECT count(*) FROM events").get - max_in_all
        if surplus > 0:
            connection.execute("DELETE FROM events WHERE id IN (SELECT id FROM events ORDER BY id LIMIT ?)", (surplus,))


def select_events(
    connection: apsw.Connection,
    device: str | None = None,
    *,
    limit: int = 100,
    before: int | None = None,
    of_hub: bool = False,
) -> list[Event]:
    """Return events, the newest first, of one device, of the hub itself (`of_hub`), or of all devices and the hub.

    Returns at most `limit` and MAX_PAGE events. `before` is the id of an event: only older events are returned. Damaged
    ones are left out and logged.
    """
    condition = "id < ?2" if device is None and not of_hub else "device IS ?1 AND id < ?2"
    rows = connection.execute(
        f"SELECT {INTACT['events']}, id, device, time_ns, kind, detail FROM events WHERE {condition} "
        "ORDER BY id DESC LIMIT ?3",
        (device, MAX_INTEGER if before is None else before, max(0, min(limit, MAX_PAGE))),
    )
    events = []
    for is_intact, *row in rows:
        if is_intact:
            events.append(Event(*row))
        else:
            log.error("event is damaged and left out, the next start of the hub repairs the registry", id=row[0])
    return events
