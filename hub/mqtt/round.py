"""What arrived together from a broker, and the batches that become of it. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Generic, NamedTuple, TypeVar

from hub.mqtt.reading import Message, Refused
from wire import device as messages
from wire.columns import pack_floats, pack_times
from wire.model import Metric, MetricType

ROWS_A_BATCH = 1_000
PACKED_FROM = 16
"""Rows from which a column of floats goes packed: then acceptance makes arrays of all at once."""

Link = TypeVar("Link")


class Line(NamedTuple):
    """One row on its way: of which message, with the time that it has or is given. `relayed`: another hub has published
    it."""

    message: Message
    time_ns: int
    values: dict[str, float | int | bool | str]
    has_time: bool
    historical: bool
    relayed: bool


class Round(Generic[Link]):
    """What arrived together, by device; `acks` are the messages to be acknowledged, each with its connection."""

    def __init__(self) -> None:
        self.lines: dict[str, list[Line]] = {}
        self.metrics: dict[str, dict[str, Metric]] = {}
        self.tags: dict[str, dict[str, str]] = {}
        self.presence: dict[str, bool] = {}
        self.refused: list[Refused] = []
        self.acks: list[tuple[Link, int]] = []
        self.count = 0
        self.size_bytes = 0
        self.taken = 0


def batches_of(lines: Sequence[Line]) -> list[list[Line]]:
    """Rows of the same metrics and the same way here together, as few batches as the order of each metric allows."""
    made: list[list[Line]] = []
    open_: dict[tuple[object, ...], list[Line]] = {}
    last: dict[str, tuple[object, ...]] = {}
    for line in lines:
        key = (line.historical, line.relayed, *line.values)
        batch = open_.get(key)
        if batch is None or len(batch) >= ROWS_A_BATCH:
            for name in line.values:
                # What another batch has of this metric comes before; it takes nothing more.
                if last.get(name) is not None:
                    open_.pop(last[name], None)
                last[name] = key
            batch = open_[key] = []
            made.append(batch)
        batch.append(line)
    return made


def data_of(lines: Sequence[Line]) -> messages.Data:
    """The batch of rows that `batches_of` put together, without a number."""
    first = lines[0]
    times: Any = [line.time_ns for line in lines]
    values: dict[str, Any] = {name: [line.values[name] for line in lines] for name in first.values}
    if len(lines) >= PACKED_FROM and all(type(value) is float for column in values.values() for value in column):
        times = pack_times(times)
        values = {name: pack_floats(column) for name, column in values.items()}
    return messages.Data(1, times, values, first.historical)


def type_of(value: float | int | bool | str) -> MetricType:
    """The type of a metric whose first value this is; a number is a float."""
    if isinstance(value, bool):
        return "boolean"
    return "string" if isinstance(value, str) else "float"
