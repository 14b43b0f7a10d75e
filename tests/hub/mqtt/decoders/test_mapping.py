"""Combination of templates and payloads into devices and metrics."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from formats.names import legal_device
from hub.mqtt.decoders.mapping import MappedDecoder, TopicMapping
from hub.mqtt.message import Decoded, DecodedReading, DecodedRow, DeviceDeclaration, Message, Undecodable
from wire.model import DeviceId, MetricName

NS = 1_700_000_000_000_000_000


def found(topic: str, content: bytes, **settings: Any) -> list[Decoded]:
    """Return the results of decoding a message to a/b/c with these settings."""
    return MappedDecoder(TopicMapping(topic, **settings)).decode(Message("a/b/c", content, received_ns=NS))


def test_device_metric_and_tags_come_from_the_topic() -> None:
    """A placeholder other than device and metric is a tag, which is declared once."""
    decoder = MappedDecoder(TopicMapping("{site}/{device}/{metric}", "value"))
    assert decoder.filters == ["+/+/+"]
    device = legal_device("boiler 1")
    row = DecodedRow(device, {"temperature": 21.0})
    assert decoder.decode(Message("plant/boiler 1/temperature", b"21")) == [
        DeviceDeclaration(device, (), {"site": "plant"}),
        row,
    ]
    assert decoder.decode(Message("plant/boiler 1/temperature", b"21")) == [row]
    assert decoder.decode(Message("other/boiler 1/temperature", b"21")) == [
        DeviceDeclaration(device, (), {"site": "other"}),
        row,
    ]


@pytest.mark.parametrize(
    ("topic", "payload", "settings", "expected"),
    [
        ("a/{device}/c", b'{"t": 1, "in": {"x": true}}', {}, [DecodedRow("b", {"t": 1.0, "in.x": True})]),
        ("a/{device}/{metric}", b'{"value": 1, "min": 2}', {}, [DecodedRow("b", {"c": 1.0, "c.min": 2.0})]),
        ("a/b/{metric}", b"1", {"payload": "value", "device": "fixed"}, [DecodedRow("fixed", {"c": 1.0})]),
        (
            "a/{x}/{device}",
            b'{"t": 1}',
            {"device": "{x}-{device}"},
            [DeviceDeclaration("b-c", (), {"x": "b"}), DecodedRow("b-c", {"t": 1})],
        ),
        ("a/b/c", b'{"device": 7, "t": 1}', {}, [DecodedRow("7", {"t": 1.0})]),
        ("a/b/c", b'{"device": "x", "t": 1, "ts": 1700000000}', {}, [DecodedRow("x", {"t": 1.0}, NS)]),
        (
            "a/b/c",
            b'[{"bn": "d-1", "n": "t", "u": "Cel", "v": 2}]',
            {"payload": "senml"},
            [DecodedReading("d-1", "t", 2.0, None, "°C")],
        ),
        (
            "a/{device}/c",
            b'[{"n": "t", "v": 2, "bt": 1700000000}]',
            {"payload": "senml"},
            [DecodedRow("b", {"value": 2.0}, NS)],
        ),
        ("a/b/c", b"disk,host=h,path=/ used=1 5", {"payload": "line"}, [DecodedRow("h", {"disk./.used": 1.0}, 5)]),
        (
            "a/b/c",
            b"m,host=h x=1i",
            {"payload": "line"},
            [DecodedReading("h", "m.x", 1, None, "", "integer")],
        ),
        (
            "a/{device}/c",
            b"m x=1 5",
            {"payload": "line", "time_format": "s"},
            [DecodedRow("b", {"m.x": 1.0}, 5 * 10**9)],
        ),
    ],
)
def test_device_and_metric_come_from_every_source(
    topic: str, payload: bytes, settings: dict[str, Any], expected: list[Decoded]
) -> None:
    """The sources are the topic, the settings, a field, a tag, and the base name of SenML."""
    assert found(topic, payload, **settings) == expected


@pytest.mark.parametrize(
    ("topic", "payload", "settings", "code"),
    [
        ("a/b/c", b'{"t": 1}', {}, "device"),
        ("a/b/c", b"m x=1", {"payload": "line"}, "device"),
        ("a/{device}/c", b'{"t": ' + b"9" * 400 + b"}", {}, "out_of_range"),
        ("a/{device}/c", b'{"t": "' + b"x" * 65_537 + b'"}', {}, "out_of_range"),
        ("a/{device}/c", b"21.5", {}, "shape"),
        ("x/{device}", b"21.5", {}, "topic"),
    ],
)
def test_a_message_that_does_not_fit_is_undecodable(
    topic: str, payload: bytes, settings: dict[str, Any], code: str
) -> None:
    """Each reason has its own code."""
    with pytest.raises(Undecodable) as refused:
        found(topic, payload, **settings)
    assert refused.value.code == code


@given(st.text(min_size=1, max_size=80), st.dictionaries(st.text(max_size=200), st.floats(allow_nan=False) | st.text()))
@example("a", {"": 1.0})
@example("a", {" ": 1.0, "_": 2.0})
def test_all_names_are_legal(device: str, values: dict[str, float | str]) -> None:
    """Every name of a device or a value becomes a legal one. Long names are shortened."""
    decoder = MappedDecoder(TopicMapping("{device#}"))
    payload = msgspec.json.encode(values)
    try:
        rows = decoder.decode(Message(device, payload)) if decoder.takes(device) else []
    except Undecodable:
        return
    for row in rows:
        assert isinstance(row, DecodedRow)
        msgspec.convert(row.device, DeviceId)
        msgspec.convert(list(row.values), list[MetricName])


@pytest.mark.parametrize(
    "settings",
    [
        {"topic": "a/{device"},
        {"topic": "a/{device}", "time_format": "soon"},
        {"topic": "a/{device}", "payload": "line", "time_format": "iso8601"},
        {"topic": "a/{device}", "payload": "function"},
        {"topic": "a/{device}", "payload": "function", "function": Path("/nowhere/mine.py")},
    ],
)
def test_invalid_settings_are_rejected(settings: dict[str, Any]) -> None:
    """This happens before the bridge subscribes to anything."""
    with pytest.raises(ValueError, match=r"."):
        MappedDecoder(TopicMapping(**settings))
