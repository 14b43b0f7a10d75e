"""Readings as messages: which topic, which payload. Pure.

A bare value is its text in UTF-8: `21.5`, `true`, `open`. JSON is one object for each row of a batch, its time and what
the device's metrics had then: `{"time":"2026-01-31T12:00:00.250000000Z","temperature":21.5}`. Line protocol is that of
InfluxDB.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from fnmatch import fnmatchcase
from functools import lru_cache
from typing import Literal, NamedTuple

import msgspec

from hub.model.batch import Batch, Entry, Series
from hub.mqtt.message import Publish
from hub.mqtt.topics import TopicTemplate, overlap
from wire.limits import MAX_DEVICE_ID, MAX_METRIC_NAME
from wire.model import MetricType, Value

Payload = Literal["value", "json", "line"]

PLACES = ("device", "metric")
"""What a topic to publish on can be made of."""

TIME_KEY = "time"
"""Of the time in JSON. A metric that is called the same goes by OTHER_TIME_KEY there."""

OTHER_TIME_KEY = "time_"

MEASUREMENT = "telemetry"
"""In line protocol; the device is a tag, its metrics are fields."""

SECOND_NS = 1_000_000_000

_IN_KEY = re.compile(r"[,= ]")
_IN_STRING = re.compile(r'["\\]')

Cells = list[tuple[Series, Value]]
"""The series of one device that have a value at one time, and what it is."""


class Publication(NamedTuple):
    """What is published on one template. `every_s` 0 is every reading, else the latest at that period.

    `historical`: backfill goes out, too, and is never retained. `devices` is a pattern with `*` and `?`.
    """

    topic: TopicTemplate
    payload: Payload = "value"
    qos: int = 1
    retain: bool = False
    every_s: float = 0.0
    historical: bool = False
    devices: str = "*"

    def takes(self, device: str) -> bool:
        """Whether what this device measures is published here."""
        return fnmatchcase(device, self.devices)


class MessageOrigin(NamedTuple):
    """The batch that a message is from."""

    device: str
    epoch: str
    seq: int


class MessageRow(NamedTuple):
    """What belongs in one message."""

    topic: str
    time_ns: int
    cells: Cells


def publication_problem(publication: Publication) -> str | None:
    """Why nothing can be published so, as a sentence; None when it can."""
    template = publication.topic
    if template.share:
        return f"{template.text!r} is for subscribers: leave $share/{template.share}/ out to publish"
    if any(level.wild and not level.name for level in template.levels):
        return f"{template.text!r} has '+' or '#', which nothing can be published to: name the place, as {{device}}"
    if unknown := [name for name in template.names if name not in PLACES]:
        return f"{template.text!r} has the place {{{unknown[0]}}}: there are {{device}} and {{metric}}"
    if "device" not in template.names:
        return f"{template.text!r} has no {{device}}: the readings of all devices would have one topic"
    if publication.payload == "value" and "metric" not in template.names:
        return f"{template.text!r} has no {{metric}}: a bare value does not say what it is; add it, or use json or line"
    try:
        template.fill({"device": "x" * MAX_DEVICE_ID, "metric": "\U0001fffe" * MAX_METRIC_NAME})
    except ValueError as error:
        return str(error)
    return None


class Encoder:
    """Makes the messages of one publication. Topics are kept by series and device, as many as the hub knows of them."""

    def __init__(self, publication: Publication) -> None:
        """Raises ValueError with what is wrong with the publication."""
        problem = publication_problem(publication)
        if problem is not None:
            raise ValueError(problem)
        self.publication = publication
        self._by_metric = "metric" in publication.topic.names
        self._topics: dict[int, str] = {}
        self._device_topics: dict[str, str] = {}
        self._taken: dict[str, bool] = {}
        self._payload = PAYLOADS[publication.payload]

    def takes(self, entry: Entry, batch: Batch) -> bool:
        """Whether the batch of this entry is published here."""
        if batch.historical and not self.publication.historical:
            return False
        taken = self._taken.get(entry.device)
        if taken is None:
            taken = self._taken[entry.device] = self.publication.takes(entry.device)
        return taken

    def topic_of(self, series: Series) -> str:
        """Where readings of this series go."""
        if not self._by_metric:
            return self._topic_of_device(series.device)
        topic = self._topics.get(series.id)
        if topic is None:
            topic = self.publication.topic.fill({"device": series.device, "metric": series.metric})
            self._topics[series.id] = topic
        return topic

    def rows(self, entry: Entry, batch: Batch) -> Iterator[MessageRow]:
        """What each message of a batch has in it, in the batch's order; rows without any value give none."""
        for time_ns, cells in _rows(batch):
            if self._by_metric:
                for cell in cells:
                    yield MessageRow(self.topic_of(cell[0]), time_ns, [cell])
            elif cells:
                yield MessageRow(self._topic_of_device(entry.device), time_ns, cells)

    def messages(self, entry: Entry, batch: Batch) -> Iterator[Publish]:
        """Every reading of a batch that `takes` says yes to."""
        _, _, qos, retain, *_ = self.publication
        retain = retain and not batch.historical
        for topic, time_ns, cells in self.rows(entry, batch):
            payload = self._payload(time_ns, cells)
            if payload is not None:
                yield Publish(topic, payload, qos, retain)

    def message(self, row: MessageRow) -> Publish | None:
        """One row as a message; None where the payload's format has no such value."""
        payload = self._payload(row.time_ns, row.cells)
        if payload is None:
            return None
        return Publish(row.topic, payload, self.publication.qos, self.publication.retain)

    def _topic_of_device(self, device: str) -> str:
        topic = self._device_topics.get(device)
        if topic is None:
            topic = self._device_topics[device] = self.publication.topic.fill({"device": device})
        return topic


def _rows(batch: Batch) -> Iterator[tuple[int, Cells]]:
    """The batch by rows: no value and NaN, which stands for it in arrays, are left out."""
    times: list[int] = batch.times if isinstance(batch.times, list) else batch.times.tolist()
    columns = [(series, values if isinstance(values, list) else values.tolist()) for series, values in batch.columns]
    for place, time_ns in enumerate(times):
        yield (
            time_ns,
            [(series, value) for series, values in columns if (value := values[place]) is not None and value == value],
        )


def value_text(type: MetricType, value: Value) -> str:
    """A value as people and programs read it; numbers of float metrics have their point."""
    if type == "float":
        return repr(float(value or 0.0))
    if type == "boolean":
        return "true" if value else "false"
    return str(value)


def time_text(time_ns: int) -> str:
    """ISO 8601 in UTC with nanoseconds, for the JSON of messages."""
    seconds, rest = divmod(time_ns, SECOND_NS)
    return f"{_second_text(seconds)}.{rest:09d}Z"


@lru_cache(maxsize=64)
def _second_text(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S")


def _as_value(time_ns: int, cells: Cells) -> bytes | None:
    series, value = cells[0]
    return value_text(series.type, value).encode()


def _as_json(time_ns: int, cells: Cells) -> bytes | None:
    fields: dict[str, Value] = {TIME_KEY: time_text(time_ns)}
    for series, value in cells:
        fields[series.metric if series.metric != TIME_KEY else OTHER_TIME_KEY] = value
    # Infinities, which JSON does not have, are null.
    return msgspec.json.encode(fields)


def _as_line(time_ns: int, cells: Cells) -> bytes | None:
    fields = [f"{_key(series.metric)}={text}" for series, value in cells if (text := _field_text(series.type, value))]
    if not fields:
        return None
    return f"{MEASUREMENT},device={_key(cells[0][0].device)} {','.join(fields)} {time_ns}".encode()


def _field_text(type: MetricType, value: Value) -> str | None:
    """Infinities, which line protocol does not have, are None."""
    if type == "float" and not math.isfinite(float(value or 0.0)):
        return None
    if type == "integer":
        return f"{value}i"
    if type == "string":
        return f'"{_IN_STRING.sub(_escaped, str(value))}"'
    return value_text(type, value)


def _key(text: str) -> str:
    return _IN_KEY.sub(_escaped, text)


def _escaped(match: re.Match[str]) -> str:
    return f"\\{match[0]}"


PAYLOADS: dict[Payload, Callable[[int, Cells], bytes | None]] = {"value": _as_value, "json": _as_json, "line": _as_line}


def overlaps(publications: Sequence[Publication], filters: Sequence[str]) -> list[str]:
    """Sentences: what would be published and come back at once, each with both sides named."""
    return [
        f"what is published to {publication.topic.text!r} would come back through {filter!r}, for example as "
        f"{topic!r}: give one of them another prefix"
        for publication in publications
        for filter in filters
        if (topic := overlap(filter, publication.topic)) is not None
    ]


class LatestValues:
    """The latest of what is published at a period: rows by topic, those that changed since the last `due`.

    Values of one row come together from several batches: a device's state has all of its metrics, also those that came
    on an earlier connection. Bounded by the series that the hub knows.
    """

    def __init__(self, encoder: Encoder) -> None:
        self.encoder = encoder
        self._rows: dict[str, tuple[int, dict[Series, Value], MessageOrigin]] = {}
        self._changed: dict[str, None] = {}
        self._newest_offset = self._repeated_to = 0

    @property
    def waits(self) -> bool:
        """Whether something changed."""
        return bool(self._changed)

    def begin(self) -> None:
        """A connection begins: all from the cursor on is taken in again."""
        self._changed.clear()
        self._repeated_to = self._newest_offset

    def take(self, entry: Entry, batch: Batch) -> bool:
        """Takes in a batch; whether anything of it is to be published. What is older than what is known is not."""
        if not self.encoder.takes(entry, batch):
            return False
        took = False
        self._newest_offset = max(self._newest_offset, entry.offset)
        origin = MessageOrigin(entry.device, entry.epoch, entry.seq)
        for topic, time_ns, cells in self.encoder.rows(entry, batch):
            known = self._rows.get(topic)
            if known is None:
                self._rows[topic] = (time_ns, dict(cells), origin)
            elif time_ns >= known[0]:
                known[1].update(cells)
                self._rows[topic] = (time_ns, known[1], origin)
            elif entry.offset > self._repeated_to:
                continue
            # Else it was taken in before, and may never have arrived: what is known by now goes out for it.
            self._changed[topic] = None
            took = True
        return took

    def due(self) -> list[tuple[MessageOrigin, Publish]]:
        """What changed, with the newest batch that is in it; from now on nothing has changed."""
        found = []
        for topic in self._changed:
            time_ns, cells, origin = self._rows[topic]
            message = self.encoder.message(MessageRow(topic, time_ns, list(cells.items())))
            if message is not None:
                found.append((origin, message))
        self._changed.clear()
        return found


class Sampler:
    """A publication at a period: until what it has taken in is out and acknowledged, the cursor waits before it.

    `due_s` is when it publishes next, by the event loop's clock; `hold` the offset that the cursor may not pass, None
    where nothing waits to be published.
    """

    def __init__(self, latest: LatestValues, now_s: float) -> None:
        """For one connection."""
        latest.begin()
        self._latest = latest
        self._every_s = latest.encoder.publication.every_s
        self.due_s = now_s
        self.hold: int | None = None

    def take(self, entry: Entry, batch: Batch) -> bool:
        """Takes in a batch; whether anything of it is to be published."""
        took = self._latest.take(entry, batch)
        if took and self.hold is None:
            self.hold = entry.offset - 1
        return took

    def due(self, now_s: float) -> list[tuple[MessageOrigin, Publish]]:
        """What is to be published now; empty before its time."""
        if self.hold is None or now_s < self.due_s:
            return []
        self.due_s = now_s + self._every_s
        return self._latest.due()

    def sent(self) -> None:
        """What was due is on its way, and holds the cursor by itself."""
        self.hold = None
