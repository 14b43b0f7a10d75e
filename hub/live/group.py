"""Group of subscriptions with the same selection, policy and period: they share what is collected and its encoding."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from hub.live.outbox import Outbox
from hub.live.selection import Selection, matches
from hub.model.batch import Batch, Series
from wire import live as messages
from wire.codec import LIVE_MESSAGES
from wire.frames import MAX_COLUMNS, Kind, NumberColumn, TextColumn, encode_update
from wire.model import Value

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Times = Sequence[int] | NDArray[np.int64]
    Values = Sequence[Value] | NDArray[np.float64]

NS_PER_MS = 1_000_000
_NS_PER_MS = np.int64(NS_PER_MS)
"""The same for numpy, which converts a Python integer in 1 µs each time."""

FEW_TIMES = 8
"""Up to this number, Python converts times faster than numpy."""

MAX_PENDING_READINGS = 20_000
"""Readings that a group collects before it sends without waiting for its period; 320 kB a frame."""


class GroupKey(NamedTuple):
    """Key by which subscriptions share a group."""

    selection: Selection
    policy: messages.Policy
    period_ms: int


@dataclass(eq=False, slots=True)
class LiveSeries:
    """Live state of a series: its newest reading, and the groups that contain it, with its position in each.

    The next arrival from `arrive_ns` on is recorded, by the monotonic clock.
    """

    time_ns: int = -1
    arrive_ns: int = 0
    value: Value = None
    groups: list[tuple[Group, int]] = field(default_factory=list)


@dataclass(eq=False, slots=True)
class FrameColumns:
    """Columns of one live frame: float64 milliseconds and float64 values, text apart, in the order of addition."""

    numbers: list[NumberColumn] = field(default_factory=list)
    texts: list[TextColumn] = field(default_factory=list)
    readings: int = 0

    def add(self, position: int, series: Series, times_ns: Times, values: Values) -> None:
        """Add the readings of the series at this position of the schema. Rows without a value are left out."""
        if series.type == "string":
            given = zip(times_ns, values, strict=True)
            rows = [(int(time) / NS_PER_MS, str(text)) for time, text in given if text is not None]
            if rows:
                self.texts.append(TextColumn(position, [time for time, _ in rows], [text for _, text in rows]))
                self.readings += len(rows)
            return
        times = _milliseconds(times_ns)
        try:
            numbers = np.asarray(values, dtype=np.float64)
        except (ValueError, TypeError):
            # Texts that were accepted just before the metric became a number: they are in the history.
            numbers = np.array([math.nan if isinstance(value, str) else value for value in values], dtype=np.float64)
        missing = np.isnan(numbers)
        if missing.any():
            times, numbers = times[~missing], numbers[~missing]
        if len(times):
            self.readings += len(times)
            self.numbers.append(NumberColumn(position, _little_endian(times), _little_endian(numbers)))

    def add_chunks(self, position: int, series: Series, chunks: Sequence[tuple[Times, Values]]) -> None:
        """Add several chunks of one series as one column."""
        if len(chunks) == 1:
            self.add(position, series, *chunks[0])
            return
        times: list[int] = []
        values: list[Value] = []
        for chunk_times, chunk_values in chunks:
            times.extend(chunk_times)
            values.extend(chunk_values)
        self.add(position, series, times, values)

    def parts(self) -> Iterable[FrameColumns]:
        """Yield parts of at most MAX_COLUMNS numeric columns; the text columns are in the last."""
        if len(self.numbers) <= MAX_COLUMNS:
            yield self
            return
        for start in range(0, len(self.numbers), MAX_COLUMNS):
            part = FrameColumns()
            part.numbers = self.numbers[start : start + MAX_COLUMNS]
            part.readings = sum(len(column.times_ms) // 8 for column in part.numbers)
            if start + MAX_COLUMNS >= len(self.numbers):
                part.texts = self.texts
                part.readings += sum(len(text.values) for text in self.texts)
            yield part


def _milliseconds(times_ns: Times) -> NDArray[np.float64]:
    """Return times in milliseconds. Whole milliseconds stay exact.

    A float64 has no room for today's nanoseconds: converted before the division, a quarter of the whole milliseconds
    would be 0.2 µs off. Python divides integers exactly, and a few of them faster than numpy: one in 0.5 µs, not 2 µs.
    """
    if len(times_ns) <= FEW_TIMES:
        return np.array([int(time) / NS_PER_MS for time in times_ns])
    whole, rest = np.divmod(np.asarray(times_ns, dtype=np.int64), _NS_PER_MS)
    return whole + rest / _NS_PER_MS


def _little_endian(column: NDArray[np.float64]) -> bytes:
    return column.astype("<f8", copy=False).tobytes()


@dataclass(eq=False, slots=True)
class Member:
    """One subscription of one connection within its group.

    While it catches up it gets no shared frames, and `offset` is its position. Once `live` it shares the group's
    frames. For frames that do not fit its outbox, `lagging` has the positions of their series (bounded by the schema)
    and `conflated` counts their readings.
    """

    id: int
    outbox: Outbox
    live: bool = False
    offset: int = 0
    lagging: set[int] = field(default_factory=set)
    conflated: int = 0


class Group:
    """Collects the readings of its series and sends them to its members, encoded once.

    `flushed` is the offset up to which everything was sent: the seam between what a joining member reads by itself and
    what it shares.
    """

    def __init__(
        self,
        key: GroupKey,
        schema: int,
        *,
        offset: int,
        live_series: Callable[[Series], LiveSeries],
        schedule: Callable[[Group], None],
    ) -> None:
        """`live_series` returns the live state of a series; `schedule` requests a flush."""
        self.key = key
        self.schema = schema
        self.matches = matches(key.selection)
        self.members: list[Member] = []
        self.series: list[Series] = []
        self.positions: dict[int, int] = {}
        self.flushed = offset
        self.scheduled = False
        self._live_series = live_series
        self._schedule = schedule
        self._every = key.policy == "every"
        self._pending: dict[int, list[tuple[Times, Values]]] = {}
        self._pending_readings = 0

    def add_series(self, added: Iterable[Series]) -> None:
        """Add those of the series that match, and send the members the new part of the schema."""
        first = len(self.series)
        for series in added:
            if series.id not in self.positions and self.matches(series):
                position = self.positions[series.id] = len(self.series)
                self.series.append(series)
                self._live_series(series).groups.append((self, position))
        if len(self.series) > first and self.members:
            frame = LIVE_MESSAGES.encode(self.describe(first))
            for outbox in {member.outbox for member in self.members}:
                outbox.control(frame)

    def replace_series(self, changed: Series) -> None:
        """Send the members the new declaration of a series whose name, type, unit or description has changed."""
        position = self.positions.get(changed.id)
        if position is None:
            self.add_series([changed])
            return
        self.series[position] = changed
        # With the rest of the schema: a viewer's schema ends where the newest declaration ends.
        frame = LIVE_MESSAGES.encode(self.describe(position))
        for outbox in {member.outbox for member in self.members}:
            outbox.control(frame)

    def describe(self, first: int = 0) -> messages.Schema:
        """Return the schema message from position `first` on."""
        series = [messages.Series(s.device, s.metric, s.type, s.unit, s.description) for s in self.series[first:]]
        return messages.Schema(self.schema, first, series)

    def collect(self, position: int, times: Times, values: Values) -> None:
        """Collect readings of one of the series."""
        if self._every:
            self._pending.setdefault(position, []).append((times, values))
            self._pending_readings += len(times)
        else:
            self._pending[position] = []
        if not self.scheduled or self._pending_readings >= MAX_PENDING_READINGS:
            self._schedule(self)

    def flush(self, offset: int) -> None:
        """Send what was collected, up to this journal offset, to all members that are live."""
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
        """Send a member that fell behind the latest values, and how many readings they stand for."""
        columns = self.latest(member.lagging)
        for _, frame in self._frames(Kind.LIVE, columns, self.flushed, conflated=member.conflated):
            member.outbox.offer(frame)
        member.lagging.clear()
        member.conflated = 0

    def latest(self, positions: Iterable[int] | None = None) -> FrameColumns:
        """Return the latest values of these (or all) series."""
        columns = FrameColumns()
        for position in range(len(self.series)) if positions is None else sorted(positions):
            latest = self._live_series(self.series[position])
            if latest.value is not None:
                columns.add(position, self.series[position], [latest.time_ns], [latest.value])
        return columns

    def select(self, batches: Iterable[Batch]) -> FrameColumns:
        """Return what missed batches contain for the group: their readings, or the latest values with policy
        `latest`."""
        chunks: dict[int, list[tuple[Times, Values]]] = {}
        for batch in batches:
            if batch.historical and not self._every:
                continue
            for series, values in batch.columns:
                position = self.positions.get(series.id)
                if position is not None:
                    chunks.setdefault(position, []).append((batch.times, values))
        return self._columns(chunks)

    def frames(self, kind: Kind, columns: FrameColumns, offset: int, *, subscription: int) -> list[bytes]:
        """Return frames for one subscription. The last one has the offset, so a cursor is never ahead of the data."""
        return [frame for _, frame in self._frames(kind, columns, offset, subscription=subscription)]

    def _columns(self, pending: dict[int, list[tuple[Times, Values]]]) -> FrameColumns:
        if not self._every:
            return self.latest(pending)
        columns = FrameColumns()
        for position, chunks in pending.items():
            columns.add_chunks(position, self.series[position], chunks)
        return columns

    def _frames(
        self, kind: Kind, columns: FrameColumns, offset: int, *, subscription: int = 0, conflated: int = 0
    ) -> Sequence[tuple[FrameColumns, bytes]]:
        parts = list(columns.parts())
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
