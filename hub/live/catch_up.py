"""How a subscription begins: snapshot, history or all that was missed, and then live, without a hole or a duplicate.

The seam: a joining member takes no shared frames; it is sent stored and journalled readings up to the group's `flushed`
offset, and becomes live in the same turn of the event loop in which it has got there. Everything after that offset is
still with the group and reaches it with the next shared frame.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Protocol

import structlog

from hub.live.columns import Columns
from hub.live.group import Group, Member
from hub.live.live import Live
from hub.model.batch import Batch, Entry, EntryKind
from hub.model.journal import JournalTrimmed
from hub.model.store import History, HistoryQuery, StoreUnavailable
from wire import live as messages
from wire.codec import LIVE_MESSAGES
from wire.errors import Code
from wire.frames import Kind

MAX_MISSED_ENTRIES = 500_000
"""Journal entries read for one dashboard that comes back: some seconds of reading. Beyond it a reset and history from
the store are quicker, for the dashboard too."""

READ_ENTRIES = 5_000
READ_BYTES = 4 << 20
"""One step of reading the journal; between two steps the dashboard must have room."""

HISTORY_CHUNK_SERIES = 200
"""Series of one history frame: a frame of 200 × 1,000 points is 3.2 MB."""

log = structlog.get_logger(__name__)


class Past(Protocol):
    """The journal and the store, as far as a beginning subscription needs them."""

    @property
    def journal_id(self) -> str:
        """Which journal offsets belong to."""

    async def read(self, after: int, *, max_entries: int, max_bytes: int) -> list[Entry]:
        """Journal entries after an offset. Raises JournalTrimmed."""

    async def query(self, query: HistoryQuery) -> History:
        """Stored readings and the offset they are true for. Raises StoreUnavailable."""

    def decode(self, entry: Entry) -> Batch:
        """The batch of an entry that came without."""


async def catch_up(
    live: Live,
    past: Past,
    group: Group,
    member: Member,
    asked: messages.Subscribe,
    *,
    clock: Callable[[], int] = time.time_ns,
) -> None:
    """Brings a member from where its subscription begins to live, and makes it live."""
    outbox = member.outbox
    cursor = asked.cursor
    live.flush(group)
    reason: messages.ResetReason | None = _refusal(live, past, cursor)
    if cursor is not None and reason is None:
        _tell(member, messages.Subscribed(asked.id, group.schema, "cursor"))
        member.offset = cursor.offset
        try:
            await _read_missed(live, past, group, member)
        except JournalTrimmed:
            reason = "too_old"
        else:
            return
    if reason is not None:
        _tell(member, messages.Reset(asked.id, reason))
    is_subscribed = asked.history is not None
    if asked.history is not None and await _send_history(live, past, group, member, asked, clock()):
        try:
            await _read_missed(live, past, group, member)
        except JournalTrimmed:
            # The journal keeps what the store has not got; only a store put back from an old copy leads here.
            log.error("the journal was trimmed before the store had read it", offset=member.offset)
            _tell(member, messages.Reset(asked.id, "too_old"))
            is_subscribed = False
        else:
            return
    # From here to the end there is no await: nothing can come between the snapshot and the first shared frame.
    live.flush(group)
    if not is_subscribed:
        _tell(member, messages.Subscribed(asked.id, group.schema, "snapshot"))
    for frame in group.frames(Kind.SNAPSHOT, group.latest(), live.offset, subscription=asked.id):
        outbox.offer(frame)
    _go_live(member, live.offset)


def _refusal(live: Live, past: Past, cursor: messages.Cursor | None) -> messages.ResetReason | None:
    if cursor is None:
        return None
    if cursor.journal != past.journal_id or cursor.offset > live.offset:
        return "other_journal"
    return "too_much" if live.offset - cursor.offset > MAX_MISSED_ENTRIES else None


async def _read_missed(live: Live, past: Past, group: Group, member: Member) -> None:
    """Sends journal entries after the member's offset until it stands where the group stands, then makes it live."""
    await live.reached(member.offset)
    live.flush(group)
    while member.offset < group.flushed:
        await member.outbox.room()
        limit = min(READ_ENTRIES, group.flushed - member.offset)
        entries = await past.read(member.offset, max_entries=limit, max_bytes=READ_BYTES)
        if not entries:
            continue
        batches = [entry.batch or past.decode(entry) for entry in entries if entry.kind is EntryKind.BATCH]
        member.offset = entries[-1].offset
        columns = group.select(batches)
        if columns.readings:
            for frame in group.frames(Kind.MISSED, columns, member.offset, subscription=member.id):
                await _send(member, frame)
    _go_live(member, member.offset)


async def _send_history(
    live: Live, past: Past, group: Group, member: Member, asked: messages.Subscribe, now_ns: int
) -> bool:
    """Sends stored points; the member's offset is then the one they are true for. False: the store cannot answer
    now."""
    assert asked.history is not None
    start = max(0, now_ns - asked.history.span_ms * 1_000_000)
    _tell(member, messages.Subscribed(asked.id, group.schema, "history"))
    while True:
        known = list(group.series)
        try:
            history = await past.query(HistoryQuery(known, start, 2**63 - 1, asked.history.points))
        except StoreUnavailable as error:
            _tell(member, messages.Error(Code.UNAVAILABLE, f"no history now: {error}", member.id))
            return False
        # A series that appeared meanwhile may have readings before the offset this answer is true for.
        if len(known) == len(group.series):
            break
    for first in range(0, len(history.series), HISTORY_CHUNK_SERIES):
        columns = Columns()
        for part in history.series[first : first + HISTORY_CHUNK_SERIES]:
            columns.add(group.positions[part.series.id], part.series, part.times_ns, part.values)
        for frame in group.frames(Kind.HISTORY, columns, 0, subscription=asked.id):
            await _send(member, frame)
    member.offset = history.cursor.offset if history.cursor.journal == past.journal_id else 0
    if live.offset - member.offset > MAX_MISSED_ENTRIES:
        behind = live.offset - member.offset
        _tell(member, messages.Error(Code.UNAVAILABLE, f"the store is {behind} batches behind", member.id))
        return False
    return True


async def _send(member: Member, frame: bytes) -> None:
    while not member.outbox.offer(frame):
        await member.outbox.room()


def _tell(member: Member, message: messages.LiveMessage) -> None:
    member.outbox.control(LIVE_MESSAGES.encode(message))


def _go_live(member: Member, offset: int) -> None:
    member.live = True
    _tell(member, messages.CaughtUp(member.id, offset))
