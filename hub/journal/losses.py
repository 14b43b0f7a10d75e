"""Losses of an open journal: ranges of offsets without readable entries, and the incidents that people see."""

from __future__ import annotations

from bisect import insort
from collections.abc import Callable
from contextlib import suppress

import structlog

from hub.journal.block import BlockDamaged
from hub.journal.reader import EntriesUnreadable
from hub.journal.rows import keep_row
from hub.journal.schema import COUNT_LOST, MAX_NAMED, NEXT_STEP_IN_THE_MIDDLE, WRITE_LOST
from hub.journal.state import JournalState, Statement
from hub.journal.writer import JournalWriter, Transaction
from hub.model.batch import Mark
from hub.model.journal import EntriesLost, JournalError, JournalIncident, JournalTrimmed, LostRange

MAX_INCIDENTS = 20
"""Incidents that are kept for /ready and the page. All of them are in the log and in the events."""

NEXT_STEP = (
    "Agents send again what they still keep, and hub flow shows it as repaired. Check the disk, and restore a backup "
    "if the rest matters"
)

PROCESSED = "The store and every bridge have processed them before, so nothing of the history is lost. Check the disk"
"""Instead of a next step, for entries that every consumer has acknowledged."""

DAMAGED, REPAIRED = "journal damaged", "journal repaired"
"""Kinds of incidents, which are also those of the hub's events."""

log = structlog.get_logger(__name__)


class Losses:
    """Ranges that the journal has lost, and the `incidents` since it was opened, the newest last."""

    def __init__(self, state: JournalState, writer: JournalWriter | None, *, clock: Callable[[], int]) -> None:
        """Without a writer nothing can be declared: the journal is not open."""
        self.incidents: list[JournalIncident] = []
        self._state = state
        self._writer = writer
        self._clock = clock
        self._callback: Callable[[JournalIncident], None] = lambda incident: None

    @property
    def ranges(self) -> list[LostRange]:
        """Return the lost offsets in order, as far as the journal has not trimmed them."""
        return list(self._state.lost)

    def on_incident(self, callback: Callable[[JournalIncident], None]) -> None:
        """Call back with each incident, also with those that were found before."""
        self._callback = callback
        for incident in self.incidents:
            callback(incident)

    def report(self, text: str, *, kind: str = DAMAGED) -> None:
        """Report an incident: here, in the log, and to the callback."""
        incident = JournalIncident(kind, text)
        log.error(kind, result=text)
        del self.incidents[: -MAX_INCIDENTS + 1]
        self.incidents.append(incident)
        self._callback(incident)

    def check(self, offset: int) -> None:
        """Raise JournalTrimmed or EntriesLost if the entry at this offset is known to be gone."""
        first_offset = self._state.retention.first_offset
        if offset < first_offset:
            raise JournalTrimmed(first_offset)
        for lost in self._state.lost:
            if lost.first_offset <= offset <= lost.last_offset:
                raise EntriesLost(lost)

    def declare(self, damage: EntriesUnreadable, *, up_to: int) -> LostRange:
        """Declare entries lost, `up_to` this offset at most, and keep the bytes of their damaged rows.

        Where this is not written, the range is found again at the next read after a restart.
        """
        lost = LostRange(damage.first, min(damage.last, up_to), self._clock(), _description(damage))
        insort(self._state.lost, lost)
        if self._state.cursors.passed(0) >= lost.last_offset:
            self.report(f"{lost.entries} of the journal cannot be read: {lost.reason}. {PROCESSED}")
        else:
            self.report(f"{lost}. {NEXT_STEP_IN_THE_MIDDLE}")
        statements = [(WRITE_LOST, lost), *(keep_row(f"block {row.first_offset}", row) for row in damage.rows)]
        if self._writer is not None:
            self._writer.submit(Transaction(statements, 0, lambda error: None, makes_room=True))
        return lost

    async def continue_after(self, offset: int, reason: str) -> None:
        """Leave out the offsets up to this one: the newest entries are lost. Durable when this returns.

        Call it before entries are submitted. Raises JournalError.
        """
        lost = LostRange(self._state.last_offset + 1, offset, self._clock(), reason)
        await self._write((WRITE_LOST, lost))
        insort(self._state.lost, lost)
        self._state.last_offset = offset
        self.report(f"{lost}. {NEXT_STEP}")

    async def count(self) -> None:
        """Record that the devices count the readings of all ranges as damaged. Raises JournalError."""
        await self._write((COUNT_LOST, ()))
        self._state.lost = [lost._replace(counted=True) for lost in self._state.lost]

    async def _write(self, statement: Statement) -> None:
        if self._writer is None:
            raise JournalError("the journal is closed")
        await self._writer.write(statement)


def _description(damage: EntriesUnreadable) -> str:
    """Return why entries cannot be read, with the newest batches of the devices that are known to be among them."""
    marks: dict[str, Mark] = {}
    for row in damage.rows:
        with suppress(BlockDamaged):
            marks.update((mark.device, mark) for mark in row.open_marks())
    if not marks:
        return damage.reason
    named = [f"{mark.device} up to batch {mark.seq:,}" for mark in list(marks.values())[:MAX_NAMED]]
    more = f" and {len(marks) - len(named)} more devices" if len(marks) > len(named) else ""
    return f"{damage.reason}; among them are batches of {', '.join(named)}{more}"
