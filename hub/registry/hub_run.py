"""The run of a hub: recorded at its start, renewed while it runs, and removed at its stop.

A run that is still recorded at the next start ended without a stop: the hub was killed, or the power failed.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

import apsw

from hub.model.event import Event
from hub.model.journal import JournalPosition
from hub.registry.database import open_database, transaction
from hub.registry.event import insert_events
from wire.text import plural
from wire.timestamp import NS_PER_S

RENEWAL_NS = 60 * NS_PER_S
"""The run is renewed once a minute, which costs one fsync. After a kill, the end of an idle hub is known to the minute,
and that of a hub that stored batches or events to the last of them."""

ENDED_KIND = "hub ended without a stop"

RESTORED_KIND = "hub restored"

_STARTED, _ALIVE = "run_started_ns", "run_alive_ns"

_JOURNAL, _OFFSET = "journal_id", "journal_offset"
"""The journal that the hub wrote last, and the newest of its offsets that was recorded."""

_EVENTS_JOURNAL, _EVENTS_OFFSET = "events_journal_id", "events_journal_offset"
"""The journal, and the offset up to which the events of its devices are stored."""

_CONNECTED = (
    "SELECT device FROM (SELECT device, kind, max(id), time_ns FROM events "
    "WHERE device IS NOT NULL AND kind IN ('connected', 'disconnected') GROUP BY device) "
    "WHERE kind = 'connected' AND time_ns >= ?"
)
"""Devices whose newest event of their connection is a connect of the run that began at this time. The other columns are
those of the row with the highest id (SQLite's rule for max)."""


class UncleanEnd(NamedTuple):
    """End of the previous run: the time of its last sign of life, and the devices that were connected then."""

    time_ns: int
    devices: Sequence[str]


def begin(connection: apsw.Connection, now_ns: int, last_commit_ns: int) -> UncleanEnd | None:
    """Record the start of a run; return the end of the previous one if that was not stopped. In a transaction.

    `last_commit_ns` is when the journal's newest entry was received. The end of the previous run becomes an event of
    the hub, and of each device that was connected.
    """
    ended = _unclean_end(connection, now_ns, last_commit_ns)
    if ended is not None:
        count = len(ended.devices)
        detail = f"killed, or the power failed; {plural(count, 'device was', 'devices were')} connected"
        events = [Event(0, device, ended.time_ns, "disconnected", ENDED_KIND) for device in ended.devices]
        insert_events(connection, [*events, Event(0, None, ended.time_ns, ENDED_KIND, detail)])
    for name in (_STARTED, _ALIVE):
        connection.execute("INSERT OR REPLACE INTO facts (name, value) VALUES (?, ?)", (name, str(now_ns)))
    return ended


def renew(connection: apsw.Connection, now_ns: int) -> None:
    """Record that the run continues, inside a transaction."""
    connection.execute("INSERT OR REPLACE INTO facts (name, value) VALUES (?, ?)", (_ALIVE, str(now_ns)))


def record_journal(connection: apsw.Connection, position: JournalPosition) -> None:
    """Record the journal and its newest offset, inside a transaction."""
    _record(connection, _JOURNAL, _OFFSET, position)


def select_journal(connection: apsw.Connection) -> JournalPosition | None:
    """Return the journal that the hub wrote last, None if none was recorded."""
    return _select(connection, _JOURNAL, _OFFSET)


def record_events(connection: apsw.Connection, position: JournalPosition) -> None:
    """Record that the events of devices up to this offset are stored, inside the transaction that stores them."""
    _record(connection, _EVENTS_JOURNAL, _EVENTS_OFFSET, position)


def select_events_journal(connection: apsw.Connection) -> JournalPosition | None:
    """Return the position up to which the events of devices are stored, None if none was recorded."""
    return _select(connection, _EVENTS_JOURNAL, _EVENTS_OFFSET)


def _record(connection: apsw.Connection, id: str, offset: str, position: JournalPosition) -> None:
    for name, value in ((id, position.id), (offset, str(position.offset))):
        connection.execute("INSERT OR REPLACE INTO facts (name, value) VALUES (?, ?)", (name, value))


def _select(connection: apsw.Connection, id: str, offset: str) -> JournalPosition | None:
    facts = dict(connection.execute("SELECT name, value FROM facts WHERE name IN (?, ?)", (id, offset)))
    return JournalPosition(facts[id], int(facts[offset])) if len(facts) == 2 else None


def end(connection: apsw.Connection) -> None:
    """Remove the record of the run: the hub stops in order. Inside a transaction."""
    connection.execute("DELETE FROM facts WHERE name IN (?, ?)", (_STARTED, _ALIVE))


def record_restore(path: Path, journal: JournalPosition | None, *, created_ns: int, now_ns: int) -> None:
    """Record in a restored registry from when its backup is, and that the run of that time has ended.

    The hub was not killed then: it ran while the backup was made. The registry is a little newer than the `journal` of
    its backup, which has lost nothing. Raises RegistryError.
    """
    connection = open_database(path)
    try:
        with transaction(connection):
            ended = _unclean_end(connection, now_ns, created_ns)
            events = (
                []
                if ended is None
                else [Event(0, device, created_ns, "disconnected", RESTORED_KIND) for device in ended.devices]
            )
            detail = f"from the backup of {datetime.fromtimestamp(created_ns // NS_PER_S, UTC):%Y-%m-%d %H:%M:%S} UTC"
            insert_events(connection, [*events, Event(0, None, now_ns, RESTORED_KIND, detail)])
            if journal is not None:
                record_journal(connection, journal)
            end(connection)
    finally:
        connection.close()


def _unclean_end(connection: apsw.Connection, now_ns: int, last_commit_ns: int) -> UncleanEnd | None:
    facts = dict(connection.execute("SELECT name, value FROM facts WHERE name IN (?, ?)", (_STARTED, _ALIVE)))
    if _STARTED not in facts:
        return None
    started_ns = int(facts[_STARTED])
    newest_event_ns = connection.execute("SELECT time_ns FROM events ORDER BY id DESC LIMIT 1").get or 0
    alive_ns = max(started_ns, int(facts.get(_ALIVE, "0")), last_commit_ns, newest_event_ns)
    devices = [device for (device,) in connection.execute(_CONNECTED, (started_ns,))]
    # A clock that was set back must not put the end after this start.
    return UncleanEnd(min(alive_ns, now_ns), devices)
