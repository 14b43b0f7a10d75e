"""Encoding of readings as messages."""

from __future__ import annotations

import math
import re
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hub.model.batch import Batch, Entry, EntryKind, Series
from hub.mqtt.publication import (
    Encoder,
    LatestValues,
    Payload,
    Publication,
    publication_loops,
    time_text,
)
from hub.mqtt.topics import TopicTemplate

TEMPERATURE = Series(1, "boiler", "temperature", "float", "°C")
COUNT = Series(2, "boiler", "count", "integer")
OPEN = Series(3, "boiler", "open", "boolean")
NOTE = Series(4, "boiler", "a/b note", "string")
TIME = Series(5, "boiler", "time", "float")


def publication(topic: str, payload: Payload = "value", **others: Any) -> Publication:
    return Publication(TopicTemplate.parse(topic), payload)._replace(**others)


def entry_of(batch: Batch, seq: int = 1) -> Entry:
    return Entry(EntryKind.BATCH, "boiler", "0" * 16, seq, 1, "json", b"", batch=batch, offset=seq)


def published(publication: Publication, batch: Batch) -> list[tuple[str, bytes]]:
    return [(message.topic, message.payload) for message in Encoder(publication).messages(entry_of(batch), batch)]


ROWS = Batch(
    [1_500_000_000, 2_000_000_001],
    [(TEMPERATURE, [21.5, None]), (COUNT, [7, 8]), (OPEN, [True, False]), (NOTE, ['"x" ', None])],
    readings=6,
)


def test_bare_values_have_a_topic_each_in_the_order_of_the_batch() -> None:
    """Characters that a topic cannot contain are escaped."""
    assert published(publication("hub/{device}/{metric}"), ROWS) == [
        ("hub/boiler/temperature", b"21.5"),
        ("hub/boiler/count", b"7"),
        ("hub/boiler/open", b"true"),
        ("hub/boiler/a%2Fb note", b'"x" '),
        ("hub/boiler/count", b"8"),
        ("hub/boiler/open", b"false"),
    ]


def test_json_is_a_row_with_its_time() -> None:
    """Metrics without a value at that time are left out."""
    first, second = published(publication("{device}/state", "json"), ROWS)
    assert first[0] == second[0] == "boiler/state"
    assert msgspec.json.decode(first[1]) == {
        "time": "1970-01-01T00:00:01.500000000Z",
        "temperature": 21.5,
        "count": 7,
        "open": True,
        "a/b note": '"x" ',
    }
    assert msgspec.json.decode(second[1]) == {"time": "1970-01-01T00:00:02.000000001Z", "count": 8, "open": False}


def test_a_metric_with_the_name_time_does_not_replace_the_time() -> None:
    """It has another key."""
    batch = Batch([0], [(TIME, [3.5])], readings=1)
    assert published(publication("{device}", "json"), batch) == [
        ("boiler", b'{"time":"1970-01-01T00:00:00.000000000Z","time_":3.5}')
    ]


def test_line_protocol_has_the_device_as_its_tag() -> None:
    """Integers have their suffix, names and strings are escaped, infinities are left out."""
    assert published(publication("{device}", "line"), ROWS)[0][1] == (
        b'telemetry,device=boiler temperature=21.5,count=7i,open=true,a/b\\ note="\\"x\\" " 1500000000'
    )
    assert published(publication("{device}", "line"), Batch([1], [(TEMPERATURE, [math.inf])], readings=1)) == []


def test_arrays_are_read_like_lists() -> None:
    """NaN means no value."""
    batch = Batch(np.array([1, 2]), [(TEMPERATURE, np.array([math.nan, 2.0]))], readings=1)
    assert published(publication("{device}/{metric}"), batch) == [("boiler/temperature", b"2.0")]


@given(st.lists(st.tuples(st.floats(allow_nan=False) | st.none(), st.integers(-(2**63), 2**63 - 1) | st.none())))
def test_every_value_is_published_once_and_reads_back(rows: list[tuple[float | None, int | None]]) -> None:
    """Its text can be parsed to the same value."""
    batch = Batch(
        list(range(len(rows))), [(TEMPERATURE, [row[0] for row in rows]), (COUNT, [row[1] for row in rows])], readings=0
    )
    messages = published(publication("{device}/{metric}"), batch)
    assert [float(text) for topic, text in messages if topic.endswith("temperature")] == [
        row[0] for row in rows if row[0] is not None
    ]
    assert [int(text) for topic, text in messages if topic.endswith("count")] == [
        row[1] for row in rows if row[1] is not None
    ]


def test_the_latest_row_of_each_topic_is_due_once() -> None:
    """A row combines several batches. Older values than the known ones change nothing."""
    latest = LatestValues(Encoder(publication("{device}", "json", every_s=1.0)))
    for seq, (time_ns, series, value) in enumerate(
        [(5, TEMPERATURE, 1.0), (9, TEMPERATURE, 2.0), (10, COUNT, 3), (7, TEMPERATURE, 4.0)], start=1
    ):
        batch = Batch([time_ns], [(series, [value])], readings=1)
        assert latest.add(entry_of(batch, seq), batch) == (seq != 4)
    ((origin, message),) = latest.due(0.0)
    assert origin == ("boiler", "0" * 16, 3)
    assert message.payload == b'{"time":"1970-01-01T00:00:00.000000010Z","temperature":2.0,"count":3}'
    assert latest.due(1.0) == []


def test_times_have_all_their_nanoseconds() -> None:
    """This holds up to the latest time."""
    assert time_text(2**63 - 1) == "2262-04-11T23:47:16.854775807Z"


def test_devices_and_backfill_are_selected() -> None:
    """Devices are selected by a pattern. Backfill must be configured and is never retained."""
    past = Batch([1], [(COUNT, [1])], readings=1, historical=True)
    assert not Encoder(publication("{device}/{metric}")).takes(entry_of(past), past)
    asked = Encoder(publication("{device}/{metric}", historical=True, retain=True))
    assert asked.takes(entry_of(past), past)
    assert [message.retain for message in asked.messages(entry_of(past), past)] == [False]
    assert not Encoder(publication("{device}/{metric}", devices="x*")).takes(entry_of(ROWS), ROWS)


@pytest.mark.parametrize(
    ("topic", "payload", "problem"),
    [
        ("hub/{metric}", "json", "no {device}"),
        ("hub/{device}", "value", "no {metric}"),
        ("hub/{device}/{site}", "json", "{site}"),
        ("hub/{device}/+", "json", "'+'"),
        ("$share/group/{device}", "json", "$share/group/"),
        ("x" * 64_500 + "{device}/{metric}", "value", "65535"),
    ],
)
def test_an_invalid_publication_is_explained(topic: str, payload: Payload, problem: str) -> None:
    """The sentence is available before anything starts."""
    with pytest.raises(ValueError, match=re.escape(problem)):
        Encoder(publication(topic, payload))


def test_a_publication_that_would_return_is_rejected() -> None:
    """The sentence names both templates and a common topic."""
    mine = [publication("hub/{device}/{metric}")]
    assert publication_loops(mine, ["sensors/#", "other/+/+"]) == []
    (sentence,) = publication_loops(mine, ["sensors/#", "+/boiler/#"])
    assert "'hub/{device}/{metric}'" in sentence
    assert "'+/boiler/#'" in sentence


A, B = Series(1, "d", "a", "float"), Series(2, "d", "b", "float")


def entry(offset: int, time_ns: int, series: Series, value: float) -> tuple[Entry, Batch]:
    batch = Batch([time_ns], [(series, [value])], readings=1)
    return Entry(EntryKind.BATCH, "d", "0" * 16, offset, 0, "msgpack", b"", batch=batch, offset=offset), batch


def latest() -> LatestValues:
    return LatestValues(Encoder(Publication(TopicTemplate.parse("{device}/state"), "json", every_s=10.0)))


def payloads(latest: LatestValues, now_s: float) -> list[bytes]:
    return [message.payload for _, message in latest.due(now_s)]


def test_the_state_of_a_device_survives_the_connection() -> None:
    """Values from an earlier connection are part of the next message, if anything changed."""
    kept = latest()
    kept.add(*entry(1, 5, A, 1.0))
    assert len(payloads(kept, 0.0)) == 1
    kept.begin(20.0)
    assert payloads(kept, 20.0) == []
    kept.add(*entry(2, 6, B, 2.0))
    (payload,) = payloads(kept, 20.0)
    assert b'"a":1' in payload and b'"b":2' in payload  # noqa: PT018


def test_a_repeated_entry_publishes_the_latest_value() -> None:
    """After the connection broke, the same entries are added again, some of them older than the latest value."""
    kept = latest()
    for offset, time_ns, value in ((1, 5, 1.0), (2, 6, 2.0)):
        kept.add(*entry(offset, time_ns, A, value))
    kept.begin(0.0)
    assert kept.add(*entry(1, 5, A, 1.0))
    assert kept.hold == 0
    (payload,) = payloads(kept, 0.0)
    assert b'"a":2' in payload


def test_a_late_reading_is_not_the_latest() -> None:
    """A new reading with an older time changes nothing."""
    kept = latest()
    kept.add(*entry(1, 6, A, 2.0))
    kept.due(0.0)
    assert not kept.add(*entry(2, 5, A, 1.0))
