"""Recognition of frames and rows that a client repeats, also before the first one is durable. Pure."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Mapping, Sequence
from typing import TypeVar

from hub.ingest.input_reader import InputFrame
from hub.ingest.recent_readings import RecentReadings
from hub.ingest.row_writer import PendingRow
from wire.model import Value

TURN_VALUES = 2_000
"""Values that are compared in one turn of the event loop: 5 ms."""

M = TypeVar("M")


class ComparedValues:
    """Counter of the values that were compared in this turn of the event loop."""

    def __init__(self) -> None:
        self._values = 0

    def is_due(self, values: int) -> bool:
        """Return whether the turn ends after so many more values."""
        self._values += values
        if self._values < TURN_VALUES:
            return False
        self._values = 0
        return True


def held_back(frames: Sequence[InputFrame], recent: RecentReadings) -> Generator[None, None, set[int]]:
    """Return the places of frames that have to wait until the others are durable. Yield after each TURN_VALUES values.

    They repeat a reading of an earlier frame, or follow such a frame for the same device. Only a durable reading is
    `recent`: if the first one fails or is refused, its repetition takes its place. Equal readings of one frame are two.
    """
    held: set[int] = set()
    if len(frames) < 2:
        return held
    compared = ComparedValues()
    devices: set[str] = set()
    seen = RecentReadings()
    for place, frame in enumerate(frames):
        if (devices and not devices.isdisjoint(frame.devices)) or (yield from _repeats(frame, seen, recent, compared)):
            devices |= frame.devices
            held.add(place)
            continue
        for row in frame.rows:
            if row.time_ns is not None:
                seen.add(row.device, row.time_ns, row.values)
                if compared.is_due(len(row.values)):
                    yield
        for block in frame.blocks:
            if block.times is not None:
                seen.add_block(block.device, block.times, block.columns)
    return held


def unknown_rows(
    device: str, rows: Sequence[PendingRow[M]], recent: RecentReadings, compared: ComparedValues
) -> Generator[None, None, list[PendingRow[M]]]:
    """Return the rows without what is stored already: a client repeats a frame whose answer was lost.

    Such a reading has the same time, which the client gave it, and the same value. Yield after each TURN_VALUES values.
    """
    unknown = []
    for row in rows:
        given = len(row.values)
        if row.has_time:
            values = recent.new_values(device, row.time_ns, row.values)
            if len(values) < given:
                row = row._replace(values={name: row.values[name] for name in values})
        if row.values:
            unknown.append(row)
        if compared.is_due(given):
            yield
    return unknown


def _repeats(
    frame: InputFrame, seen: RecentReadings, recent: RecentReadings, compared: ComparedValues
) -> Generator[None, None, bool]:
    """Return whether a frame has a reading that is among the `seen` ones, and not durable."""
    for device, time_ns, given in _timed_rows(frame, seen):
        new = seen.new_values(device, time_ns, given)
        if len(new) < len(given):
            again = {name: value for name, value in given.items() if name not in new}
            if recent.new_values(device, time_ns, again):
                return True
        if compared.is_due(len(given)):
            yield
    return False


def _timed_rows(frame: InputFrame, seen: RecentReadings) -> Iterator[tuple[str, int, Mapping[str, Value]]]:
    """Yield the rows with times, and those of the blocks that may have `seen` readings."""
    for row in frame.rows:
        if row.time_ns is not None:
            yield row.device, row.time_ns, row.values
    for block in frame.blocks:
        if block.times is not None and seen.may_have(block.device, block.times):
            values = zip(*block.columns.values(), strict=True)
            for time_ns, of_row in zip(block.times, values, strict=True):
                yield block.device, time_ns, dict(zip(block.columns, of_row, strict=True))
