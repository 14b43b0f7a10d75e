"""Combination of templates and payloads into devices and metrics."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from formats.message import DecodedRow
from formats.names import legal_device
from formats.record import RefusedInput
from formats.rules import rules_of
from hub.mqtt.decoders.fields import DecoderContext
from hub.mqtt.decoders.mapping import MappedDecoder, TopicMapping
from hub.mqtt.message import Decoded, DeviceDeclaration, Message, Undecodable
from tests.formats.reading_of import at
from wire.model import DeviceId, Metric, MetricName

NS = 1_700_000_000_000_000_000


def decoder_of(
    topic: str,
    payload: Any = "json",
    *,
    function: Path | None = None,
    context: DecoderContext | None = None,
    **rules: Any,
) -> MappedDecoder:
    """Return the decoder of a subscription with these rules."""
    mapping = TopicMapping(topic, payload, function=function, rules=rules_of(rules))
    return MappedDecoder(mapping, context or DecoderContext())


def found(topic: str, content: bytes, payload: str = "json", **settings: Any) -> Sequence[Decoded]:
    """Return the results of decoding a message to a/b/c with these settings."""
    return decoder_of(topic, payload, **settings).decode(Message("a/b/c", content, received_ns=NS))


def test_device_metric_and_tags_come_from_the_topic() -> None:
    """A placeholder other than device and metric is a tag, which is declared once; so is a name that was repaired."""
    decoder = decoder_of("{site}/{device}/{metric}", "value")
    assert decoder.filters == ["+/+/+"]
    device = legal_device("boiler 1")
    row = DecodedRow(device, {"temperature": 21.0})
    assert decoder.decode(Message("plant/boiler 1/temperature", b"21")) == [
        DeviceDeclaration(device, (), {"site": "plant", "name": "boiler 1"}),
        row,
    ]
    assert decoder.decode(Message("plant/boiler 1/temperature", b"21")) == [row]
    assert decoder.decode(Message("other/boiler 1/temperature", b"21")) == [
        DeviceDeclaration(device, (), {"site": "other", "name": "boiler 1"}),
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
        ("a/b/c", b'{"device": "7", "t": 1}', {}, [DecodedRow("7", {"t": 1.0})]),
        ("a/b/c", b'{"device": "x", "t": 1, "ts": 1700000000}', {}, [DecodedRow("x", {"t": 1.0}, NS)]),
        (
            "a/b/c",
            b'{"model": "WH", "id": 144, "t": 1}',
            {"device": "{model}-{id}"},
            [DecodedRow("WH-144", {"t": 1.0})],
        ),
        (
            "a/b/c",
            b'[{"bn": "d-1", "n": "t", "u": "Cel", "v": 2}]',
            {"payload": "senml"},
            [DeviceDeclaration("d-1", [Metric("t", "float", "°C")]), DecodedRow("d-1", {"t": 2.0})],
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
            [DeviceDeclaration("h", [Metric("m.x", "integer")]), DecodedRow("h", {"m.x": 1})],
        ),
        (
            "a/{device}/c",
            b"m x=1 5",
            {"payload": "line", "time_format": "s"},
            [DecodedRow("b", {"m.x": 1.0}, 5 * 10**9)],
        ),
        (
            "a/{device}/c",
            b"t=21.5 \xc2\xb0C h=40",
            {"payload": "auto"},
            [DeviceDeclaration("b", [Metric("t", "float", "°C")]), DecodedRow("b", {"t": 21.5, "h": 40.0})],
        ),
        (
            "a/{device}/c",
            b'{"t": "1.234,5", "k": "ERR", "n": 3, "x": 1}',
            {"decimal": ",", "no_value": ["err"], "types": {"n": "integer"}, "columns": {"t": "T", "k": "K", "n": "n"}},
            [DeviceDeclaration("b", [Metric("n", "integer")]), DecodedRow("b", {"T": 1234.5, "n": 3})],
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
        ("a/b/c", b'{"id": 1}', {"device": "{model}-{id}"}, "device"),
        ("a/{device}/c", b'{"t": ' + b"9" * 400 + b"}", {}, "number"),
        ("a/{device}/c", b'{"t": "' + b"x" * 65_537 + b'"}', {}, "size"),
        ("a/{device}/c", b"{", {}, "syntax"),
        ("a/{device}/c", b'{"ts": "soon", "t": 1}', {"time": "ts"}, "time"),
    ],
)
def test_a_message_that_does_not_fit_is_refused(
    topic: str, payload: bytes, settings: dict[str, Any], code: str
) -> None:
    """Each reason has its own code."""
    assert [refusal.code for refusal in found(topic, payload, **settings) if isinstance(refusal, RefusedInput)] == [
        code
    ]
    with pytest.raises(Undecodable, match="does not match"):
        found("x/{device}", payload)


def test_values_and_lines_are_refused_one_by_one() -> None:
    """The neighbours of what is wrong are read."""
    for wrong, code in ((b'm a="x" 2', "type"), (b"m a=one 2", "syntax")):
        content = b"m a=1 1\n" + wrong + b"\nm a=3 3"
        first, second, refusal = decoder_of("l/{device}", "line").decode(Message("l/multi", content))
        assert [first, second] == [DecodedRow("multi", {"m.a": 1.0}, 1), DecodedRow("multi", {"m.a": 3.0}, 3)]
        assert isinstance(refusal, RefusedInput)
        assert (refusal.code, refusal.raw) == (code, wrong)


def test_a_local_time_has_the_zone_of_the_subscription_or_of_the_hub() -> None:
    """The zone of the subscription wins."""
    payload = b'{"time": "2026-11-28 16:05:42", "t": 1}'
    context = DecoderContext(zone=ZoneInfo("Asia/Tokyo"))
    for zone, time in (("Europe/Berlin", "2026-11-28T15:05:42Z"), ("", "2026-11-28T07:05:42Z")):
        decoder = decoder_of("a/{device}/c", zone=zone, context=context)
        (row,) = decoder.decode(Message("a/b/c", payload, received_ns=at("2026-11-28T15:05:43Z")))
        assert row == DecodedRow("b", {"t": 1.0}, at(time))


def test_the_type_in_the_hub_wins() -> None:
    """A message of text for a number is refused, and the next one is stored."""
    context = DecoderContext(known_type=lambda device, metric: "float")
    decoder = decoder_of("a/{device}/{metric}", "value", context=context)
    (refusal,) = decoder.decode(Message("a/b/c", b"ERR"))
    assert isinstance(refusal, RefusedInput)
    assert (refusal.device, refusal.metric, refusal.value) == ("b", "c", "ERR")
    assert decoder.decode(Message("a/b/c", b"21.5")) == [DecodedRow("b", {"c": 21.5})]


def test_a_user_function_decodes_payloads(tmp_path: Path) -> None:
    """It gets the topic, and returns a dict like a JSON object, a list of them, or None. An error costs one message."""
    path = tmp_path / "mine.py"
    path.write_text(
        "import struct\n"
        "def decode(topic, payload):\n"
        "    if not payload:\n"
        "        return None\n"
        "    low, high = struct.unpack('<hh', payload)\n"
        "    return [{'low': low, 'in': {'high': high / 10}, 'ts': 1700000000}, {'topic': topic}]\n"
    )
    decoder = decoder_of("a/{device}/c", "function", function=path)
    assert decoder.decode(Message("a/b/c", b"\x01\x00\x05\x00")) == [
        DecodedRow("b", {"low": 1.0, "in.high": 0.5}, NS),
        DecodedRow("b", {"topic": "a/b/c"}),
    ]
    assert decoder.decode(Message("a/b/c", b"")) == []
    (refusal,) = decoder.decode(Message("a/b/c", b"\x1f\x8b"))
    assert isinstance(refusal, RefusedInput)
    assert (refusal.code, "unpack" in refusal.reason) == ("function", True)


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (None, "file not found"),
        ("def decode(:", "SyntaxError"),
        ("x = 1", "does not define decode"),
        ("def decode(topic, payload): return {}\nSAMPLES = [('a', b'5', {'a': 5})]", "sample 1"),
    ],
)
def test_a_file_without_the_function_is_an_error_at_the_start(tmp_path: Path, content: str | None, why: str) -> None:
    """The error is one sentence."""
    path = tmp_path / "mine.py"
    if content is not None:
        path.write_text(content)
    with pytest.raises(ValueError, match=why):
        decoder_of("a/{device}", "function", function=path)


@given(st.text(min_size=1, max_size=80), st.dictionaries(st.text(max_size=200), st.floats(allow_nan=False) | st.text()))
@example("a", {"": 1.0})
@example("a", {" ": 1.0, "_": 2.0})
def test_all_names_are_legal(device: str, values: dict[str, float | str]) -> None:
    """Every name of a device or a value becomes a legal one. Long names are shortened."""
    decoder = decoder_of("{device#}")
    payload = msgspec.json.encode(values)
    for row in decoder.decode(Message(device, payload)) if decoder.takes(device) else []:
        if isinstance(row, DecodedRow):
            msgspec.convert(row.device, DeviceId)
            msgspec.convert(list(row.values), list[MetricName])


@pytest.mark.parametrize(
    ("topic", "settings"),
    [
        ("a/{device", {}),
        ("a/{device}", {"time_format": "soon"}),
        ("a/{device}", {"payload": "line", "time_format": "iso8601"}),
        ("a/{device}", {"payload": "function"}),
        ("a/{device}", {"payload": "function", "function": Path("/nowhere/mine.py")}),
    ],
)
def test_invalid_settings_are_rejected(topic: str, settings: dict[str, Any]) -> None:
    """This happens before the bridge subscribes to anything."""
    with pytest.raises(ValueError, match=r"."):
        decoder_of(topic, **settings)
