"""The trial of a bridge: what it would take from a broker, without storing anything."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from formats.rules import Rules
from hub.mqtt import check as module
from hub.mqtt.check import BROKER_VERSION, MAX_SHAPES, BrokerCheck
from hub.mqtt.connection import BrokerError, BrokerOptions
from hub.mqtt.decoders.configured import configured_decoders
from hub.mqtt.decoders.fields import DecoderContext
from hub.mqtt.decoders.mapping import TopicMapping
from hub.mqtt.message import Message, Publish
from tests.conditions import until
from tests.formats.reading_of import at
from tests.hub.mqtt.connection import connected
from tests.hub.mqtt.directory import Directory
from tests.hub.mqtt.small_broker import ReceivedPublish, small_broker
from tests.services.mosquitto import Mosquitto

VALUES = TopicMapping("s/{device}/{metric}", "value")
OBJECTS = TopicMapping("s/{device}/#", "json")


FLOW = {"device": "pump", "metric": "flow", "type": "float", "value": 2.5, "unit": ""}


def check_of(*mappings: TopicMapping, port: int = 1883, share: str = "", presets: Sequence[str] = ()) -> BrokerCheck:
    options = BrokerOptions("127.0.0.1", port, "check")
    return BrokerCheck(options, configured_decoders(mappings, presets, share=share), Directory())


async def test_a_report_shows_the_newest_reading_of_each_series() -> None:
    """With the type that would be stored, by topic; messages and retained ones are counted."""
    check = check_of(VALUES)
    await check.add(Message("s/pump/flow", b"1", retain=True))
    await check.add(Message("s/pump/flow", b"2.5"))
    await check.add(Message("s/pump/state", b"idle"))
    state, flow = reversed(check.topic_report())
    assert flow == {
        "topic": "s/pump/flow",
        "messages": 2,
        "retained": 1,
        "taken_by": "s/{device}/{metric}",
        "also_matches": [],
        "readings": [FLOW],
        "refused": {},
        "shapes": [{"messages": 2, "example": "1", "readings": [FLOW], "refused": [], "duplicate": False}],
    }
    assert [reading["type"] for reading in state["readings"]] == ["string"]  # type: ignore[attr-defined]


async def test_a_row_is_reported_as_its_readings() -> None:
    """In order of metrics."""
    check = check_of(OBJECTS)
    await check.add(Message("s/pump/x", b'{"b": true, "a": 1}'))
    (topic,) = check.topic_report()
    readings = topic["readings"]
    assert isinstance(readings, list)
    assert [(r["metric"], r["type"], r["value"]) for r in readings] == [("a", "float", 1.0), ("b", "boolean", True)]


async def test_the_first_decoder_takes_a_topic_and_the_others_are_named() -> None:
    """A topic that nothing takes is reported without a reading."""
    check = check_of(VALUES, OBJECTS)
    await check.add(Message("s/pump/flow", b"1"))
    await check.add(Message("s/pump/flow/deep", b"{}"))
    await check.add(Message("other", b"1"))
    found = {topic["topic"]: (topic["taken_by"], topic["also_matches"]) for topic in check.topic_report()}
    assert found == {
        "other": (None, []),
        "s/pump/flow": ("s/{device}/{metric}", ["s/{device}/#"]),
        "s/pump/flow/deep": ("s/{device}/#", []),
    }


async def test_a_message_that_cannot_be_decoded_shows_why() -> None:
    """One sentence for each code; the readings of other messages of the topic stay."""
    check = check_of(OBJECTS)
    await check.add(Message("s/pump/x", b'{"a": 1}'))
    await check.add(Message("s/pump/x", b"{"))
    (topic,) = check.topic_report()
    assert len(topic["readings"]) == 1  # type: ignore[arg-type]
    refused = topic["refused"]
    assert isinstance(refused, dict)
    assert len(refused) == 1


async def test_each_shape_of_messages_is_reported_with_what_would_be_refused() -> None:
    """The inbound side refuses by the types of the messages before, and says which setting changes it."""
    check = check_of(OBJECTS)
    for payload in (b'{"a": 1, "b": "x"}', b'{"a": 2, "b": "y"}', b'{"a": "ERR", "b": "z"}', b'{"c": "22 \xc2\xb0C"}'):
        await check.add(Message("s/pump/x", payload))
    (topic,) = check.topic_report()
    shapes: Any = topic["shapes"]
    good, bad, unit = shapes
    assert (good["messages"], good["example"], good["refused"]) == (2, '{"a": 1, "b": "x"}', [])
    assert [(reading["metric"], reading["value"]) for reading in bad["readings"]] == [("b", "z")]
    (refused,) = bad["refused"]
    assert (refused["metric"], refused["value"], refused["setting"]) == (
        "a",
        "ERR",
        'no_value = ["ERR"] or types.a = "string"',
    )
    assert [(reading["value"], reading["unit"]) for reading in unit["readings"]] == [(22.0, "°C")]


async def test_a_message_that_is_no_json_names_the_setting_that_reads_it() -> None:
    """With a topic for the settings, whose last level is the metric. Broken JSON needs no other setting."""
    check = check_of(TopicMapping("#", rules=Rules(device="all")))
    await check.add(Message("home/hall/door", b"open"))
    await check.add(Message("home/hall/json", b'{"a": 1'))
    await check.add(Message("state", b"online"))
    door, broken, state = check.topic_report()
    setting = 'topic = "home/{device}/{metric}", payload = "value"'
    assert str(door["refused"]["syntax"]).endswith(f"; set {setting}")  # type: ignore[index]
    assert "; set" not in str(broken["refused"])
    assert str(state["refused"]["syntax"]).endswith('; set topic = "{metric}", payload = "value", device = "ID"')  # type: ignore[index]


async def test_a_repeated_message_is_reported_as_a_duplicate() -> None:
    """It has no reading because an earlier message had them, with the same time."""
    check = check_of(OBJECTS)
    for _ in range(2):
        await check.add(Message("s/pump/x", b'{"time": "2026-01-31T12:00:00Z", "a": 1}'))
    await check.add(Message("s/pump/x", b"{}"))
    (topic,) = check.topic_report()
    shapes: Any = topic["shapes"]
    assert [(len(shape["readings"]), shape["duplicate"]) for shape in shapes] == [(1, False), (0, True), (0, False)]


async def test_the_types_of_the_hub_are_those_of_the_check() -> None:
    """A metric that the hub knows with another type is refused as the hub would refuse it."""
    context = DecoderContext(known_type=lambda device, metric: "boolean")
    options = BrokerOptions("127.0.0.1", 1883, "check")
    check = BrokerCheck(options, configured_decoders([OBJECTS], [], context=context), Directory())
    await check.add(Message("s/pump/x", b'{"a": 21.5, "b": true}'))
    (topic,) = check.topic_report()
    assert topic["refused"] == {
        "type": "a: a is a boolean, and 21.5 is a number; run `hub metric retype pump a string`"
    }
    assert [reading["metric"] for reading in topic["readings"]] == ["b"]  # type: ignore[attr-defined]


async def test_the_rules_that_decided_are_reported() -> None:
    """A local time names the zone."""
    check = check_of(OBJECTS)
    payload = b'{"time": "2026-11-28 16:05:42", "a": 1}'
    await check.add(Message("s/pump/x", payload, received_ns=at("2026-11-28T16:05:43Z")))
    (rule,) = check.rules()
    assert rule == {
        "decoder": "s/{device}/#",
        "sentence": "1 time without an offset: read in the zone UTC",
        "setting": 'zone = "UTC"',
    }


async def test_the_shapes_of_a_topic_are_bounded() -> None:
    """Messages of further shapes count, and their newest readings are shown."""
    check = check_of(OBJECTS)
    for number in range(3 * MAX_SHAPES):
        await check.add(Message("s/pump/x", b'{"m%d": 1}' % number))
    (topic,) = check.topic_report()
    assert (topic["messages"], len(topic["shapes"])) == (3 * MAX_SHAPES, MAX_SHAPES)  # type: ignore[arg-type]
    assert len(topic["readings"]) == 3 * MAX_SHAPES  # type: ignore[arg-type]


async def test_topics_and_series_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Beyond the bounds messages are counted, and series that are known already stay up to date."""
    monkeypatch.setattr(module, "MAX_TOPICS", 2)
    monkeypatch.setattr(module, "MAX_SERIES", 3)
    check = check_of(OBJECTS)
    for device in "abc":
        await check.add(Message(f"s/{device}/x", b'{"m": 1, "n": 1}'))
    await check.add(Message("s/a/x", b'{"m": 2, "n": 2}'))
    assert check.messages_beyond_bound == 1
    report = check.topic_report()
    assert [topic["topic"] for topic in report] == ["s/a/x", "s/b/x"]
    assert [[r["value"] for r in topic["readings"]] for topic in report] == [[2.0, 2.0], [1.0]]  # type: ignore[attr-defined]


def test_a_template_that_would_return_is_shown_with_a_common_topic() -> None:
    """For each subscription that would receive it."""
    check = check_of(VALUES, OBJECTS)
    loops = check.loops(["s/{device}/{metric}", "hub/{device}/{metric}"])
    assert [(loop["publish"], loop["subscribe"]) for loop in loops] == [
        ("s/{device}/{metric}", "s/{device}/{metric}"), ("s/{device}/{metric}", "s/{device}/#")
    ]  # fmt: skip
    assert all(loop["topic"].startswith("s/") for loop in loops)


def test_a_group_is_not_used_for_a_trial() -> None:
    """A shared subscription would take messages away from the hubs of the group."""
    assert check_of(VALUES, share="hubs").filters == ["s/+/+"]


async def test_a_trial_listens_to_a_real_broker(mosquitto_program: Path, tmp_path: Path) -> None:
    """Overlapping subscriptions count a message once; the broker's own version is reported and is no message."""
    with Mosquitto(mosquitto_program, tmp_path / "broker") as broker:
        async with connected(broker.port) as client, connected(broker.port) as other:
            await client.subscribe("s/#")
            other.connection.publish(Publish("s/pump/flow", b"1", 1, retain=True))
            await client.got(1)
        check = check_of(VALUES, OBJECTS, port=broker.port)
        await check.run(1.0)
        assert check.version == "5"
        assert check.broker.startswith("mosquitto")
        (topic,) = check.topic_report()
        assert topic["topic"] == "s/pump/flow"
        assert (check.messages, topic["messages"], topic["retained"]) == (1, 1, 1)
        assert BROKER_VERSION not in check.topics


def accept(_: ReceivedPublish) -> int:
    return 0


@pytest.mark.parametrize(("version", "name"), [(5, "5"), (4, "3.1.1")])
async def test_a_trial_uses_the_version_of_the_broker(version: int, name: str) -> None:
    """Refused filters are reported; that the broker refuses its own version topic does not matter."""
    async with small_broker(accept, version=version, refused=["s/+/#", BROKER_VERSION]) as broker:
        check = check_of(VALUES, OBJECTS, port=broker.port)
        await check.run(0.3)
        assert (check.version, check.refused_filters) == (name, ["s/+/#"])


async def test_a_trial_that_cannot_connect_or_is_cut_off_says_so() -> None:
    """Nothing listens on the port, or the broker ends the connection."""
    with pytest.raises(BrokerError):
        await check_of(VALUES, port=1).run(1.0)
    async with small_broker(accept) as broker:
        check = check_of(VALUES, port=broker.port)
        listening = asyncio.create_task(check.run(30.0))
        await until(lambda: broker.flags)
        broker.drop()
        with pytest.raises(BrokerError):
            await listening
