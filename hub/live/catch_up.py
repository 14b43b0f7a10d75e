"""Start of a subscription: a snapshot, history or everything that was missed, then live, without a hole or a duplicate.

The seam: a joining member gets no shared frames. It is sent stored and journalled readings up to the group's `flushed`
offset, and becomes live in the same turn of the event loop in which it reaches that offset. Everything after it is
still with the group and arrives with the next shared frame.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Protocol

import structlog

from hub.live.group import FrameColumns, Group, Member
from hub.live.hub import LiveHub
from hub.model.batch import Entry
from hub.model.journal import JournalTrimmed
from hub.model.store import History, HistoryQuery, StoreUnavailable
from wire import live as messages
from wire.codec import LIVE_MESSAGES
from wire.errors import Code
from wire.frames import Kind
from wire.text import plural

MAX_MISSED_ENTRIES = 500_000
"""Journal entries that are read for one dashboard that reconnects: a few seconds of reading. Beyond it a reset and
history from the store are faster, for the dashboard too."""

READ_ENTRIES = 5_000
READ_BYTES = 4 << 20
"""Bounds of one read of the journal. Between two reads the dashboard must have room."""

HISTORY_CHUNK_SERIES = 200
"""Series of one history frame: a frame of 200 × 1,000 points is 3.2 MB."""

log = structlog.get_logger(__name__)


class CatchUpSource(Protocol):
    """Journal and store, as far as the start of a subscription needs them."""

    @property
    def journal_id(self) -> str:
        """Return the id of the journal that offsets belong to."""

    async def read(self, after: int, *, max_entries: int, max_bytes: int) -> Sequence[Entry]:
        """Return journal entries after an offset, decoded where they can be. Raises JournalTrimmed."""

    async def query(self, query: HistoryQuery) -> History:
        """Return stored readings and the offset they are valid for. Raises StoreUnavailable."""


async def catch_up(
    live: LiveHub,
    source: CatchUpSource,
    group: Group,
    member: Member,
    request: messages.Subscribe,
    *,
    clock: Callable[[], int] = time.time_ns,
) -> None:
    """Bring a member from the start of its subscription to the live state."""
    cursor = request.cursor
    live.flush(group)
    reason: messages.ResetReason | None = _reset_reason(live, source, cursor)
    if cursor is not None and reason is None:
        _send_message(member, messages.Subscribed(request.id, group.schema, "cursor"))
        member.offset = cursor.offset
        try:
            await _send_missed(live, source, group, member)
        except JournalTrimmed:
            reason = "too_old"
        else:
            return
    if reason is not None:
        _send_message(member, messages.Reset(request.id, reason))
    is_subscribed = request.history is not None
    if request.history is not None and await _send_history(live, source, group, member, request, clock()):
        try:
            await _send_missed(live, source, group, member)
        except JournalTrimmed:
            # The journal keeps what the store does not have. Only a store that was restored from an old copy leads
            # here.
            log.error("journal was trimmed before the store had read it", offset=member.offset)
            _send_message(member, messages.Reset(request.id, "too_old"))
            is_subscribed = False
        else:
            return
    # No await from here to the end: nothing can come between the snapshot and the first shared frame.
    live.flush(group)
    if not is_subscribed:
        _send_message(member, messages.Subscribed(request.id, group.schema, "snapshot"))
    for frame in group.frames(Kind.SNAPSHOT, group.latest(), live.offset, subscription=request.id):
        member.outbox.offer(frame)
    _go_live(member, live.offset)


def _reset_reason(live: LiveHub, source: CatchUpSource, cursor: messages.Cursor | None) -> messages.ResetReason | None:
    """Return why a cursor cannot be resumed from; None when it can, or when there is none."""
    if cursor is None:
        return None
    if cursor.journal != source.journal_id or cursor.offset > live.offset:
        return "other_journal"
    return "too_much" if live.offset - cursor.offset > MAX_MISSED_ENTRIES else None


async def _send_missed(live: LiveHub, source: CatchUpSource, group: Group, member: Member) -> None:
    """Send the journal's entries after the member's offset until it reaches the group, then make it live."""
    await live.reached(member.offset)
    live.flush(group)
    while member.offset < group.flushed:
        await member.outbox.room()
        limit = min(READ_ENTRIES, group.flushed - member.offset)
        entries = await source.read(member.offset, max_entries=limit, max_bytes=READ_BYTES)
        if not entries:
            continue
        member.offset = entries[-1].offset
        columns = group.select(entry.batch for entry in entries if entry.batch is not None)
        if columns.readings:
            for frame in group.frames(Kind.MISSED, columns, member.offset, subscription=member.id):
                await _send_frame(member, frame)
    _go_live(member, member.offset)


async def _send_history(
    live: LiveHub,
    source: CatchUpSource,
    group: Group,
    member: Member,
    request: messages.Subscribe,
    now_ns: int,
) -> bool:
    """Send stored points and set the member's offset to the one they are valid for; False if the store cannot
    answer."""
    assert request.history is not None
    start = max(0, now_ns - request.history.span_ms * 1_000_000)
    _send_message(member, messages.Subscribed(request.id, group.schema, "history"))
    while True:
        known = list(group.series)
        try:
            history = await source.query(HistoryQuery(known, start, 2**63 - 1, request.history.points))
        except StoreUnavailable as error:
            _send_message(member, messages.Error(Code.UNAVAILABLE, f"no history now: {error}", member.id))
            return False
        # A series that appeared meanwhile may have readings before the offset that this answer is valid for.
        if len(known) == len(group.series):
            break
    for first in range(0, len(history.series), HISTORY_CHUNK_SERIES):
        columns = FrameColumns()
        for part in history.series[first : first + HISTORY_CHUNK_SERIES]:
            position = group.positions[part.series.id]
            # Texts from before a series became a number, and numbers from before it became text, have no place here.
            if (part.series.type == "string") == (group.series[position].type == "string"):
                columns.add(position, part.series, part.times_ns, part.values)
        for frame in group.frames(Kind.HISTORY, columns, 0, subscription=request.id):
            await _send_frame(member, frame)
    member.offset = history.cursor.offset if history.cursor.journal == source.journal_id else 0
    if live.offset - member.offset > MAX_MISSED_ENTRIES:
        behind = live.offset - member.offset
        _send_message(
            member,
            messages.Error(Code.UNAVAILABLE, f"the store is {plural(behind, 'batch', 'batches')} behind", member.id),
        )
        return False
    return True


async def _send_frame(member: Member, frame: bytes) -> None:
    while not member.outbox.offer(frame):
        await member.outbox.room()


def _send_message(member: Member, message: messages.LiveMessage) -> None:
    member.outbox.control(LIVE_MESSAGES.encode(message))


def _go_live(member: Member, offset: int) -> None:
    member.live = True
    _send_message(member, messages.CaughtUp(member.id, offset))
