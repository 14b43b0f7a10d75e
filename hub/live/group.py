"""Subscriptions of the same selection, policy and period: they share what is collected and one encoding of it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, NamedTuple

from hub.live.columns import Columns
from hub.live.outbox import Outbox
from hub.live.selection import Selection, matches
from hub.model.batch import Batch, Series
from wire import live as messages
from wire.codec import LIVE_MESSAGES
from wire.frames import MAX_COLUMNS, Kind, encode_update

if TYPE_CHECKING:
    from hub.live.columns import Times, Values

MAX_PENDING_READINGS = 20_000
"""Readings that a group collects before it sends without waiting for its period; 320 kB a frame."""


class Key(NamedTuple):
    """What a group is shared by."""

    selection: Selection
    policy: messages.Policy
    period_ms: int


class LiveSeries:
    """A series as live knows it: its newest reading, and the groups that want to know; hangs on Series.live."""

    __slots__ = ("groups", "time_ns", "value")

    def __init__(self) -> None:
        self.time_ns = -1
        self.value: float | int | bool | str | None = None
        self.groups: list[tuple[Group, int]] = []


class Member:
    """One subscription of one connection within its group.

    While it catches up it takes no shared frames; `offset` is then how far it has come. Once `live` it shares the
    group's frames. What did not fit its outbox is remembered as positions in `lagging`, bounded by the schema, and
    `conflated`.
    """

    __slots__ = ("conflated", "id", "lagging", "live", "offset", "outbox")

    def __init__(self, id: int, outbox: Outbox) -> None:
        self.id = id
        self.outbox = outbox
        self.live = False
        self.offset = 0
        self.lagging: set[int] = set()
        self.conflated = 0


class Group:
    """Collects the readings of its series and sends them to its members, encoded once.

    `flushed` is the offset up to which everything was sent: the seam between what a joining member fetches and what it
    shares.
    """

    def __init__(self, key: Key, schema: int, *, offset: int, schedule: Callable[[Group], None]) -> None:
        self.key = key
        self.schema = schema
        self.matches = matches(key.selection)
        self.members: list[Member] = []
        self.series: list[Series] = []
        self.positions: dict[int, int] = {}
        self.flushed = offset
        self.scheduled = False
        self._schedule = schedule
        self._every = key.policy == "every"
        self._pending: dict[int, list[tuple[Times, Values]]] = {}
        self._pending_readings = 0

    def add_series(self, added: Iterable[Series]) -> None:
        """Takes in series that match, and tells the members."""
        first = len(self.series)
        for series in added:
            if series.id not in self.positions and self.matches(series):
                position = self.positions[series.id] = len(self.series)
                self.series.append(series)
                latest_of(series).groups.append((self, position))
        if len(self.series) > first and self.members:
            frame = LIVE_MESSAGES.encode(self.describe(first))
            for outbox in {member.outbox for member in self.members}:
                outbox.control(frame)

    def describe(self, first: int = 0) -> messages.Schema:
        """The schema message from position `first` on."""
        series = [messages.Series(s.device, s.metric, s.type, s.unit, s.description) for s in self.series[first:]]
        return messages.Schema(self.schema, first, series)

    def collect(self, position: int, times: Times, values: Values) -> None:
        """Readings of one of the series arrived."""
        if self._every:
            self._pending.setdefault(position, []).append((times, values))
            self._pending_readings += len(times)
        else:
            self._pending[position] = []
        if not self.scheduled or self._pending_readings >= MAX_PENDING_READINGS:
            self._schedule(self)

    def flush(self, offset: int) -> None:
        """Sends what was collected, up to the journal offset given, to all members that are live."""
        pending, self._pending = self._pending, {}
        self._pending_readings = 0
        self.flushed = offset
        # Two subscriptions of one connection may share a group: one frame serves both.
        live = {member.outbox: member for member in self.members if member.live}
        if pending and live:
            for part, frame in self._frames(Kind.LIVE, self._columns(pending), offset):
                for outbox, member in live.items():
                    if member.lagging or not outbox.offer(frame):
                        member.conflated += part.readings
                        member.lagging.update(column.series for column in part.numbers)
                        member.lagging.update(text.series for text in part.texts)
        for member in live.values():
            if member.lagging and member.outbox.has_room:
                self._summarise(member)

    def _summarise(self, member: Member) -> None:
        """A member that fell behind has room again: the latest values, and how many readings they stand for."""
        columns = self.latest(member.lagging)
        for _, frame in self._frames(Kind.LIVE, columns, self.flushed, conflated=member.conflated):
            member.outbox.offer(frame)
        member.lagging.clear()
        member.conflated = 0

    def latest(self, positions: Iterable[int] | None = None) -> Columns:
        """The latest values of these (or all) series."""
        columns = Columns()
        for position in range(len(self.series)) if positions is None else sorted(positions):
            latest = latest_of(self.series[position])
            if latest.value is not None:
                columns.add(position, self.series[position], [latest.time_ns], [latest.value])
        return columns

    def select(self, batches: Iterable[Batch]) -> Columns:
        """What these batches, which were missed, have for the group: their readings, or with policy latest the latest
        values, as of now, of the series that they are of."""
        chunks: dict[int, list[tuple[Times, Values]]] = {}
        for batch in batches:
            if batch.historical and not self._every:
                continue
            for series, values in batch.columns:
                position = self.positions.get(series.id)
                if position is not None:
                    chunks.setdefault(position, []).append((batch.times, values))
        return self._columns(chunks)

    def frames(self, kind: Kind, columns: Columns, offset: int, *, subscription: int) -> list[bytes]:
        """Frames for one subscription; the last one carries the offset, so a cursor never runs ahead of the data."""
        return [frame for _, frame in self._frames(kind, columns, offset, subscription=subscription)]

    def _columns(self, pending: dict[int, list[tuple[Times, Values]]]) -> Columns:
        if not self._every:
            return self.latest(pending)
        columns = Columns()
        for position, chunks in pending.items():
            columns.add_chunks(position, self.series[position], chunks)
        return columns

    def _frames(
        self, kind: Kind, columns: Columns, offset: int, *, subscription: int = 0, conflated: int = 0
    ) -> Sequence[tuple[Columns, bytes]]:
        parts = list(_split(columns))
        return [
            (
                part,
                encode_update(
                    kind,
                    self.schema,
                    offset=offset if index == len(parts) - 1 else 0,
                    numbers=part.numbers,
                    texts=part.texts,
                    subscription=subscription,
                    conflated=conflated if index == 0 else 0,
                ),
            )
            for index, part in enumerate(parts)
        ]


def latest_of(series: Series) -> LiveSeries:
    """The live side of a series."""
    latest = series.live
    if not isinstance(latest, LiveSeries):
        latest = series.live = LiveSeries()
    return latest


def _split(columns: Columns) -> Iterable[Columns]:
    """Parts of at most MAX_COLUMNS numeric columns; the text columns go with the last."""
    if len(columns.numbers) <= MAX_COLUMNS:
        yield columns
        return
    for start in range(0, len(columns.numbers), MAX_COLUMNS):
        part = Columns()
        part.numbers = columns.numbers[start : start + MAX_COLUMNS]
        part.readings = sum(len(column.times_ms) // 8 for column in part.numbers)
        if start + MAX_COLUMNS >= len(columns.numbers):
            part.texts = columns.texts
            part.readings += sum(len(text.values) for text in columns.texts)
        yield part
