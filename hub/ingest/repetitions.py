"""Recognition of frames and rows that a client repeats, also before the first one is durable. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

from hub.ingest.input_reader import InputFrame
from hub.ingest.recent_readings import RecentReadings
from hub.ingest.row_writer import PendingRow

M = TypeVar("M")


def held_back(frames: Sequence[InputFrame], recent: RecentReadings) -> set[int]:
    """Return the places of frames that have to wait until the others are durable.

    They repeat a reading of an earlier frame, or follow such a frame for the same device. Only a durable reading is
    `recent`: if the first one fails or is refused, its repetition takes its place. Equal readings of one frame are two.
    """
    held: set[int] = set()
    if len(frames) < 2:
        return held
    devices: set[str] = set()
    seen = RecentReadings()
    for place, frame in enumerate(frames):
        if (devices and not devices.isdisjoint(frame.devices)) or _repeats(frame, seen, recent):
            devices |= frame.devices
            held.add(place)
            continue
        for row in frame.rows:
            if row.time_ns is not None:
                seen.add(row.device, row.time_ns, row.values)
        for block in frame.blocks:
            if block.times is not None:
                seen.add_block(block.device, block.times, block.columns)
    return held


def unknown_rows(device: str, rows: Sequence[PendingRow[M]], recent: RecentReadings) -> list[PendingRow[M]]:
    """Return the rows without what is stored already: a client repeats a frame whose answer was lost.

    Such a reading has the same time, which the client gave it, and the same value.
    """
    unknown = []
    for row in rows:
        if row.has_time:
            values = recent.new_values(device, row.time_ns, row.values)
            if len(values) < len(row.values):
                row = row._replace(values={name: row.values[name] for name in values})
        if row.values:
            unknown.append(row)
    return unknown


def _repeats(frame: InputFrame, seen: RecentReadings, recent: RecentReadings) -> bool:
    """Return whether a frame has a reading that is among the `seen` ones, and not durable."""
    rows = [(row.device, row.time_ns, row.values) for row in frame.rows if row.time_ns is not None]
    for block in frame.blocks:
        if block.times is not None and seen.may_have(block.device, block.times):
            values = zip(*block.columns.values(), strict=True)
            for time_ns, of_row in zip(block.times, values, strict=True):
                rows.append((block.device, time_ns, dict(zip(block.columns, of_row, strict=True))))
    for device, time_ns, given in rows:
        new = seen.new_values(device, time_ns, given)
        if len(new) < len(given):
            again = {name: value for name, value in given.items() if name not in new}
            if recent.new_values(device, time_ns, again):
                return True
    return False
