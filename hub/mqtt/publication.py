"""Readings as messages: topics, payloads, and the latest values for periodic publications. Pure.

A bare value is text in UTF-8: `21.5`, `true`, `open`. JSON is one object for each row of a batch with its time and the
values of the device: `{"time":"2026-01-31T12:00:00.250000000Z","temperature":21.5}`. Line protocol is that of
InfluxDB.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from fnmatch import fnmatchcase
from functools import cache, lru_cache
from typing import Literal, NamedTuple

import msgspec

from hub.model.batch import Batch, Entry, Series
from hub.mqtt.message import Publish
from hub.mqtt.topics import TopicTemplate, overlap
from wire.limits import MAX_DEVICE_ID, MAX_METRIC_NAME
from wire.model import MetricType, Value

Payload = Literal["value", "json", "line"]

PLACEHOLDERS = ("device", "metric")
"""Placeholders of a topic to publish to."""

TIME_KEY = "time"
OTHER_TIME_KEY = "time_"
"""Key of the time in JSON, and the key of a metric that has the same name."""

MEASUREMENT = "telemetry"
"""Measurement in line protocol. The device is a tag, its metrics are fields."""

SECOND_NS = 1_000_000_000

_IN_KEY = re.compile(r"[,= ]")
_IN_STRING = re.compile(r'["\\]')

Cells = list[tuple[Series, Value]]
"""Series of one device with their values at one time."""


class Publication(NamedTuple):
    """Publication to one topic template: every reading, or with `every_s` the latest at that period.

    With `historical`, backfill is published, too; it is never retained. `devices` is a pattern with `*` and `?`.
    """

    topic: TopicTemplate
    payload: Payload = "value"
    qos: int = 1
    retain: bool = False
    every_s: float = 0.0
    historical: bool = False
    devices: str = "*"

    def takes(self, device: str) -> bool:
        """Return whether the readings of this device are published."""
        return fnmatchcase(device, self.devices)


class MessageOrigin(NamedTuple):
    """Batch from which a message was made."""

    device: str
    epoch: str
    seq: int


def check_publication(publication: Publication) -> None:
    """Raise ValueError with a sentence about an invalid publication."""
    template = publication.topic
    if template.share:
        raise ValueError(f"{template.text!r} is a shared subscription; remove $share/{template.share}/ to publish")
    if any(level.wild and not level.name for level in template.levels):
        raise ValueError(f"nothing can be published to '+' or '#' in {template.text!r}; use a placeholder")
    if unknown := [name for name in template.names if name not in PLACEHOLDERS]:
        raise ValueError(
            f"{template.text!r} has the unknown placeholder {{{unknown[0]}}}; use {{device}} and {{metric}}"
        )
    if "device" not in template.names:
        raise ValueError(f"{template.text!r} has no {{device}}: the readings of all devices would have one topic")
    if publication.payload == "value" and "metric" not in template.names:
        raise ValueError(f"{template.text!r} has no {{metric}}: a bare value does not name it; use json or line")
    template.fill({"device": "x" * MAX_DEVICE_ID, "metric": "\U0001fffe" * MAX_METRIC_NAME})


class Encoder:
    """Encoder of the messages of one publication. It keeps the topic of each series and device."""

    def __init__(self, publication: Publication) -> None:
        """Raises ValueError for an invalid publication."""
        check_publication(publication)
        self.publication = publication
        self._by_metric = "metric" in publication.topic.names
        self._topic = cache(self._fill_topic)
        self._takes_device = cache(publication.takes)
        self._payload = PAYLOADS[publication.payload]

    def takes(self, entry: Entry, batch: Batch) -> bool:
        """Return whether the batch of this entry is published."""
        return (self.publication.historical or not batch.historical) and self._takes_device(entry.device)

    def topic_of(self, series: Series) -> str:
        """Return the topic of a series."""
        return self._topic(series.device, series.metric if self._by_metric else "")

    def rows(self, entry: Entry, batch: Batch) -> Iterator[tuple[str, int, Cells]]:
        """Return topic, time and content of each message of a batch, in its order. Rows without a value have none."""
        for time_ns, cells in _rows(batch):
            if self._by_metric:
                for cell in cells:
                    yield self.topic_of(cell[0]), time_ns, [cell]
            elif cells:
                yield self._topic(entry.device, ""), time_ns, cells

    def messages(self, entry: Entry, batch: Batch) -> Iterator[Publish]:
        """Return the messages for every reading of a batch for which `takes` is true."""
        for topic, time_ns, cells in self.rows(entry, batch):
            message = self.message(topic, time_ns, cells, historical=batch.historical)
            if message is not None:
                yield message

    def message(self, topic: str, time_ns: int, cells: Cells, *, historical: bool = False) -> Publish | None:
        """Return the message for one row, or None if the payload's format cannot express it."""
        payload = self._payload(time_ns, cells)
        if payload is None:
            return None
        return Publish(topic, payload, self.publication.qos, self.publication.retain and not historical)

    def _fill_topic(self, device: str, metric: str) -> str:
        return self.publication.topic.fill({"device": device, "metric": metric})


def _rows(batch: Batch) -> Iterator[tuple[int, Cells]]:
    """Return the rows of the batch, without missing values and NaN, which means a missing value in arrays."""
    times: list[int] = batch.times if isinstance(batch.times, list) else batch.times.tolist()
    columns = [(series, values if isinstance(values, list) else values.tolist()) for series, values in batch.columns]
    for index, time_ns in enumerate(times):
        yield (
            time_ns,
            [(series, value) for series, values in columns if (value := values[index]) is not None and value == value],
        )


def value_text(type: MetricType, value: Value) -> str:
    """Return the text of a value. Numbers of float metrics always have a decimal point."""
    if type == "float":
        return repr(float(value or 0.0))
    if type == "boolean":
        return "true" if value else "false"
    return str(value)


def time_text(time_ns: int) -> str:
    """Return a time in ISO 8601, in UTC with nanoseconds."""
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
    # JSON has no infinities: msgspec writes null.
    return msgspec.json.encode(fields)


def _as_line(time_ns: int, cells: Cells) -> bytes | None:
    fields = [f"{_key(series.metric)}={text}" for series, value in cells if (text := _field_text(series.type, value))]
    if not fields:
        return None
    return f"{MEASUREMENT},device={_key(cells[0][0].device)} {','.join(fields)} {time_ns}".encode()


def _field_text(type: MetricType, value: Value) -> str | None:
    """Return a field value, or None for an infinity, which line protocol cannot express."""
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


def publication_loops(publications: Sequence[Publication], filters: Sequence[str]) -> list[str]:
    """Return a sentence for each publication whose messages a subscription would receive again."""
    return [
        f"messages published to {publication.topic.text!r} would return through the subscription {filter!r}, for "
        f"example with the topic {topic!r}; give one of them another prefix"
        for publication in publications
        for filter in filters
        if (topic := overlap(filter, publication.topic)) is not None
    ]


class LatestValues:
    """Latest row of each topic of a periodic publication, and the topics that changed since the last `due`.

    A row combines several batches: the state of a device has all of its metrics, also those from before the current
    connection. Bounded by the number of series in the hub. The cursor waits until what was added is published and
    acknowledged.

    `due_s` is the time of the next messages on the event loop's clock. `hold` is the offset that the cursor must not
    pass, or None if nothing waits.
    """

    def __init__(self, encoder: Encoder) -> None:
        self._encoder = encoder
        self._rows: dict[str, tuple[int, dict[Series, Value], MessageOrigin]] = {}
        self._changed: dict[str, None] = {}
        self._newest_offset = self._repeated_to = 0
        self.due_s = 0.0
        self.hold: int | None = None

    def begin(self, now_s: float) -> None:
        """Start a connection. Entries after the cursor are added again."""
        self._changed.clear()
        self._repeated_to = self._newest_offset
        self.due_s, self.hold = now_s, None

    def add(self, entry: Entry, batch: Batch) -> bool:
        """Add a batch and return whether any of it is to be published. Older rows than the latest are not."""
        if not self._encoder.takes(entry, batch):
            return False
        is_added = False
        self._newest_offset = max(self._newest_offset, entry.offset)
        origin = MessageOrigin(entry.device, entry.epoch, entry.seq)
        for topic, time_ns, cells in self._encoder.rows(entry, batch):
            known = self._rows.get(topic)
            if known is None:
                self._rows[topic] = (time_ns, dict(cells), origin)
            elif time_ns >= known[0]:
                known[1].update(cells)
                self._rows[topic] = (time_ns, known[1], origin)
            elif entry.offset > self._repeated_to:
                continue
            # A repeated entry may never have arrived at the broker: publish the latest row instead.
            self._changed[topic] = None
            is_added = True
        if is_added and self.hold is None:
            self.hold = entry.offset - 1
        return is_added

    def due(self, now_s: float) -> list[tuple[MessageOrigin, Publish]]:
        """Return the changed rows as messages with the newest batch of each and release the hold; none before the time.

        The sent messages hold the cursor until they are acknowledged.
        """
        if self.hold is None or now_s < self.due_s:
            return []
        self.due_s, self.hold = now_s + self._encoder.publication.every_s, None
        found = []
        for topic in self._changed:
            time_ns, cells, origin = self._rows[topic]
            message = self._encoder.message(topic, time_ns, list(cells.items()))
            if message is not None:
                found.append((origin, message))
        self._changed.clear()
        return found
